"""The vectors of macroblocks in whole quarters of a pixel, one plane for each of their cells.

Letters: T frames, R x C macroblocks of 16 coded pixels, of 2 x 2 cells of 8.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.signals.motion_grid import joined_vectors, paint_blocks

QUARTERS = 4  # of a coded pixel, in which motion is counted: what H.264 and MPEG-4 have at the finest
_MOST = 8191  # quarters: H.264's longest vectors; lengths of differences stay within int16
_CELL = 8  # pixels
_NONE = np.int32(-(1 << 31))  # no vector is that long


def vector_planes(
    vectors: list[tuple[int, NDArray[np.void]]], count: int, grid: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the vectors of frames tell of each macroblock.

    Args:
        vectors: at least one frame's place among the T and FFmpeg's structured array of it.
        count: T.
        grid: (R, C).

    Returns:
        (2, 2, 2, T, R, C) int16 quarters of a pixel to the past, as `rasterize_motion` has them: x
        and y, of the upper and lower, left and right cells, 0 where there is none; (T, R, C)
        float32 each: cells without vector, vectors, vectors to the future.
    """
    rows, cols = grid
    joined = joined_vectors([part for _, part in vectors])
    places, sizes = [t for t, _ in vectors], [len(part) for _, part in vectors]
    if uses_kernels():
        from ov2kit.codec.compiled.macroblock_motion import vector_planes as paint

        moved = torch.zeros(2, 2, 2, count, rows, cols, dtype=torch.int16)
        empty, (total, futures) = torch.full((count, rows, cols), 4.0), torch.zeros(2, count, rows, cols)
        filled = (part.numpy() for part in (moved, empty, total, futures))
        paint(joined, np.cumsum(sizes), np.array(places), QUARTERS, _MOST, *filled)
        return moved, empty, total, futures
    frames = np.repeat(np.array(places, np.int32), sizes)
    x, y = _quarters(joined)
    past = joined["source"] < 0
    height, width = joined["h"].astype(np.int32), joined["w"].astype(np.int32)
    row, column = (joined["dst_y"] - (height >> 1)) >> 3, (joined["dst_x"] - (width >> 1)) >> 3
    place = (frames * rows + (row >> 1).clip(0, rows - 1)) * cols + (column >> 1).clip(0, cols - 1)
    found = np.bincount(place * 2 + past, minlength=2 * count * rows * cols).astype(np.float32)
    to_future, to_past = np.ascontiguousarray(found.reshape(count, rows, cols, 2).transpose(3, 0, 1, 2))

    sign = np.where(past, np.int32(1), np.int32(-1))
    packed = (x * sign & 0xFFFF) | (y * sign << 16)  # x and y move as one number
    shape = count, 2 * rows, 2 * cols
    field = paint_blocks(packed, past, frames, (row, column), (height, width), shape, _CELL, _NONE)
    cells = np.ascontiguousarray(field.reshape(count, rows, 2, cols, 2).transpose(2, 4, 0, 1, 3))
    hole = cells == _NONE
    cells[hole] = 0
    motion = np.stack([cells.astype(np.int16), (cells >> 16).astype(np.int16)])
    holes = hole.sum((0, 1), dtype=np.int8).astype(np.float32)
    counted = to_past + to_future
    return torch.from_numpy(motion), torch.from_numpy(holes), torch.from_numpy(counted), torch.from_numpy(to_future)


def field_planes(field: Tensor) -> tuple[Tensor, Tensor]:
    """Motion and holes as above of (T, 2 R, 2 C, 2) float32 coded pixels, NaN where there is none."""
    count, rows, cols = len(field), field.shape[1] // 2, field.shape[2] // 2
    holes = field[..., 0].isnan().view(count, rows, 2, cols, 2).permute(2, 4, 0, 1, 3).float().sum((0, 1))
    whole = (field * QUARTERS).nan_to_num_(nan=0.0).clamp_(-_MOST, _MOST).round_().to(torch.int16)
    return whole.view(count, rows, 2, cols, 2, 2).permute(5, 2, 4, 0, 1, 3).contiguous(), holes


def _quarters(vectors: NDArray[np.void]) -> list[NDArray[np.int32]]:
    """x and y of each vector, from where it is used to where it points."""
    scale = vectors["motion_scale"]
    parts = [vectors[name] for name in ("motion_x", "motion_y")]
    if not (scale == QUARTERS).all():
        step = np.float32(QUARTERS) / np.maximum(scale, 1).astype(np.float32)
        parts = [np.rint(part * step) for part in parts]
    return [part.clip(-_MOST, _MOST).astype(np.int32) for part in parts]
