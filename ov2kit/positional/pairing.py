"""Which channels rotate together, and cosines and sines that know it.

Cosines and sines of "release" and "half" are the same numbers, so nothing but a mark can show a
rotation that is applied as it was not made. The mark is the type of the tensor.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ov2kit.errors import OptionError, check_choice

Pairing = Literal["release", "interleaved", "half"]
PAIRINGS: tuple[Pairing, ...] = ("release", "interleaved", "half")
#: what new modules use; released weights need "release"
EXACT: Pairing = "interleaved"


class RotationTensor(Tensor):
    """Cosines or sines of a rotation, made for one pairing: an ordinary tensor that remembers it.

    Whatever moves, casts, selects or repeats tokens keeps the mark, arithmetic drops it.
    """

    #: what the numbers were made for
    pairing: ClassVar[Pairing]

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **(kwargs or {}))
        if torch.compiler.is_compiling():  # which cannot mark what comes out; the input has been checked
            return out
        source = args[0] if args else None
        if func in _KEEPING and isinstance(source, RotationTensor) and isinstance(out, Tensor):
            return out.as_subclass(type(source))
        return out

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = copy.deepcopy(self.as_subclass(Tensor), memo).as_subclass(type(self))
        return copied


class _Release(RotationTensor):
    pairing = "release"


class _Interleaved(RotationTensor):
    pairing = "interleaved"


class _Half(RotationTensor):
    pairing = "half"


_MARKED: dict[Pairing, type[RotationTensor]] = {"release": _Release, "interleaved": _Interleaved, "half": _Half}
_KEEPING = {
    *(Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.pin_memory, Tensor.type, Tensor.float, Tensor.double),
    *(Tensor.half, Tensor.bfloat16, Tensor.clone, Tensor.detach, Tensor.contiguous, Tensor.requires_grad_),
    *(Tensor.__getitem__, Tensor.index_select, Tensor.narrow, Tensor.view, Tensor.reshape, Tensor.flatten),
    *(Tensor.unsqueeze, Tensor.squeeze, Tensor.expand, Tensor.repeat),
    *(torch.index_select, torch.narrow, torch.reshape, torch.flatten, torch.unsqueeze, torch.squeeze, torch.clone),
}


def mark(cos: Tensor, sin: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """The same numbers, made for `pairing`."""
    return cos.as_subclass(_MARKED[pairing]), sin.as_subclass(_MARKED[pairing])


def pairing_of(cos: Tensor, sin: Tensor, given: Pairing | None) -> Pairing:
    """The pairing to apply these cosines and sines by.

    Args:
        cos: from a position module, which marks what it makes, or anyone else's plain tensor.
        sin: like cos.
        given: what the caller asked for, or None for what they were made for.

    Raises:
        ValueError: an unknown pairing; the rotation was made for another one; or neither the
            caller nor the rotation says which.
    """
    if given is not None:
        check_choice("pairing", given, PAIRINGS)
    made = [pairing for pairing, marked in _MARKED.items() if isinstance(cos, marked) or isinstance(sin, marked)]
    if not made and given is None:
        raise OptionError(
            f"these cos and sin do not say which channels they pair; pass pairing= one of {', '.join(PAIRINGS)}"
        )
    if len(made) > 1 or (made and given not in (None, made[0])):
        raise OptionError(
            f"the rotation was made with pairing {' and '.join(map(repr, made))}, it cannot be applied with "
            f"{given or made[0]!r}; build the position module and what applies it with one pairing"
        )
    return given or made[0]


def unmarked(x: Tensor) -> Tensor:
    """The plain tensor. Compiled code, where types are gone before anything runs, is left alone."""
    if isinstance(x, RotationTensor) and not torch.compiler.is_compiling():
        return x.as_subclass(Tensor)
    return x
