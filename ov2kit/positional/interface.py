"""What every position module agrees on, so that one can stand in for another.

Letters: N tokens, C width, D head_dim.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor

from ov2kit.positional.pairing import Pairing


@runtime_checkable
class Positions(Protocol):
    """Where tokens sit, as a rotation of queries and keys, as something added to features, or neither."""

    #: how the rotation is to be applied; of no consequence without one
    pairing: Pairing

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Features x (N, C) with what stands for positions (N, 3) of (frame, row, column) added, or x itself."""
        ...

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines (N, D) of positions (N, 3), or None where nothing is rotated."""
        ...
