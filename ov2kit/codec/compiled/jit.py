"""Whether kernels are used, and how they are compiled."""

import os
import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar, cast

_Kernel = TypeVar("_Kernel", bound=Callable[..., object])
_SWITCH = "OV2KIT_COMPILED"
_OLDEST = 0, 65  # that the kernels are tested with


def uses_kernels() -> bool:
    """Whether numba is there, 0.65 or newer, and the environment variable ``OV2KIT_COMPILED`` is not 0."""
    return os.environ.get(_SWITCH, "1") != "0" and _has_numba()


@lru_cache(1)
def _has_numba() -> bool:
    try:
        import numba
    except ModuleNotFoundError:
        return False
    except (ImportError, OSError) as error:  # it is there, but does not go with this numpy, or its library is broken
        warnings.warn(
            f"numba cannot be used, so tokenizing goes on without it: {error}. "
            f"Install a version that fits, or set {_SWITCH}=0",
            stacklevel=2,
        )
        return False
    version = re.match(r"(\d+)\.(\d+)", numba.__version__)  # builds of no release have none
    return version is not None and (int(version[1]), int(version[2])) >= _OLDEST


def kernel(function: _Kernel) -> _Kernel:
    """Compile a function on its first call with arguments of given types; what is compiled is kept on disk.

    It runs without Python's lock, and divides as numpy does. What it calls stands in the same file, even if that is
    written twice: what is kept on disk is compiled again where that file has changed, and no other.
    """
    from numba import njit

    try:
        return cast(_Kernel, njit(nogil=True, error_model="numpy", cache=True)(function))
    except RuntimeError:  # no folder that it may be kept in
        return cast(_Kernel, njit(nogil=True, error_model="numpy")(function))
