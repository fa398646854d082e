"""Luma of macroblocks as one plane for each of their pixels: what is summed over a macroblock are whole planes then.

Letters: T frames, R x C macroblocks of k x k luma pixels, k = 4, and of 2 x 2 motion cells.
"""

import torch
from torch import Tensor

from ov2kit.codec.signals.compensate import MARGIN, PART_BITS, PARTS, with_margin
from ov2kit.codec.signals.macroblock_inputs import EDGE


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
