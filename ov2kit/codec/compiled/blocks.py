"""Blocks of a scaled picture in RGB, each made from its own patches of the planes.

In swscale's own whole numbers and with its rounding; see `ov2kit.codec.video.block_scaler`.
"""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel

_LANES = 16  # lines are as long as whole vectors of a processor


@kernel
def _scaled(
    plane: NDArray[np.unsignedinteger],
    first_row: NDArray[np.int32],
    row_weights: NDArray[np.int32],
    first_column: NDArray[np.int32],
    column_weights: NDArray[np.int32],
    shift: np.int32,
    patch: NDArray[np.int32],
    lines: NDArray[np.int32],
    sums: NDArray[np.int32],
    out: NDArray[np.int32],
) -> None:
    """One block of one plane, with 19 bits after the point; lines of `out` are as long as whole vectors."""
    side, rows_in, columns_in = len(first_row), row_weights.shape[1], column_weights.shape[1]
    top, left = first_row[0], first_column[0]
    height, width = first_row[side - 1] - top + rows_in, first_column[side - 1] - left + columns_in
    tall, wide = (height + _LANES - 1) // _LANES * _LANES, (side + _LANES - 1) // _LANES * _LANES
    # Lines of a patch are turned upright, so that sums along them are made for many at a time.
    for y in range(height):
        line = plane[top + y, left : left + width]
        for x in range(width):
            patch[np.uintp(x * tall + y)] = line[np.uintp(x)]
    for x in range(side):
        start, weight = np.uintp((first_column[x] - left) * tall), column_weights[x, 0]
        for y in range(tall):
            sums[y] = patch[start + np.uintp(y)] * weight
        for tap in range(1, columns_in):
            start, weight = start + np.uintp(tall), column_weights[x, tap]
            if weight:
                for y in range(tall):
                    sums[y] += patch[start + np.uintp(y)] * weight
        for y in range(height):
            lines[np.uintp(y * wide + x)] = sums[np.uintp(y)] >> shift
    for y in range(side):
        to, start, weight = np.uintp(y * wide), np.uintp((first_row[y] - top) * wide), row_weights[y, 0]
        for x in range(wide):
            out[to + np.uintp(x)] = lines[start + np.uintp(x)] * weight
        for tap in range(1, rows_in):
            start, weight = start + np.uintp(wide), row_weights[y, tap]
            if weight:
                for x in range(wide):
                    out[to + np.uintp(x)] += lines[start + np.uintp(x)] * weight


@kernel
def rgb_blocks(
    luma: NDArray[np.unsignedinteger],
    u: NDArray[np.unsignedinteger],
    v: NDArray[np.unsignedinteger],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    luma_rows: tuple[NDArray[np.int32], NDArray[np.int32]],
    luma_columns: tuple[NDArray[np.int32], NDArray[np.int32]],
    chroma_rows: tuple[NDArray[np.int32], NDArray[np.int32]],
    chroma_columns: tuple[NDArray[np.int32], NDArray[np.int32]],
    shift: np.int32,
    colors: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Blocks of one picture.

    Args:
        luma: (lines, bytes of a line) plane.
        u: as `luma`.
        v: as `luma`.
        rows: (n,) block row of each block.
        columns: (n,) block column.
        luma_rows: (H,) first row and (H, taps) weights of each row of the scaled picture.
        luma_columns: as `luma_rows`.
        chroma_rows: as `luma_rows`.
        chroma_columns: as `luma_rows`.
        shift: bits that sums along lines lose.
        colors: (6,) black, luma, red_v, green_u, green_v, blue_u of a `ColorMatrix`.
        out: (n, 3, side, side), filled.
    """
    side = out.shape[2]
    wide = (side + _LANES - 1) // _LANES * _LANES
    tall, far = 0, 0  # of the largest patch
    for block in range(len(rows)):
        row, column = rows[block] * side, columns[block] * side
        for first, weights in (luma_rows, chroma_rows):
            tall = max(tall, first[row + side - 1] - first[row] + weights.shape[1])
        for first, weights in (luma_columns, chroma_columns):
            far = max(far, first[column + side - 1] - first[column] + weights.shape[1])
    whole = (tall + _LANES - 1) // _LANES * _LANES
    patch, between, sums = np.zeros(far * whole, np.int32), np.zeros(tall * wide, np.int32), np.zeros(whole, np.int32)
    size = side * wide
    ys, us, vs = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.int32)
    levels = np.zeros(size, np.int32)
    ten, last, least, most = np.int32(10), np.int32(22), np.int32(0), np.int32(255)
    black, gain, red_v, green_u, green_v, blue_u = colors[0], colors[1], colors[2], colors[3], colors[4], colors[5]
    of_luma, of_chroma = np.int32(512 - (black << 10)), np.int32(512 - (128 << 19))
    half = np.int32(1 << 21)
    for block in range(len(rows)):
        down = slice(rows[block] * side, (rows[block] + 1) * side)
        along = slice(columns[block] * side, (columns[block] + 1) * side)
        _scaled(luma, luma_rows[0][down], luma_rows[1][down], luma_columns[0][along], luma_columns[1][along],
                shift, patch, between, sums, ys)  # fmt: skip
        for plane, found in ((u, us), (v, vs)):
            _scaled(plane, chroma_rows[0][down], chroma_rows[1][down], chroma_columns[0][along],
                    chroma_columns[1][along], shift, patch, between, sums, found)  # fmt: skip
        for i in range(size):
            ys[i] = np.int32(np.int32(np.int32(ys[i] + of_luma) >> ten) * gain) + half
        for i in range(size):
            us[i] = np.int32(us[i] + of_chroma) >> ten
        for i in range(size):
            vs[i] = np.int32(vs[i] + of_chroma) >> ten
        for i in range(size):
            levels[i] = min(max(np.int32(ys[i] + np.int32(vs[i] * red_v)) >> last, least), most)
        _copy(levels, wide, out[block, 0])
        for i in range(size):
            levels[i] = np.int32(ys[i] + np.int32(us[i] * green_u))
        for i in range(size):
            levels[i] = min(max(np.int32(levels[i] + np.int32(vs[i] * green_v)) >> last, least), most)
        _copy(levels, wide, out[block, 1])
        for i in range(size):
            levels[i] = min(max(np.int32(ys[i] + np.int32(us[i] * blue_u)) >> last, least), most)
        _copy(levels, wide, out[block, 2])


@kernel
def _copy(levels: NDArray[np.int32], wide: int, out: NDArray[np.uint8]) -> None:
    side = len(out)
    for y in range(side):
        line, to = levels[y * wide : y * wide + side], out[y]
        for x in range(side):
            to[x] = line[x]
