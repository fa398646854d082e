"""Which errors are of one video, and count as a wrong answer; all others end an evaluation."""

import os
from pathlib import Path

from ov2kit.errors import AssetError, BudgetError, CanvasError, DataError, VideoError

#: what is raised of one video; all else is a fault of the caller, the machine or the program
OF_THE_VIDEO = (VideoError, AssetError, CanvasError, BudgetError, DataError)


def one_line(error: Exception) -> str:
    """The message as one line, or the kind of error where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def is_about(error: OSError, path: Path | None) -> bool:
    """Whether an error of the system is about a video: its file, or one in its directory."""
    if path is None or not isinstance(error.filename, str | bytes | os.PathLike):
        return False
    named = Path(os.fsdecode(error.filename)).absolute()
    return named == path.absolute() or path.absolute() in named.parents
