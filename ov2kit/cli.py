"""The command line: parse, run one command, turn every expected failure into one line.

Commands of the codec are functions of this file. Those of the recipes are modules with `parser()` and
`run(parsed)`, imported only when they are asked for, so that `ov2kit --help` is quick and needs no extra.
"""

import importlib
import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ov2kit.errors import DamagedVideoWarning, Ov2kitError
from ov2kit.files import check_file, kind_of, refuse_overwriting_inputs, safe_name

SAMPLE = Path(__file__).parent / "codec" / "sample" / "bbb_360p.mp4"
TRAINING = {
    "fit": "train a model, or go on with a run",
    "validate": "loss and answers on the validation data",
    "test": "the same on the test data",
    "predict": "answers as JSON lines",
}
_FORMATS = ("png", "npy", "jpg", "safetensors")
#: command -> (module with `parser()` and `run(parsed)`, what it does)
_RECIPES = {
    "generate": ("ov2kit.recipes.commands.generate", "a question about a video -> an answer"),
    "convert": ("ov2kit.recipes.commands.convert", "checkpoints from one format into another"),
    "evaluate": ("ov2kit.recipes.commands.evaluate", "a model and a folder of questions -> scores"),
    "compare": ("ov2kit.recipes.commands.compare", "two prediction files -> a paired test"),
    "jumpset": ("ov2kit.recipes.commands.jumpset", "make a JumpScore-like set of clips with exact answers"),
    "ablate": ("ov2kit.recipes.commands.ablate", "compare token sources, groupings, positions, ... on such a set"),
    "track": ("ov2kit.recipes.commands.track", "an expression and a video -> points, masks and scores"),
}
_EXTRAS = {"transformers", "tokenizers", "lightning", "torchmetrics", "matplotlib", "pycocotools"}


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        Exit status: 0, 2 for bad input (one line ``error: ...`` on stderr), 130 when interrupted.
    """
    if arguments and arguments[0] in TRAINING:
        return _training(arguments)
    commands: dict[str, Callable[[Namespace], int]] = {
        "tokenize": _tokenize,
        "report": _report,
        "demo": _demo,
        "doctor": _doctor,
    }
    if pipe := _pipe_for_config(arguments):
        return _fail(pipe)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), "")
    try:
        parsed = _parser(chosen).parse_args(list(arguments))
        if parsed.command in _RECIPES:
            status: int = importlib.import_module(_RECIPES[parsed.command][0]).run(parsed[parsed.command])
            return status
        return commands[parsed.command](parsed[parsed.command])
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRAS:
            raise
        return _fail(
            f"'ov2kit {chosen}' needs {error.name}, which is not installed; run: pip install 'ov2kit[recipes]'"
        )
    except ArgumentError as error:
        return _fail(_plain(error))
    except (Ov2kitError, ValueError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        return 130


def _training(arguments: Sequence[str]) -> int:
    """fit, validate, test, predict: LightningCLI parses what follows them, unless it is --help alone."""
    from ov2kit.recipes.commands.train_help import short_help

    if {"-h", "--help"} & set(arguments):
        print(short_help(arguments[0]))
        return 0
    try:
        from ov2kit.recipes.commands.train import run as run_recipe
    except ModuleNotFoundError as error:
        return _fail(f"{arguments[0]} needs {error.name}, which is not installed; run: pip install 'ov2kit[recipes]'")
    return run_recipe(arguments)


def _plain(error: ArgumentError) -> str:
    """The parser's message on one line, with arguments as they are typed."""
    text = " ".join(str(error).split())
    text = re.sub(r"\b(tokenize|report)\.videos?\b", "VIDEO", text)
    text = re.sub(r"\bcompare\.([ab])\b", lambda name: name[1].upper(), text)
    text = re.sub(r"\bconvert\.(source|target)\b", lambda name: name[1].upper(), text)
    known = "|".join(["tokenize", "report", "demo", "doctor", *_RECIPES])
    return re.sub(rf"(?<![\w.-])({known})\.(\w+)", r"--\2", text)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _parser(chosen: str) -> ArgumentParser:
    """The whole command line; of the recipes' commands only `chosen` has its options."""
    from ov2kit.codec.tokenizers.codec import CodecTokenizer

    parser = ArgumentParser(
        prog="ov2kit",
        description="Video understanding that starts from the compressed stream.",
        exit_on_error=False,
        version=_version(),
    )
    commands = parser.add_subcommands(dest="command", required=True)

    tokenize = ArgumentParser(description="Turn videos into directories of codec canvases.", exit_on_error=False)
    tokenize.add_argument("videos", nargs="+", metavar="VIDEO", help="video files")
    tokenize.add_argument("--out", required=True, metavar="DIR", help="one directory per video is made in here")
    tokenize.add_argument("--format", default="png", choices=_FORMATS, help="png and npy lose nothing; safetensors is")
    tokenize.add_argument("--overwrite", action="store_true", help="replace directories that exist")
    tokenize.add_argument("--json", action="store_true", help="print one JSON summary per video instead of text")
    tokenize.add_argument("--quiet", action="store_true", help="no progress bar")

    report = ArgumentParser(description="Show how a video was tokenized, as one web page.", exit_on_error=False)
    report.add_argument("video", metavar="VIDEO", help="video file")
    report.add_argument("--out", default="report.html", metavar="FILE", help="page to write")
    report.add_argument("--quiet", action="store_true", help="no progress bar")

    for command in (tokenize, report):
        command.add_argument("--config", action="config", help="YAML file of the options below")
        command.add_class_arguments(CodecTokenizer)

    demo = ArgumentParser(
        description="Tokenize the bundled clip, draw its report, fit a tiny model on it and ask it.",
        exit_on_error=False,
    )
    demo.add_argument("--out", default="demo_out", metavar="DIR", help="where the results go")

    doctor = ArgumentParser(
        description="Versions, extras, codecs and their signals on this machine.", exit_on_error=False
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")

    commands.add_subcommand("tokenize", tokenize, help="videos -> directories of codec canvases")
    commands.add_subcommand("report", report, help="a video -> one web page that shows what was chosen")
    commands.add_subcommand("demo", demo, help="all of it on the bundled clip, in a few minutes")
    commands.add_subcommand("doctor", doctor, help="what works on this machine")
    for name, (module, what) in _RECIPES.items():
        command = importlib.import_module(module).parser() if name == chosen else ArgumentParser(exit_on_error=False)
        commands.add_subcommand(name, command, help=what)
    for name, description in TRAINING.items():  # shown in the help; `run` hands them on before parsing
        commands.add_subcommand(name, ArgumentParser(exit_on_error=False), help=description)
    return parser


def _version() -> str:
    from ov2kit import __version__

    return __version__


def _tokenizer(parsed: Namespace) -> Any:
    """A CodecTokenizer from the options that are its own."""
    from ov2kit.codec.tokenizers.codec import CodecTokenizer

    parser = ArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(CodecTokenizer)
    options = {name: value for name, value in parsed.items(branches=True) if name in names}
    return CodecTokenizer(**parser.instantiate(parser.parse_object(options)).as_dict())


def _canvases(tokenizer: Any, video: str, quiet: bool) -> Any:
    """Tokenize with a progress bar on stderr; what was lost is one line there too."""
    from tqdm import tqdm

    with (
        warnings.catch_warnings(record=True) as caught,
        tqdm(desc=Path(video).name, unit=" frames", disable=quiet or None, leave=False, file=sys.stderr) as bar,
    ):
        warnings.simplefilter("always", DamagedVideoWarning)

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        canvases = tokenizer(video, progress=progress)
    for warning in caught:
        if issubclass(warning.category, DamagedVideoWarning):
            print(f"warning: {warning.message}", file=sys.stderr)
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return canvases


def _tokenize(parsed: Namespace) -> int:
    tokenizer = _tokenizer(parsed)
    folder = Path(parsed.out)
    if folder.exists() and not folder.is_dir():
        return _fail(f"{folder}: expected a directory for the results, got a file")
    status = 0
    for video, name in zip(parsed.videos, _names(parsed.videos), strict=True):
        target = folder / name
        try:
            if target.exists() and not parsed.overwrite:
                status = _fail(f"{target}: exists already; pass --overwrite to replace it")
                continue
            if target.exists() and name != safe_name(Path(video).stem) and _made_of(target) != video:
                status = _fail(f"{target}: is of another video, and a made-up name for {video}; choose another --out")
                continue
            refuse_overwriting_inputs(target, parsed.videos)
            canvases = _canvases(tokenizer, video, parsed.quiet)
            _save(canvases, target, parsed.format, parsed.overwrite)
            print(_summary(video, target, canvases, as_json=parsed.json), flush=True)
        except Ov2kitError as error:  # the other videos are still worth doing
            status = _fail(str(error))
        except Exception as error:  # and so they are whatever one file does to a library
            status = _fail(f"{video}: {type(error).__name__}: {' '.join(str(error).split())}")
    return status


def _names(videos: Sequence[str]) -> list[str]:
    """A directory name per video: its stem, numbered where two are the same and never as another one is called."""
    stems = [safe_name(Path(video).stem) for video in videos]
    real, given = {stem.casefold() for stem in stems}, set[str]()
    names = []
    for stem in stems:
        name, number = stem, 1
        while name.casefold() in given or (number > 1 and name.casefold() in real):
            number += 1
            name = f"{stem}-{number}"
        given.add(name.casefold())
        names.append(name)
    return names


def _save(canvases: Any, target: Path, kind: str, overwrite: bool) -> None:
    from ov2kit.codec.assets.folder import save_assets

    if kind == "safetensors":
        canvases.save(target)
    else:
        save_assets(canvases, target, kind, overwrite=overwrite)  # type: ignore[arg-type] # one of _FORMATS


def _pipe_for_config(arguments: Sequence[str]) -> str | None:
    """What to say of a --config that is no file; the parser would open it, and wait for ever."""
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        path = value if equals else "".join(arguments[place + 1 : place + 2])
        if option == "--config" and kind_of(path) is not None:
            try:
                check_file(path, "a YAML file")
            except Ov2kitError as error:
                return str(error)
    return None


def _made_of(folder: Path) -> str | None:
    """The video that a directory of canvases says it was made of."""
    try:
        if (folder / "meta.json").is_file():
            facts = json.loads((folder / "meta.json").read_bytes())
        else:
            from safetensors import safe_open

            with safe_open(folder / "canvases.safetensors", "pt") as file:
                facts = json.loads(file.metadata()["ov2kit"])
        return str(facts["provenance"]["source"]["name"])
    except Exception:  # whatever lies there, it does not say
        return None


def _configs(parsed: Namespace) -> list[str]:
    """The files that --config named."""
    return [str(path) for path in parsed.get("config") or []]


def _summary(video: str, target: Path, canvases: Any, *, as_json: bool) -> str:
    made = canvases.provenance
    facts = {
        "video": video,
        "out": str(target),
        "canvases": len(canvases),
        "tokens": canvases.num_tokens,
        "canvas_size": list(canvases.images.shape[2:]),
        "groups": len(canvases.segments().lengths),
        "preset": made["preset"],
        "signal": canvases.signal,
        "codec": made["codec"],
        "lost": made["lost"],
        "seconds": made["seconds"],
    }
    if as_json:
        return json.dumps(facts)
    height, width = canvases.images.shape[2:]
    total = sum(made["seconds"].values())
    return (
        f"{video}: {len(canvases)} canvases of {width}x{height} in {facts['groups']} groups, "
        f"{canvases.num_tokens} tokens, {made['codec']} by {canvases.signal}, {total:.2f} s -> {target}"
    )


def _report(parsed: Namespace) -> int:
    from ov2kit.codec.report.page import write_report

    tokenizer = _tokenizer(parsed)
    refuse_overwriting_inputs(parsed.out, [parsed.video, *_configs(parsed)])  # before the work, not after
    canvases = _canvases(tokenizer, parsed.video, parsed.quiet)
    page = write_report(parsed.out, parsed.video, canvases)
    print(f"{parsed.video}: {len(canvases)} canvases, {canvases.num_tokens} tokens -> {page}")
    return 0


def _demo(parsed: Namespace) -> int:
    from ov2kit.codec.report.page import write_report
    from ov2kit.codec.tokenizers.codec import CodecTokenizer

    folder = Path(parsed.out)
    print(f"tokenizing {SAMPLE.name} (Big Buck Bunny, 640x360 H.264, 5.3 s) from its codec stream")
    canvases = _canvases(CodecTokenizer(budget_canvases=16), str(SAMPLE), quiet=False)
    _save(canvases, folder / "canvases", "png", overwrite=True)
    print(_summary(SAMPLE.name, folder / "canvases", canvases, as_json=False))
    print(f"  pixel_values {tuple(canvases.pixel_values().shape)}, positions {tuple(canvases.flat_positions().shape)}")
    page = write_report(folder / "report.html", SAMPLE, canvases)
    print(f"  open {page} in a browser to see what was chosen and why")
    try:
        from ov2kit.recipes.commands.demo import fit_and_ask
        from ov2kit.recipes.training.lit import LitLlavaOneVision2  # noqa: F401 # what the extra brings
    except ModuleNotFoundError as error:
        print(f"no model is trained: {error.name} is not installed; pip install 'ov2kit[recipes]'")
        return 0
    return fit_and_ask(folder, run)


def _doctor(parsed: Namespace) -> int:
    from ov2kit.doctor import examine, render

    findings = examine()
    print(json.dumps(findings, indent=2) if parsed.json else render(findings))
    return 0
