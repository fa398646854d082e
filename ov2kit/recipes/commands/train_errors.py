"""What the parser of a training command says of a wrong option, in one line."""

import difflib
import re

from jsonargparse import ArgumentError, ArgumentParser


def explained(error: ArgumentError, command: str, parser: ArgumentParser) -> str:
    """The parser's message on one line, with the key that was probably meant.

    Args:
        error: what the parser raised.
        command: that it parsed.
        parser: of the command.
    """
    text = " ".join(str(error.message).split())
    text = re.sub(rf"\b{command}\.([\w.]+)", r"--\1", text)
    # the three ways in which the parser says it, for files, flags and subcommands
    unknown = (
        r"ey ['\"]([\w.]+)['\"] is not expected",
        r"nrecognized arguments: --([\w.]+)",
        r"not accept option ['\"]([\w.]+)",
    )
    wrong = re.search("|".join(unknown), text)
    if not wrong:
        return text.replace("typing.", "")
    key = wrong[1] or wrong[2] or wrong[3]
    known = [action.dest for action in parser._actions if action.dest and not action.dest.startswith("help")]
    close = difflib.get_close_matches(key, known, 1, cutoff=0.5)
    return f"unknown option {key!r}" + (f"; did you mean {close[0]!r}?" if close else "; see --help")
