"""Motion fields: decoder vectors to a dense grid, and the motion of the camera taken out of it.

Letters: T frames, gh x gw cells. A field holds (x, y) from the current position to where the
content was in the reference frame, so reference position = position + motion; NaN is no vector.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ov2kit.codec.score_maps import percentile

Compensation = Literal["none", "mean", "median", "affine"]
COMPENSATIONS = ("none", "mean", "median", "affine")
_MOST_CELLS = 300  # cells that a median looks at per frame


def rasterize_motion(
    vectors: Mapping[str, NDArray[Any]] | NDArray[Any],
    frame_of_vector: NDArray[np.integer[Any]],
    num_frames: int,
    coded_size: tuple[int, int],
    cell: int = 8,
) -> Tensor:
    """Decoder motion vectors of many frames -> one dense field each, in coded pixels.

    FFmpeg gives one entry per block and reference: its centre (dst_x, dst_y), size (w, h),
    motion / motion_scale from the destination to the source, and source < 0 for a past reference.
    Past entries win; where a cell has only a future one, its negative stands in, so that all of
    the field points to the past. Blocks that stick out of the picture are cut at its border.

    Args:
        vectors: arrays (N,) named source, w, h, dst_x, dst_y, motion_x, motion_y, motion_scale:
            a mapping, or FFmpeg's structured array, concatenated over frames.
        frame_of_vector: (N,) from 0 to `num_frames` - 1.
        num_frames: T.
        coded_size: (height, width) of the coded picture in pixels, not rotated.
        cell: cell edge in pixels; vectors come on multiples of 8, so 8 loses nothing, and
            16 keeps the last entry of a macroblock's four.

    Returns:
        (T, ceil(height / cell), ceil(width / cell), 2) float32; NaN where nothing points anywhere.
        Within one frame the later entry of two for the same cell wins.
    """
    gh, gw = -(-coded_size[0] // cell), -(-coded_size[1] // cell)
    # One extra cell takes what lies outside, so that nothing needs a mask.
    field = np.full((num_frames * gh * gw + 1, 2), np.nan, dtype=np.float32)
    frame = np.asarray(frame_of_vector, dtype=np.int64)
    scale = np.asarray(vectors["motion_scale"]).astype(np.float32)
    past = np.asarray(vectors["source"]) < 0
    sign = np.where(past, np.float32(1), np.float32(-1)) / np.where(scale > 0, scale, np.float32(1))
    motion = np.empty((len(frame), 2), dtype=np.float32)
    np.multiply(vectors["motion_x"], sign, out=motion[:, 0], casting="unsafe")
    np.multiply(vectors["motion_y"], sign, out=motion[:, 1], casting="unsafe")
    width = np.asarray(vectors["w"]).astype(np.int64)
    height = np.asarray(vectors["h"]).astype(np.int64)
    left = np.asarray(vectors["dst_x"]).astype(np.int64) - width // 2
    top = np.asarray(vectors["dst_y"]).astype(np.int64) - height // 2
    shape = height * 4096 + width
    for towards_past in (False, True):  # the past is written last, and so wins
        chosen = past == towards_past
        for code in np.unique(shape[chosen]):
            own = np.flatnonzero(chosen & (shape == code))
            for dy in range(0, max(1, int(code) // 4096), cell):
                row = (top[own] + dy) // cell
                for dx in range(0, max(1, int(code) % 4096), cell):
                    column = (left[own] + dx) // cell
                    inside = (row >= 0) & (row < gh) & (column >= 0) & (column < gw)
                    index = np.where(inside, (frame[own] * gh + row) * gw + column, len(field) - 1)
                    field[index] = motion[own]
    return torch.from_numpy(field[:-1].reshape(num_frames, gh, gw, 2))


def remove_global_motion(field: Tensor, compensation: Compensation = "median") -> Tensor:
    """Subtract what the whole picture does; NaN cells stay NaN and say nothing.

    Args:
        field: (..., gh, gw, 2) float32.
        compensation: ``"mean"`` and ``"median"`` of each component (the median of at most 300
            evenly spaced cells), or ``"affine"``: the least-squares fit of six parameters, which
            follows zoom, rotation and shear, fitted once more with cells down-weighted that the
            first fit explains badly.

    Returns:
        As `field`; not a copy under ``"none"``.
    """
    if compensation == "none":
        return field
    if compensation == "affine":
        return field - _affine_fit(field)
    if compensation == "mean":
        return field - field.flatten(-3, -2).nanmean(-2)[..., None, None, :]
    return field - _median(field)


def _median(field: Tensor) -> Tensor:
    """(..., gh, gw, 2) -> (..., 1, 1, 2) of the cells with a vector; 0 where there is none."""
    cells = _thinned(field).flatten(-3, -2).transpose(-1, -2).contiguous()
    return percentile(cells, 50.0, ~cells.isnan())[..., None, None, :]


def _thinned(field: Tensor) -> Tensor:
    """Every n-th row and column, so that at most 300 cells are left."""
    step = 1
    while -(-field.shape[-3] // step) * -(-field.shape[-2] // step) > _MOST_CELLS:
        step += 1
    return field[..., step // 2 :: step, step // 2 :: step, :]


def _affine_fit(field: Tensor) -> Tensor:
    """The affine motion nearest to (..., gh, gw, 2), evaluated at every cell."""
    gh, gw = field.shape[-3:-1]
    y = torch.linspace(-1, 1, gh, device=field.device, dtype=field.dtype)
    x = torch.linspace(-1, 1, gw, device=field.device, dtype=field.dtype)
    basis = torch.stack([torch.ones(gh, gw, device=field.device, dtype=field.dtype),
                         x.expand(gh, gw), y[:, None].expand(gh, gw)], dim=-1).view(-1, 3)  # fmt: skip
    cells = field.flatten(-3, -2)
    known = ~cells.isnan().any(-1)
    target = cells.nan_to_num(nan=0.0)
    weight = known.to(field.dtype)
    outer = (basis[:, :, None] * basis[:, None, :]).flatten(1)
    ridge = 1e-4 * torch.eye(3, device=field.device, dtype=field.dtype)
    fitted = target
    for attempt in range(2):
        normal = (weight @ outer).unflatten(-1, (3, 3))  # type: ignore[no-untyped-call]
        right = basis.T @ (target * weight[..., None])
        fitted = basis @ torch.linalg.solve(normal + ridge * (1 + normal[..., :1, :1]), right)
        if attempt == 0:
            error = torch.hypot(*(target - fitted).unbind(-1))
            sample = error[..., :: -(-error.shape[-1] // _MOST_CELLS)]
            mask = known[..., :: -(-error.shape[-1] // _MOST_CELLS)]
            typical = percentile(sample, 50.0, mask)[..., None].clamp(min=1e-3)
            weight = weight / (1 + (error / typical) ** 2) ** 2
    return fitted.unflatten(-2, (gh, gw))  # type: ignore[no-untyped-call,no-any-return]
