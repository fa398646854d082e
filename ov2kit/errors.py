"""Every error a user of ov2kit can meet, and the checks of options that raise them.

Each message says what was expected, what came and what to do next. The command line prints any
`Ov2kitError` as one line and exits with status 2.
"""

import difflib
import math
import numbers
import sys
import traceback as tracebacks
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

_T = TypeVar("_T")
#: package -> the extra that installs it
EXTRAS = {
    **dict.fromkeys(
        ("lightning", "torchmetrics", "transformers", "tokenizers", "matplotlib", "pycocotools"), "recipes"
    ),
    "numba": "fast",
    "xformers": "gpu",
    "peft": "peft",
    "bitsandbytes": "quantization",
    **dict.fromkeys(("pyarrow", "ray"), "scale"),
}


class Ov2kitError(Exception):
    """Base of all errors raised on purpose by ov2kit."""


class OptionError(Ov2kitError, ValueError):
    """An option is unknown, of a wrong type or out of range; the message names it as the caller does."""


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


class MissingExtraError(Ov2kitError, ModuleNotFoundError):
    """An optional package is needed; the message names the extra that installs it."""


class DamagedVideoWarning(UserWarning):
    """A video was damaged or cut short; the message counts what was lost."""


def deprecated(old: str, use: str, until: str) -> None:
    """Warn the caller of the function that calls this one that it used an old spelling.

    Args:
        old: the spelling that was used, as in "VideoStream.packets()".
        use: what to write instead.
        until: the version of ov2kit in which the old spelling is gone.
    """
    text = f"{old} is deprecated and will be removed in ov2kit {until}; use {use}"
    warnings.warn(text, DeprecationWarning, stacklevel=3)


@contextmanager
def needs_extra(what: str) -> Iterator[None]:
    """Turn the missing package of an extra into an error that names both.

    Args:
        what: needs it, as it begins the message.

    Raises:
        MissingExtraError: an import in here missed a package of `EXTRAS`.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise MissingExtraError(
            f"{what} needs {package}, which is not installed; run: pip install 'ov2kit[{EXTRAS[package]}]'",
            name=error.name,
        ) from error


def print_error(error: BaseException, message: str | None = None, *, traceback: bool = False) -> int:
    """Report an error on stderr in one line, below its traceback if that is asked for.

    Returns:
        2, the exit status of a command that failed.
    """
    if traceback:
        tracebacks.print_exception(error)
    text = " ".join((str(error) if message is None else message).split())
    print(f"error: {text}", file=sys.stderr)
    return 2


def shorten(value: object, limit: int = 80) -> str:
    """`repr` of a value for a message: one line, cut in the middle where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else f"{text[: limit - 24]}...{text[-8:]} ({len(text)} characters)"


def check_choice(
    name: str, value: _T, known: Iterable[Any], error: type[Ov2kitError] = OptionError, *, where: str = ""
) -> _T:
    """`value` if it is one of the strings that are known; the error lists them and names the nearest.

    Args:
        name: of the argument.
        value: what came.
        known: the strings.
        error: what to raise.
        where: begins the message, as in "message 3: ".
    """
    names = list(known)
    if not isinstance(value, str) or value not in names:
        raise error(f"{where}unknown {name} {shorten(value)}; {_known(value, names)}")
    return value


def check_keys(
    name: str,
    given: Mapping[str, Any],
    known: Iterable[Any],
    error: type[Ov2kitError] = OptionError,
    *,
    where: str = "",
) -> None:
    """Every key of a mapping must be known; `name` says what the mapping is, the rest as in `check_choice`."""
    names = list(known)
    check_type(name, given, Mapping, "a mapping", error=error)
    for key in given:
        if key not in names:
            raise error(f"{where}unknown key {shorten(key)} of {name}; {_known(key, names)}")


def _known(value: object, names: list[str]) -> str:
    near = difflib.get_close_matches(value, names, 1, 0.5) if isinstance(value, str) else []
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"known: {', '.join(each or repr(each) for each in names)}{meant}"


def check_number(
    name: str,
    value: _T,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    integer: bool = False,
    optional: bool = False,
    error: type[Ov2kitError] = OptionError,
) -> _T:
    """`value` if it is a finite number within its limits; True and False are no numbers.

    Args:
        name: of the argument.
        value: what came.
        low: least value, allowed itself.
        high: greatest value, allowed itself.
        above: limit that must be exceeded.
        below: limit that must not be reached.
        integer: only whole numbers.
        optional: None is allowed.
        error: what to raise.
    """
    if optional and value is None:
        return value
    kind, word = (numbers.Integral, "whole number") if integer else (numbers.Real, "number")
    limits = _limits(low, high, above, below)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise error(f"{name} must be a {word}{limits and f',{limits}'}, got {shorten(value)}")
    number: Any = value
    if not math.isfinite(number):
        raise error(f"{name} must be a finite number, got {value}")
    if (
        (low is not None and number < low)
        or (high is not None and number > high)
        or (above is not None and number <= above)
        or (below is not None and number >= below)
    ):
        raise error(f"{name} must be{limits}, got {shorten(value)}")
    return value


def _limits(low: float | None, high: float | None, above: float | None, below: float | None) -> str:
    words = []
    if low is not None and high is not None:
        words.append(f"from {low:g} to {high:g}")
    else:
        words += [f"at least {low:g}"] if low is not None else []
        words += [f"at most {high:g}"] if high is not None else []
    words += [f"above {above:g}"] if above is not None else []
    words += [f"below {below:g}"] if below is not None else []
    return f" {' and '.join(words)}" if words else ""


def check_numbers(
    name: str,
    value: Any,
    *,
    length: int | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    integer: bool = False,
    optional: bool = False,
    error: type[Ov2kitError] = OptionError,
) -> Any:
    """`value` if it is a sequence of numbers, each as `check_number` wants it.

    Args:
        name: of the argument.
        value: what came: a tuple, a list, an array.
        length: how many.
        low: of each number, as in `check_number`.
        high: of each number.
        above: of each number.
        below: of each number.
        integer: only whole numbers.
        optional: None is allowed.
        error: what to raise.
    """
    if optional and value is None:
        return value
    many = f"{length} numbers" if length is not None else "numbers"
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
        raise error(f"{name} must be a sequence of {many}, got {shorten(value)}")
    if length is not None and len(value) != length:
        raise error(f"{name} must be {many}, got {len(value)}: {shorten(value)}")
    each = value.tolist() if hasattr(value, "tolist") else value
    only_low = integer and high is None and above is None and below is None
    if only_low and all(type(n) is int for n in each) and (low is None or min(each, default=low) >= low):
        return value  # quick: there may be thousands of them in every forward
    for place, n in enumerate(each):
        check_number(f"{name}[{place}]", n, low=low, high=high, above=above, below=below, integer=integer, error=error)
    return value


def check_order(
    low_name: str, low: float | None, high_name: str, high: float | None, error: type[Ov2kitError] = OptionError
) -> None:
    """The one must not be greater than the other; None is no limit."""
    if low is not None and high is not None and low > high:
        raise error(f"{low_name} must not be greater than {high_name}, got {low_name}={low}, {high_name}={high}")


def check_divides(name: str, value: int, whole_name: str, whole: int, error: type[Ov2kitError] = OptionError) -> None:
    """Both must be whole numbers from 1 on, and the one must divide the other."""
    check_number(name, value, low=1, integer=True, error=error)
    check_number(whole_name, whole, low=1, integer=True, error=error)
    if whole % value:
        raise error(f"{name} must divide {whole_name}, got {name}={value}, {whole_name}={whole}")


def check_flag(name: str, value: _T, error: type[Ov2kitError] = OptionError) -> _T:
    """`value` if it is True or False."""
    if not isinstance(value, bool):
        raise error(f"{name} must be True or False, got {shorten(value)}")
    return value


def check_type(
    name: str, value: _T, kinds: Any, expected: str, *, optional: bool = False, error: type[Ov2kitError] = OptionError
) -> _T:
    """`value` if it is an instance of one of `kinds`, which `expected` says in words."""
    if not (optional and value is None) and not isinstance(value, kinds):
        raise error(f"{name} must be {expected}, got {shorten(value)}")
    return value


def check_layer(name: str, value: _T, *, optional: bool = False) -> _T:
    """`value` if it can be called to make a module, as classes and `functools.partial` can, but no module is."""
    kinds = () if isinstance(value, torch.nn.Module) else Callable
    return check_type(name, value, kinds, "a class or function that makes a module", optional=optional)


def factory_kwargs(device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Any]:
    """`device` and `dtype` as the keyword arguments that torch's modules and parameters take.

    Args:
        device: of new parameters; torch's default if None.
        dtype: of new parameters, a floating-point one; torch's default if None.
    """
    check_type("device", device, (torch.device, str), 'a torch.device or a name such as "cuda:0"', optional=True)
    check_type("dtype", dtype, torch.dtype, "a floating-point dtype such as torch.bfloat16", optional=True)
    if dtype is not None and not dtype.is_floating_point:
        raise OptionError(f"dtype must be a floating-point dtype such as torch.bfloat16, got {dtype}")
    try:
        return {"device": None if device is None else torch.device(device), "dtype": dtype}
    except RuntimeError as error:
        reason = str(error).split("\n")[0]
        raise OptionError(f"device must be one that torch knows, got {device!r}: {reason}") from None
