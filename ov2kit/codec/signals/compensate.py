"""Motion compensation at scoring resolution: what the reference says a picture should look like.

In whole numbers: positions to an eighth of a pixel, predictions to a gray level, so that every
machine gives the same residual. Letters: T frames of h x w pixels, gh x gw motion cells.
"""

from typing import Literal

import torch
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.signals.resample import upsample_index

Sampling = Literal["bilinear", "nearest"]
MARGIN = 32  # pixels that a sample may lie outside (the border is repeated); longer vectors are cut there
PART_BITS = 3  # positions are eighths of a pixel
PARTS = 1 << PART_BITS


def residual_of(luma: Tensor, reference: Tensor, motion: Tensor, sampling: Sampling = "bilinear") -> Tensor:
    """|luma - reference at position + motion| in whole gray levels.

    Args:
        luma: (T, h, w) uint8.
        reference: (T, h, w) uint8.
        motion: (T, gh, gw, 2) float32 pixels; NaN counts as no motion, more than 32 as 32.
        sampling: "bilinear" weighs the four pixels around, "nearest" takes one of them: half the
            time, and a residual that is off where detail moves by parts of a pixel.

    Returns:
        (T, h, w) uint8.
    """
    bilinear = sampling == "bilinear"
    bits = PART_BITS if bilinear else 0
    height, width = luma.shape[1:]
    device = luma.device
    columns = upsample_index(motion.shape[2], width, device=device)
    rows = upsample_index(motion.shape[1], height, device=device)
    if luma.device.type == "cpu" and uses_kernels():
        return _compiled(luma, reference, motion, rows, columns, bits)
    parts = 1 << bits
    padded = with_margin(reference)
    wide = padded.shape[2]
    step = motion.nan_to_num(nan=0.0).clamp_(-MARGIN, MARGIN).mul_(parts).round_().to(torch.int16)
    x, y = step[..., 0].contiguous(), step[..., 1].contiguous()
    whole_x, whole_y = x.bitwise_right_shift(bits), y.bitwise_right_shift(bits)

    def per_pixel(cells: Tensor) -> Tensor:
        return cells.index_select(2, columns).index_select(1, rows)

    # One flat index per pixel: its own place, plus an offset that is the same for all of a cell.
    picture = torch.arange(len(luma), device=device, dtype=torch.int32) * padded[0].numel()
    own = (torch.arange(height, device=device, dtype=torch.int32)[:, None] + MARGIN) * wide + MARGIN
    index = per_pixel(whole_y.int().mul_(wide).add_(whole_x).add_(picture[:, None, None]))
    index += own + torch.arange(width, device=device, dtype=torch.int32)
    index, flat = index.view(-1), padded.view(-1)
    if bilinear:
        right, down = per_pixel(x - whole_x * parts).view(-1), per_pixel(y - whole_y * parts).view(-1)
        predicted = _weighed(flat, index, wide, right, down).view_as(luma)
    else:
        predicted = flat.index_select(0, index).view_as(luma)
    return torch.maximum(luma, predicted) - torch.minimum(luma, predicted)


def _compiled(luma: Tensor, reference: Tensor, motion: Tensor, rows: Tensor, columns: Tensor, bits: int) -> Tensor:
    from ov2kit.codec.compiled import residual as kernels

    out = torch.empty_like(luma, memory_format=torch.contiguous_format)
    now, before, moved = (each.contiguous().numpy() for each in (luma, reference, motion))
    kernels.residual(now, before, moved, rows.numpy(), columns.numpy(), bits, MARGIN, out.numpy())
    return out


def _weighed(flat: Tensor, index: Tensor, wide: int, x: Tensor, y: Tensor) -> Tensor:
    """(N,) uint8 means of four pixels, weighed by x and y eighths of the way to the right and down."""
    half = PARTS * PARTS // 2
    left, right = (flat[i:].index_select(0, index).to(torch.int16) for i in (0, 1))
    upper = left.mul_(PARTS - x).add_(right.mul_(x))
    left, right = (flat[wide + i :].index_select(0, index).to(torch.int16) for i in (0, 1))
    lower = left.mul_(PARTS - x).add_(right.mul_(x))
    blended = upper.mul_(PARTS - y).add_(lower.mul_(y)).add_(half)
    return blended.bitwise_right_shift_(2 * PART_BITS).to(torch.uint8)


def with_margin(pictures: Tensor) -> Tensor:
    """(T, h, w) -> (T, h + 2 m, w + 2 m) with m one more than the margin to the right and below."""
    count, height, width = pictures.shape
    out = pictures.new_empty(count, height + 2 * MARGIN + 1, width + 2 * MARGIN + 1)
    right, bottom = width + MARGIN, height + MARGIN
    out[:, MARGIN:bottom, MARGIN:right] = pictures
    out[:, MARGIN:bottom, :MARGIN] = pictures[:, :, :1]
    out[:, MARGIN:bottom, right:] = pictures[:, :, -1:]
    out[:, :MARGIN] = out[:, MARGIN : MARGIN + 1]
    out[:, bottom:] = out[:, bottom - 1 : bottom]
    return out
