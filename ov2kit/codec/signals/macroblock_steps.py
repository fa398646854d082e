"""How the vectors of macroblocks differ from those around them.

Letters: T frames, R x C macroblocks of 2 x 2 motion cells.
"""

import torch
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels


def motion_steps(cells: Tensor, out: tuple[Tensor, Tensor, Tensor], around: Tensor) -> None:
    """Steps between vectors, |x| + |y| in quarters of a pixel.

    H.264 predicts the vector of a macroblock as the median of those on its left, above and right above.

    Args:
        cells: (2, 2, 2, T, R, C) int16 as in `MacroblockSignals`: x and y, upper and lower, left and right.
        out: (T, R, C) float32 each, filled: the vector of the upper left cell, that less its prediction, and the
            largest step from it to another cell.
        around: (2, 2, T, R, C) float32, filled: the step to each cell from that on its left, plus from that above.
    """
    if cells.device.type == "cpu" and uses_kernels():
        from ov2kit.codec.compiled.macroblock_steps import motion_steps as fill

        fill(cells.contiguous().numpy(), *(part.numpy() for part in (*out, around)))
        return
    own, left, above = cells[:, 0, 0], torch.zeros_like(cells[0]), torch.zeros_like(cells[0])
    left[..., 1:] = cells[:, :, 1, :, :, :-1]  # (2, 2, T, R, C): of both rows of cells
    above[:, :, :, 1:] = cells[:, 1, :, :, :-1]  # of both columns
    right = torch.zeros_like(own)
    right[..., :-1] = above[:, 0, ..., 1:]
    low, high = torch.minimum(left[:, 0], above[:, 0]), torch.maximum(left[:, 0], above[:, 0])
    length = _length(own.abs())
    off = _length(own.sub(torch.maximum(low, high.minimum(right))).abs_())
    still = (left[:, 0] == 0).all(0) | (above[:, 0] == 0).all(0)
    off = torch.where(still, off.minimum(length), off)
    steps = torch.empty_like(cells[0])
    steps[:, 0] = _length((cells[:, :, 0] - left).abs_())
    steps[:, 1] = _length((cells[:, :, 1] - cells[:, :, 0]).abs_())
    steps[:, 0, :, :, 0] = 0
    above, inside = _length((cells[:, 0] - above).abs_()), _length((cells[:, 1] - cells[:, 0]).abs_())
    above[:, :, 0] = 0
    spread = _length((own - cells[:, 1, 1]).abs_()).maximum(steps[0, 1]).maximum(inside[0])
    for part, found in zip(out, (length, off, spread), strict=True):
        part.copy_(found)
    around.copy_(steps)
    around[0] += above
    around[1] += inside


def _length(sides: Tensor) -> Tensor:
    """(2, ...) -> (...): |x| + |y|, of those."""
    return sides[0] + sides[1]
