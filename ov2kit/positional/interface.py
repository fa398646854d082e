"""What every position module agrees on, so that one can stand in for another.

Letters: N tokens, C width, D head_dim.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ov2kit.errors import OptionError, check_type
from ov2kit.positional.pairing import Pairing


@runtime_checkable
class Positions(Protocol):
    """Where tokens sit, as a rotation of queries and keys, as something added to features, or neither."""

    #: how the rotation is to be applied; irrelevant without one
    pairing: Pairing

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Features x (N, C) with what stands for positions (N, 3) of (frame, row, column) added, or x itself."""
        ...

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines (N, D) of positions (N, 3), or None where nothing is rotated."""
        ...


def check_position(name: str, module: nn.Module | None) -> None:
    """A position module, or None.

    Raises:
        OptionError: names the argument and what its value lacks.
    """
    check_type(name, module, nn.Module, "a module with the interface of RoPE3D", optional=True)
    if not (module is None or isinstance(module, Positions)):
        raise OptionError(
            f"{name} must have the interface of RoPE3D (pairing, embed, a call), got a {type(module).__name__}"
        )
