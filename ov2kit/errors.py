"""Every error a user of ov2kit can meet.

Each message says what was expected, what came and what to do next. The command line prints any
`Ov2kitError` as one line and exits with status 2.
"""


class Ov2kitError(Exception):
    """Base of all errors raised on purpose by ov2kit."""


class VideoError(Ov2kitError, ValueError):
    """A video cannot be opened, has no usable picture stream, or yields no frame."""


class AssetError(Ov2kitError, ValueError):
    """A directory of canvases is incomplete, inconsistent or in an unknown layout."""


class CanvasError(Ov2kitError, ValueError):
    """A `Canvases` object breaks its contract."""


class BudgetError(Ov2kitError, ValueError):
    """A token or canvas budget cannot be met by any result."""


class CheckpointError(Ov2kitError, ValueError):
    """A model, tokenizer or checkpoint is incomplete, unreadable, or does not fit."""


class DataError(Ov2kitError, ValueError):
    """Conversations, annotations, predictions or other data are missing, malformed or do not belong together."""


class OutputError(Ov2kitError, OSError):
    """A file or folder cannot be written: the disk is full, the place is taken, or an input lies there."""


class MissingExtraError(Ov2kitError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class DamagedVideoWarning(UserWarning):
    """A video was damaged or cut short; the message counts what was lost."""


def shorten(value: object, limit: int = 80) -> str:
    """`repr` of a value for a message, cut in the middle where it is long."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 24]}...{text[-8:]} ({len(text)} characters)"
