"""Motion compensation at scoring resolution: what the reference says a picture should look like.

Letters: T frames of h x w pixels, gh x gw motion cells.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.codec.score_maps import upsample_index

Sampling = Literal["bilinear", "nearest"]
_MARGIN = 32  # pixels that a nearest sample may lie outside; longer vectors are cut there


def residual_of(luma: Tensor, reference: Tensor, motion: Tensor, sampling: Sampling = "nearest") -> Tensor:
    """|luma - reference at position + motion| in whole grey levels.

    Args:
        luma: (T, h, w) uint8.
        reference: (T, h, w) uint8.
        motion: (T, gh, gw, 2) float32 pixels; NaN counts as no motion.
        sampling: "nearest" takes the nearest pixel (the border repeated 32 pixels outwards),
            "bilinear" weighs four and rounds the difference: three times the time.

    Returns:
        (T, h, w) uint8.
    """
    if sampling == "bilinear":
        return _bilinear(luma, reference, motion)
    height, width = luma.shape[1:]
    padded = _padded(reference)
    wide = padded.shape[2]
    device = luma.device
    # One flat index per pixel: its own place, plus an offset that is the same for all of a cell.
    step = motion.nan_to_num(nan=0.0).round().clamp(-_MARGIN, _MARGIN)
    offset = (step[..., 1] * wide + step[..., 0]).int()
    offset = offset.index_select(2, upsample_index(motion.shape[2], width, device=device))
    offset = offset.index_select(1, upsample_index(motion.shape[1], height, device=device))
    rows = torch.arange(height, device=device, dtype=torch.int32)[:, None] + _MARGIN
    columns = torch.arange(width, device=device, dtype=torch.int32) + _MARGIN
    picture = torch.arange(len(luma), device=device, dtype=torch.int32)[:, None, None] * padded[0].numel()
    offset += rows * wide + columns
    offset += picture
    predicted = padded.view(-1).index_select(0, offset.view(-1)).view_as(luma)
    return torch.maximum(luma, predicted) - torch.minimum(luma, predicted)


def _padded(pictures: Tensor) -> Tensor:
    """(T, h, w) -> (T, h + 2 m, w + 2 m), the border repeated; `F.pad` has no uint8 for this."""
    count, height, width = pictures.shape
    out = pictures.new_empty(count, height + 2 * _MARGIN, width + 2 * _MARGIN)
    inner, right, bottom = slice(_MARGIN, -_MARGIN), width + _MARGIN, height + _MARGIN
    out[:, inner, inner] = pictures
    out[:, inner, :_MARGIN], out[:, inner, right:] = pictures[:, :, :1], pictures[:, :, -1:]
    out[:, :_MARGIN], out[:, bottom:] = out[:, _MARGIN : _MARGIN + 1], out[:, bottom - 1 : bottom]
    return out


def _bilinear(luma: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
    height, width = luma.shape[1:]
    device = luma.device
    columns = upsample_index(motion.shape[2], width, device=device)
    rows = upsample_index(motion.shape[1], height, device=device)
    x = (torch.arange(width, device=device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=device) * 2 + 1) / height - 1
    here = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)
    # In units of half pictures, as grid_sample counts.
    where = motion.float().nan_to_num(nan=0.0) * torch.tensor([2 / width, 2 / height], device=device)
    where = where.index_select(2, columns).index_select(1, rows).add_(here)
    taken = F.grid_sample(
        reference[:, None].float(), where, mode="bilinear", padding_mode="border", align_corners=False
    )
    return taken[:, 0].sub_(luma).abs_().add_(0.5).to(torch.uint8)
