"""Quarter turns and mirrors that a container asks a player to apply.

PyAV's ``frame.rotation`` cannot tell a mirrored picture from one turned by 180 degrees, so the
display matrix itself is read. Source: FFmpeg's AV_FRAME_DATA_DISPLAYMATRIX, nine 16.16 integers
(a b u, c d v, x y w), mapping a point to x' = a x + c y, y' = b x + d y.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ov2kit.codec.video.side_data import side_data


@dataclass(frozen=True)
class Orientation:
    """How a coded picture is shown: transposed first, then mirrored.

    Args:
        transpose: rows become columns.
        flip_x: mirrored left to right, after transposing.
        flip_y: mirrored top to bottom, after transposing.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_frame(cls, frame: Any) -> "Orientation":
        """Orientation of a PyAV frame; upright when it has no matrix or one that is no quarter turn."""
        data = side_data(frame, "DISPLAYMATRIX")
        if data is None:  # or not to be read; what PyAV makes of it is 0 where there is none
            angle = -np.deg2rad(frame.rotation)
            a, b = np.cos(angle), np.sin(angle)
            return cls.from_matrix(np.array([a, b, 0, -b, a]))
        matrix = np.frombuffer(bytes(data), dtype=np.int32)[:9]
        return cls.from_matrix(matrix) if len(matrix) == 9 else cls()

    @classmethod
    def from_matrix(cls, matrix: np.ndarray) -> "Orientation":
        a, b, c, d = (float(matrix[i]) for i in (0, 1, 3, 4))
        straight, turned = min(abs(a), abs(d)), min(abs(b), abs(c))
        if straight > 100 * max(abs(b), abs(c)) and straight > 0:
            return cls(False, a < 0, d < 0)
        if turned > 100 * max(abs(a), abs(d)) and turned > 0:
            return cls(True, c < 0, b < 0)
        return cls()

    @property
    def is_upright(self) -> bool:
        return not (self.transpose or self.flip_x or self.flip_y)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) as shown. The same call turns a shown size back into the coded one."""
        return (width, height) if self.transpose else (height, width)

    def picture(self, x: np.ndarray) -> np.ndarray:
        """(..., h, w) as coded -> as shown."""
        if self.transpose:
            x = x.swapaxes(-1, -2)
        if self.flip_x:
            x = x[..., ::-1]
        if self.flip_y:
            x = x[..., ::-1, :]
        return x if self.is_upright else np.ascontiguousarray(x)

    def cells(self, rows: np.ndarray, columns: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(n,) rows and columns of a grid over the picture as shown -> those of the same cells of it as coded.

        Args:
            grid: (rows, cols) of cells as shown.
        """
        rows = grid[0] - 1 - rows if self.flip_y else rows
        columns = grid[1] - 1 - columns if self.flip_x else columns
        return (columns, rows) if self.transpose else (rows, columns)

    def field(self, x: Tensor) -> Tensor:
        """(T, h, w, 2) displacements (dx, dy) as coded -> as shown."""
        if self.is_upright:
            return x
        if self.transpose:
            x = x.transpose(1, 2).flip(-1)
        if self.flip_x:
            x = x.flip(2) * torch.tensor([-1.0, 1.0])
        if self.flip_y:
            x = x.flip(1) * torch.tensor([1.0, -1.0])
        return x.contiguous()
