"""The command line: find the command, parse, run, and turn every expected failure into one line.

A command is a module with `parser()` and `run(parsed)`, which returns the exit status. It is imported only
when it is asked for, so that `ov2kit --help` is quick and needs no extra.
"""

import difflib
import importlib
import logging
import re
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from jsonargparse import ArgumentError, get_loader

from ov2kit.errors import OptionError, Ov2kitError, check_choice, needs_extra, print_error, shorten
from ov2kit.files import check_file, kind_of

#: command -> (module, what it does)
COMMANDS = {
    "tokenize": ("ov2kit.codec.commands.tokenize", "videos -> directories of codec canvases"),
    "dataset": ("ov2kit.recipes.commands.dataset", "any number of videos -> shards of canvases and a manifest"),
    "report": ("ov2kit.codec.commands.report", "a video -> one web page that shows what was chosen"),
    "demo": ("ov2kit.recipes.commands.demo", "all of it on the bundled clip, in a few minutes"),
    "doctor": ("ov2kit.doctor", "what works on this machine"),
    "fit": ("ov2kit.recipes.commands.fit", "train a model, or continue a run"),
    "validate": ("ov2kit.recipes.commands.validate", "loss and answers on the validation data"),
    "test": ("ov2kit.recipes.commands.test", "the same on the test data"),
    "predict": ("ov2kit.recipes.commands.predict", "answers as JSON lines"),
    "generate": ("ov2kit.recipes.commands.generate", "a question about a video -> an answer"),
    "watch": ("ov2kit.recipes.commands.watch", "a stream that has not ended -> answers as it goes on"),
    "convert": ("ov2kit.recipes.commands.convert", "checkpoints from one format into another"),
    "evaluate": ("ov2kit.recipes.commands.evaluate", "a model and a folder of questions -> scores"),
    "compare": ("ov2kit.recipes.commands.compare", "two prediction files -> a paired test"),
    "jumpset": ("ov2kit.recipes.commands.jumpset", "make a JumpScore-like set of clips with exact answers"),
    "eventset": ("ov2kit.recipes.commands.eventset", "make clips with small events and what they cover"),
    "ablate": ("ov2kit.recipes.commands.ablate", "compare token sources, groupings, positions, ... on such a set"),
    "track": ("ov2kit.recipes.commands.track", "an expression and a video -> points, masks and scores"),
}
#: options that name a file or folder in every command that has them
_PATHS = (
    "--config", "--out", "--ckpt_path", "--predictions", "--model", "--model.start", "--data", "--data.sources.path",
)  # fmt: skip
#: types as the parser names them, in words
_KINDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null",
    "list": "a list", "dict": "a mapping",
}  # fmt: skip
_TYPE = r"<class '[\w.]+'>|[\w.]+\[(?:[^\[\]]|\[[^\[\]]*\])*\]"
_OF_A_TYPE = re.compile(rf"Expected a (?P<types>{_TYPE})\. Got value: (?P<value>.*)", re.DOTALL)
_OF_A_MAPPING = re.compile(r"(?P<name>--[\w.]+).*NestedArg\(key='(?P<key>[\w.]+)', val=(?P<value>.*)\)", re.DOTALL)
_OF_A_UNION = re.compile(
    r"Does not validate against any of the Union subtypes\s+Subtypes: \[(?P<types>.*?)\]\s+Errors:.*"
    r"Given value: (?P<value>.*)",
    re.DOTALL,
)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        Exit status: 0, 2 for bad input (one line ``error: ...`` on stderr), 130 when interrupted.
    """
    logging.getLogger("torch.utils._pytree").addFilter(_is_for_users)
    words, traceback = _words(list(arguments))
    if not words or words[0] in ("-h", "--help", "--version"):
        print(_version() if words[:1] == ["--version"] else _help())
        return 0 if words else 2
    try:
        name = check_choice("command", words[0], COMMANDS)
        with needs_extra(f"'ov2kit {name}'"):
            command = importlib.import_module(COMMANDS[name][0])
            parser = command.parser()
            parser.prog = f"ov2kit {name}"
            _check_paths(words)
            parsed = _parsed(parser, words[1:])
            parsed.traceback = traceback
            status: int = command.run(parsed)
            return status
    except (Ov2kitError, ArgumentError, ValueError) as error:
        return print_error(error, _plain(str(error)), traceback=traceback)
    except OSError as error:
        return print_error(error, f"{error.filename or 'output'}: {error.strerror or error}", traceback=traceback)
    except SystemExit as end:  # a parser's way to end after --help
        if end.code:
            raise
        return 0
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
        return 130


def _is_for_users(record: logging.LogRecord) -> bool:
    """Not what torch says of torchao's code, which transformers imports where it is installed."""
    return "register_constant" not in str(record.msg)


def _words(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without --traceback, with options in one spelling, and whether --traceback was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [_underscored(word) for word in arguments[:end] if word != "--traceback"]
    return [*words, *arguments[end:]], len(words) < end


def _underscored(word: str) -> str:
    """Options are spelled with underscores, as the arguments in Python; with dashes they are the same."""
    option, equals, value = word.partition("=")
    return f"--{option[2:].replace('-', '_')}{equals}{value}" if option.startswith("--") else word


def _check_paths(words: Sequence[str]) -> None:
    """A --config that is no YAML file: the parser would wait forever for a pipe; and what stands for no path at all."""
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        path = value if equals else "".join(words[place + 1 : place + 2])
        if option in _PATHS and not path and (equals or place + 1 < len(words)):
            raise OptionError(f"{option}: expected a path, got ''")
        if place and not word and not words[place - 1].startswith("--"):
            raise OptionError(f"{words[0]}: expected a path, got ''")
        if option == "--config" and kind_of(path) is not None:
            _check_yaml(path)


def _check_yaml(path: str) -> None:
    try:
        found = get_loader("yaml")(check_file(path, "a YAML file").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        where = str(error).replace('"<unicode string>", ', "")
        raise OptionError(f"{path}: not a YAML file that can be read ({where})") from error
    if found is not None and not isinstance(found, dict):
        raise OptionError(f"{path}: expected a YAML file with a mapping at its top, got {shorten(found)}")


def _parsed(parser: Any, words: Sequence[str]) -> Any:
    """The options of a command; errors name them as they are typed."""
    try:
        return parser.parse_args(list(words))
    except ArgumentError as error:
        typed = {
            action.dest: f"--{action.dest}" if action.option_strings else action.metavar or action.dest
            for action in getattr(parser, "_actions", [])
        }
        text = re.sub(
            r'Parser key "([\w.]+)"|(?<=required: )[\w., ]+',
            lambda found: ", ".join(typed.get(name, f"--{name}") for name in (found[1] or found[0]).split(", ")),
            str(error),
        )
        if unknown := re.search(r"unrecognized arguments: --([\w.]+)", text):
            near = difflib.get_close_matches(unknown[1], typed, 1, cutoff=0.7)
            text = f"unknown option --{unknown[1]}; " + (f"did you mean {typed[near[0]]}?" if near else "see --help")
        raise OptionError(text) from error


def _plain(text: str) -> str:
    """What the parser says of an option, in words: it names types as Python does. All other messages as they are."""
    text = re.sub(r'Parser key "([\w.]+)"', r"--\1", text)
    if inner := _OF_A_MAPPING.search(text):
        return f"{inner['name']}.{inner['key']}: not a value that {inner['name']} may hold, got {inner['value']}"
    found = _OF_A_UNION.search(text) or _OF_A_TYPE.search(text)
    if found is None:
        return text
    words = sorted((_kind(each) for each in re.findall(_TYPE, found["types"])), key=lambda word: word == "null")
    return f"{text[: found.start()]}expected {' or '.join(words)}, got {shorten(found['value'].strip())}"


def _kind(name: str) -> str:
    """ "<class 'int'>" -> "a whole number"."""
    if name.removeprefix("typing.").startswith("Literal["):
        return f"one of {name.partition('[')[2].rstrip(']')}"
    if name.startswith("tuple["):
        return name.removeprefix("tuple")
    plain = name.removeprefix("<class '").removesuffix("'>").partition("[")[0]
    return _KINDS.get(plain, plain.rpartition(".")[2])


def _help() -> str:
    lines = [f"  {name:<12}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([
        "usage: ov2kit COMMAND [OPTIONS]", "",
        "Video understanding that starts from the compressed stream.", "",
        "commands:", *lines, "",
        "options:",
        "  -h, --help  of ov2kit, or of the command before it",
        "  --version   print the version",
        "  --traceback show where an error came from; at any place on the line",
    ])  # fmt: skip


def _version() -> str:
    from ov2kit import __version__

    return f"ov2kit {__version__}"
