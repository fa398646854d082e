"""Motion fields: the vectors of a decoder on a dense grid.

Letters: T frames, gh x gw cells. A field holds (x, y) from the current position to where the
content was in the reference frame, so reference position = position + motion; NaN is no vector.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels

_FIELDS = ("source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")
_FRAMES_AT_ONCE = 4


def rasterize_motion(
    vectors: Mapping[str, NDArray[Any]] | NDArray[Any],
    frame_of_vector: NDArray[np.integer[Any]],
    num_frames: int,
    coded_size: tuple[int, int],
    cell: int = 8,
) -> Tensor:
    """Decoder motion vectors of many frames -> one dense field each, in coded pixels.

    FFmpeg gives one entry per block and reference: its center (dst_x, dst_y), size (w, h),
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
        Where blocks of one direction overlap, the order of the entries decides.
    """
    gh, gw = -(-coded_size[0] // cell), -(-coded_size[1] // cell)
    parts: dict[str, NDArray[Any]] = {name: np.asarray(vectors[name]) for name in _FIELDS}
    frames = np.asarray(frame_of_vector).astype(np.int64)
    if len(frames) and bool((np.diff(frames) < 0).any()):
        order = frames.argsort(kind="stable")
        parts, frames = {name: part[order] for name, part in parts.items()}, frames[order]
    # A few frames at a time: what is in between stays in the cache.
    starts = list(range(0, num_frames, _FRAMES_AT_ONCE))
    edges = np.searchsorted(frames, [*starts, num_frames])
    field = np.empty((num_frames, gh, gw, 2), dtype=np.float32)
    for start, first, last in zip(starts, edges[:-1], edges[1:], strict=True):
        some = {name: part[first:last] for name, part in parts.items()}
        _paint(some, frames[first:last] - start, field[start : start + _FRAMES_AT_ONCE], cell)
    return torch.from_numpy(field)


def rasterize_frames(vectors: Sequence[NDArray[Any] | None], coded_size: tuple[int, int], cell: int = 8) -> Tensor:
    """As `rasterize_motion`, of FFmpeg's structured array of each frame, None where it has none."""
    count = len(vectors)
    field = np.empty((count, -(-coded_size[0] // cell), -(-coded_size[1] // cell), 2), dtype=np.float32)
    if uses_kernels() and any(part is not None for part in vectors):
        from ov2kit.codec.compiled.motion_field import paint

        ends = np.cumsum([0 if part is None else len(part) for part in vectors])
        paint(joined_vectors([part for part in vectors if part is not None]), ends, cell, field)
        return torch.from_numpy(field)
    for start in range(0, count, _FRAMES_AT_ONCE):
        some = enumerate(vectors[start : start + _FRAMES_AT_ONCE])
        known = [(t, part) for t, part in some if part is not None]
        if not known:
            field[start : start + _FRAMES_AT_ONCE] = np.nan
            continue
        frames = np.repeat([t for t, _ in known], [len(part) for _, part in known])
        _paint(joined_vectors([part for _, part in known]), frames, field[start : start + _FRAMES_AT_ONCE], cell)
    return torch.from_numpy(field)


def joined_vectors(vectors: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Structured arrays one after the other, as bytes: numpy copies field by field otherwise."""
    return np.concatenate([part.view(np.uint8) for part in vectors]).view(vectors[0].dtype)


def _paint(
    vectors: Mapping[str, NDArray[Any]] | NDArray[Any], frames: NDArray[np.int64], out: NDArray[np.float32], cell: int
) -> None:
    """Fill (T, gh, gw, 2) with the vectors of its frames."""
    past = vectors["source"] < 0
    scale = np.where(past, np.float32(1), np.float32(-1)) / np.maximum(vectors["motion_scale"], 1).astype(np.float32)
    motion = np.empty(len(past), dtype=np.complex64)  # x and y move as one number
    motion.real = vectors["motion_x"].astype(np.float32) * scale
    motion.imag = vectors["motion_y"].astype(np.float32) * scale
    width, height = vectors["w"].astype(np.int32), vectors["h"].astype(np.int32)
    row = (vectors["dst_y"].astype(np.int32) - height // 2) // cell
    column = (vectors["dst_x"].astype(np.int32) - width // 2) // cell
    empty = np.complex64(complex(np.nan, np.nan))
    field = paint_blocks(motion, past, frames, (row, column), (height, width), out.shape[:3], cell, empty)
    out[..., 0], out[..., 1] = field.real, field.imag


def paint_blocks(
    values: NDArray[Any],
    past: NDArray[np.bool_],
    frames: NDArray[np.integer[Any]],
    corner: tuple[NDArray[np.int32], NDArray[np.int32]],
    size: tuple[NDArray[np.int32], NDArray[np.int32]],
    shape: tuple[int, ...],
    cell: int,
    empty: Any,
) -> NDArray[Any]:
    """Fill every cell that a block covers with the block's value, those to the past over those to the future.

    Args:
        values: (N,) of any dtype.
        past: (N,) whether each points to the past.
        frames: (N,) from 0 to T - 1.
        corner: (N,) row and column of the cell of each block's upper left corner.
        size: (N,) height and width in pixels.
        shape: (T, gh, gw).
        cell: cell edge in pixels.
        empty: value of cells that no block covers.

    Returns:
        (T, gh, gw), a view.
    """
    (row, column), (down, across) = corner, (int(side.max(initial=1)) for side in size)
    # A margin takes what sticks out, so that no write needs a test.
    count, gh, gw = shape
    margin = -(-max(across, down) // cell)
    rows, columns = gh + 2 * margin, gw + 2 * margin
    field = np.full(count * rows * columns, empty, dtype=values.dtype)
    row, column = (row + margin).clip(0, rows - margin), (column + margin).clip(0, columns - margin)
    place = (frames * rows + row) * columns + column
    height, width = size
    ours = [slice(None)]
    if not past.all():  # the past is written last, and so wins
        order = np.concatenate([np.flatnonzero(~past), np.flatnonzero(past)])
        place, values, height, width = (x.take(order) for x in (place, values, height, width))
        split = len(past) - int(np.count_nonzero(past))
        ours = [slice(split), slice(split, None)]
    for part in ours:
        own_place, own_values, own_height, own_width = place[part], values[part], height[part], width[part]
        field[own_place] = own_values
        for dy in range(0, down, cell):
            for dx in range(0 if dy else cell, across, cell):
                # Positions are several times quicker to index by than a mask.
                reach = np.flatnonzero((own_height > dy) & (own_width > dx))
                field[own_place.take(reach) + (dy // cell * columns + dx // cell)] = own_values.take(reach)
    return field.reshape(count, rows, columns)[:, margin : margin + gh, margin : margin + gw]
