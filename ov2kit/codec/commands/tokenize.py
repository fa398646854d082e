"""`ov2kit tokenize`: videos -> directories of codec canvases."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from ov2kit.canvases import Canvases
from ov2kit.codec.assets.saving import save_assets
from ov2kit.codec.assets.training_lines import Talk, bare_talk, read_talks, time_error, training_line
from ov2kit.codec.commands.options import add_tokenizer_options, tokenizer_of
from ov2kit.codec.commands.progress import tokenized
from ov2kit.codec.provenance.provenance import Provenance
from ov2kit.errors import OptionError, OutputError, Ov2kitError, print_error
from ov2kit.files import refuse_overwriting_inputs, safe_name, write_text

_FORMATS = ("png", "npy", "jpg", "safetensors")
TRAIN = "train.jsonl"


def parser() -> ArgumentParser:
    """Options of `ov2kit tokenize`."""
    command = ArgumentParser(description="Turn videos into directories of codec canvases.", exit_on_error=False)
    command.add_argument("videos", nargs="+", metavar="VIDEO", help="video files")
    command.add_argument("--out", required=True, metavar="DIR", help="one directory per video is made in here")
    command.add_argument(
        "--format", default="png", choices=_FORMATS, help="png and npy are lossless; safetensors is our own format"
    )
    command.add_argument(
        "--jsonl",
        nargs="?",
        const="",
        type=str | None,
        metavar="FILE",
        help=f"also write {TRAIN} for the release's trainer: the conversations about these videos in FILE, or the "
        "videos alone; see docs/assets.md",
    )
    command.add_argument("--decimals", default=1, type=int, help="digits of the time stamps that --jsonl asks for")
    command.add_argument("--overwrite", action="store_true", help="replace directories that exist")
    command.add_argument("--json", action="store_true", help="print one JSON summary per video instead of text")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    add_tokenizer_options(command)
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit tokenize`: every video is tried, whatever happens to the others."""
    tokenizer = tokenizer_of(parsed)
    folder = Path(parsed.out)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: expected a directory for the results, got a file")
    talks = _talks(parsed, folder)
    made: dict[Path, Path] = {}
    status = 0
    for video, name in zip(parsed.videos, _names(parsed.videos), strict=True):
        target = folder / name
        try:
            _check_target(target, video, parsed)
            canvases = tokenized(tokenizer, video, parsed.quiet)
            save(canvases, target, parsed.format, parsed.overwrite, full=parsed.jsonl is not None)
            made[Path(video).resolve()] = target
            print(summary(video, target, canvases, as_json=parsed.json), flush=True)
        except Ov2kitError as error:
            status = print_error(error, traceback=parsed.traceback)
        except Exception as error:  # whatever one file does to a library, the other videos are still worth doing
            message = f"{video}: {type(error).__name__}: {error}"
            status = print_error(error, message, traceback=parsed.traceback)
    if parsed.jsonl is not None:
        _write_lines(talks, made, folder, parsed.decimals)
    return status


def _talks(parsed: Namespace, folder: Path) -> list[Talk]:
    """What --jsonl is to hold, read before any video is.

    Raises:
        DataError: a conversation has another form.
        OptionError: the trainer reads no such pictures.
        OutputError: the lines are there already.
    """
    if parsed.jsonl is None:
        return []
    if parsed.format not in ("png", "jpg"):
        raise OptionError(f"--jsonl needs --format png or jpg, which the trainer reads, got {parsed.format}")
    if parsed.decimals not in range(10):
        raise OptionError(f"--decimals must be from 0 to 9, got {parsed.decimals}")
    if (folder / TRAIN).exists() and not parsed.overwrite:
        raise OutputError(f"{folder / TRAIN}: exists already; pass --overwrite to replace it")
    refuse_overwriting_inputs(folder / TRAIN, [parsed.jsonl] if parsed.jsonl else [])
    if not parsed.jsonl:
        return [bare_talk(video) for video in parsed.videos]
    known = {Path(video).resolve() for video in parsed.videos}
    talks = read_talks(parsed.jsonl)
    if others := sum(talk.video not in known for talk in talks):
        print(f"warning: {parsed.jsonl}: {others} of {len(talks)} conversations are of other videos", file=sys.stderr)
    return talks


def _write_lines(talks: Sequence[Talk], made: dict[Path, Path], folder: Path, decimals: int) -> None:
    """The lines of the videos that were made, in the order of the conversations."""
    for target in made.values():
        if (error := time_error(target)) >= 0.5 * 10.0**-decimals:
            said = f"the trainer's time stamps, index / fps, are off by up to {error:g} s"
            print(f"warning: {target}: {said}", file=sys.stderr)
    lines = [training_line(talk, made[talk.video], folder, decimals) for talk in talks if talk.video in made]
    if lines:
        write_text(folder / TRAIN, "".join(lines))
    print(f"{len(lines)} conversations -> {folder / TRAIN}" if lines else "no conversation to write", file=sys.stderr)


def _check_target(target: Path, video: str, parsed: Namespace) -> None:
    """Refuse to replace what was not asked for.

    Raises:
        OutputError: the directory exists, or is of another video, or an input lies there.
    """
    if target.exists() and not parsed.overwrite:
        raise OutputError(f"{target}: exists already; pass --overwrite to replace it")
    if target.exists() and target.name != safe_name(Path(video).stem) and _made_of(target) != video:
        raise OutputError(f"{target}: is of another video, and a made-up name for {video}; choose another --out")
    refuse_overwriting_inputs(target, parsed.videos)


def _names(videos: Sequence[str]) -> list[str]:
    """A directory name per video: its stem, numbered where two are equal, and never the name of another one."""
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


def _made_of(folder: Path) -> str | None:
    """The video that a directory of canvases says it was made of."""
    try:
        if (folder / "meta.json").is_file():
            facts = json.loads((folder / "meta.json").read_bytes())
        else:
            from safetensors import safe_open

            with safe_open(folder / "canvases.safetensors", "pt") as file:
                facts = json.loads(file.metadata()["ov2kit"])
        source = Provenance.from_dict(facts["provenance"]).source
    except Exception:  # whatever lies there, it does not say
        return None
    return None if source is None else source.name


def save(canvases: Canvases, target: Path, kind: str, overwrite: bool, *, full: bool = False) -> None:
    """Write canvases in one of the formats of `ov2kit tokenize`; `full` leaves out partly padded ones."""
    if kind == "safetensors":
        canvases.save(target)
    else:
        padded: Literal["keep", "drop"] = "drop" if full else "keep"
        save_assets(canvases, target, kind, partly_padded=padded, overwrite=overwrite)  # type: ignore[arg-type] # one of _FORMATS


def summary(video: str, target: Path, canvases: Canvases, *, as_json: bool) -> str:
    """What was made of a video, as one line of text or of JSON."""
    made = Provenance.of(canvases)
    seconds = dict(made.seconds or {})
    facts = {
        "video": video,
        "out": str(target),
        "canvases": len(canvases),
        "tokens": canvases.num_tokens,
        "canvas_size": list(canvases.images.shape[2:]),
        "groups": len(canvases.segments().lengths),
        "preset": made.preset,
        "signal": canvases.signal,
        "codec": made.codec,
        "lost": None if made.lost is None else asdict(made.lost),
        "seconds": seconds,
    }
    if as_json:
        return json.dumps(facts)
    height, width = canvases.images.shape[2:]
    return (
        f"{video}: {len(canvases)} canvases of {width}x{height} in {facts['groups']} groups, "
        f"{canvases.num_tokens} tokens, {made.codec} by {canvases.signal}, {sum(seconds.values()):.2f} s -> {target}"
    )
