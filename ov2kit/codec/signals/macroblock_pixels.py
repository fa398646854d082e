"""Luma of macroblocks as one plane for each of their pixels: what is summed over a macroblock are whole planes then.

Letters: T frames, R x C macroblocks of k x k luma pixels, k = 4, and of 2 x 2 motion cells.
"""

import numpy as np
import torch
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.signals.compensate import MARGIN, PART_BITS, PARTS, with_margin
from ov2kit.codec.signals.macroblock_inputs import EDGE


def pixel_means(luma: Tensor, reference: Tensor, motion: Tensor | None, out: Tensor) -> None:
    """What luma and the moved reference tell of each macroblock, in gray levels.

    Args:
        luma: (T, R k, C k) uint8.
        reference: as `luma`.
        motion: (2, 2, 2, T, R, C) int16 as in `MacroblockSignals`, or None.
        out: (7, T, R, C) float32, filled: means of the residual, of the difference and the smaller of both, the mean
            square of the residual, the share of its pixels that are not 0, its maximum, the mean of the gradient.
    """
    if luma.device.type == "cpu" and uses_kernels():
        from ov2kit.codec.compiled import macroblock_pixels as kernels

        moved = np.empty((2, 2, 2, 0, *out.shape[2:]), np.int16) if motion is None else motion.contiguous().numpy()
        kernels.pixel_means(luma.contiguous().numpy(), reference.contiguous().numpy(), moved, MARGIN, out.numpy())
        return
    planes = pixel_planes(luma)
    difference = (planes - pixel_planes(reference)).abs_()
    residual = difference
    if motion is not None:
        residual = (planes - moved_planes(reference, motion)).abs_()
    out[0], out[1], out[3] = sums(residual), sums(difference), sums(residual.float().square_())
    out[4] = sums(residual.clamp(max=1))
    out[5], out[6] = residual.amax((0, 1)), gradient_sums(planes)
    out[:2] /= EDGE * EDGE
    out[3:5] /= EDGE * EDGE
    out[6] /= EDGE * EDGE
    torch.minimum(out[0], out[1], out=out[2])


def pixel_planes(luma: Tensor) -> Tensor:
    """(T, R k, C k) uint8 -> (k, k, T, R, C) int16."""
    count, height, width = luma.shape
    cells = luma.view(count, height // EDGE, EDGE, width // EDGE, EDGE)
    return cells.permute(2, 4, 0, 1, 3).to(torch.int16, memory_format=torch.contiguous_format)


def moved_planes(reference: Tensor, motion: Tensor) -> Tensor:
    """The reference at position + motion, as `residual_of` samples it bilinearly, as planes.

    The four pixels of a cell move together: they lie between nine of the reference, which are fetched once.

    Args:
        reference: (T, R k, C k) uint8.
        motion: (2, 2, 2, T, R, C) int16 as in `MacroblockSignals`: an eighth of a luma pixel is half a coded one.

    Returns:
        (k, k, T, R, C) int16 whole gray levels.
    """
    padded = with_margin(reference)
    wide, device = padded.shape[2], reference.device
    count, rows, cols = shape = motion.shape[3:]
    half = motion.bitwise_right_shift(1).bitwise_and_(1).add_(motion).bitwise_right_shift_(1)  # to even
    step = half.clamp_(-MARGIN * PARTS, MARGIN * PARTS)
    whole = step.bitwise_right_shift(PART_BITS)
    x, y = (step - whole * PARTS).view(2, -1)
    top, left = (
        torch.arange(2 * side, device=device, dtype=torch.int32).mul_(EDGE // 2).add_(MARGIN).view(side, 2).T
        for side in (rows, cols)
    )
    picture = torch.arange(count, device=device, dtype=torch.int32) * padded[0].numel()
    own = (top * wide)[:, None, None, :, None] + picture[:, None, None] + left[:, None, None]  # (2, 2, T, R, C)
    index = whole[1].int().mul_(wide).add_(whole[0]).add_(own).view(-1)
    flat = padded.view(-1)
    near = flat.new_empty(3, 3, len(index))
    for dy in range(3):
        for dx in range(3):
            torch.index_select(flat[dy * wide + dx :], 0, index, out=near[dy, dx])
    near = near.to(torch.int16)
    lines = (near[:, :2] * (PARTS - x)).addcmul_(near[:, 1:], x)
    blended = (lines[:2] * (PARTS - y)).addcmul_(lines[1:], y).add_(PARTS * PARTS // 2)
    out = blended.new_empty(2, 2, 2, 2, *shape)  # cell, pixel down; cell, pixel along
    places = out.permute(1, 3, 0, 2, 4, 5, 6)
    torch.bitwise_right_shift(blended.view_as(places), 2 * PART_BITS, out=places)
    planes: Tensor = out.view(EDGE, EDGE, *shape)
    return planes


def sums(planes: Tensor) -> Tensor:
    """(k, k, ...) -> (...) in the planes' dtype."""
    total: Tensor = planes.sum((0, 1), dtype=planes.dtype)
    return total


def gradient_sums(planes: Tensor) -> Tensor:
    """(k, k, T, R, C) int16 -> (T, R, C) sums of |step to the right| + |step down|; 0 at the last column and row."""
    total = sums((planes[:, 1:] - planes[:, :-1]).abs_())
    total += sums((planes[1:] - planes[:-1]).abs_())
    total[..., :-1] += (planes[:, 0, :, :, 1:] - planes[:, -1, :, :, :-1]).abs_().sum(0, dtype=torch.int16)
    total[:, :-1] += (planes[0, :, :, 1:] - planes[-1, :, :, :-1]).abs_().sum(0, dtype=torch.int16)
    return total
