"""Motion vectors as planes, one for each cell of a macroblock.

Letters: T frames, N vectors, R x C macroblocks of 2 x 2 cells of 8 coded pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel

_CELL = 8  # pixels
_NONE = np.int32(-(1 << 31))  # no vector is that long


@kernel
def vector_planes(
    vectors: NDArray[Any],
    ends: NDArray[np.int64],
    frames: NDArray[np.int64],
    quarters: int,
    most: int,
    motion: NDArray[np.int16],
    holes: NDArray[np.float32],
    counted: NDArray[np.float32],
    future: NDArray[np.float32],
) -> None:
    """See `ov2kit.codec.signals.macroblock_motion.vector_planes`.

    Args:
        vectors: (N,) of FFmpeg's motion vectors, frame after frame.
        ends: where those of each frame end.
        frames: as `ends`, from 0 to T - 1: the frame's place.
        quarters: parts of a pixel that motion is counted in.
        most: parts that motion is cut at.
        motion: (2, 2, 2, T, R, C), filled at these frames.
        holes: (T, R, C), likewise.
        counted: (T, R, C), of zeros, likewise.
        future: as `counted`.
    """
    rows, columns = holes.shape[1], holes.shape[2]
    most_margin = 256 // _CELL  # cells: edges of blocks are bytes
    longest, start = 0, 0
    for end in ends:
        longest, start = max(longest, end - start), end
    places, values = np.empty(longest, np.int32), np.empty(longest, np.int32)
    heights, widths = np.empty(longest, np.uint8), np.empty(longest, np.uint8)
    field = np.empty((2 * rows + 2 * most_margin) * (2 * columns + 2 * most_margin) + 1, np.int32)
    start = 0
    for one_of in range(len(ends)):
        t, count = frames[one_of], ends[one_of] - start
        futures, longest_edge = 0, 1
        for v in range(start, start + count):
            futures += vectors[v]["source"] >= 0
            longest_edge = max(longest_edge, vectors[v]["h"], vectors[v]["w"])
        # A margin takes what sticks out; past the end of the field is a place for what is not to be written.
        margin = (longest_edge + _CELL - 1) // _CELL
        tall, wide = 2 * rows + 2 * margin, 2 * columns + 2 * margin
        nowhere = tall * wide
        next_future, next_past = 0, futures  # the past is written last, and so wins
        for v in range(start, start + count):
            one = vectors[v]
            height, width = np.int64(one["h"]), np.int64(one["w"])
            row, column = (one["dst_y"] - (height >> 1)) >> 3, (one["dst_x"] - (width >> 1)) >> 3
            x, y, scale = int(one["motion_x"]), int(one["motion_y"]), int(one["motion_scale"])
            if scale != quarters:
                step = np.float64(np.float32(quarters) / np.float32(max(scale, 1)))
                x, y = int(np.rint(x * step)), int(np.rint(y * step))
            x, y = min(max(x, -most), most), min(max(y, -most), most)
            near, along = min(max(row >> 1, 0), rows - 1), min(max(column >> 1, 0), columns - 1)
            counted[t, near, along] += np.float32(1)
            k = next_past
            if one["source"] >= 0:
                k, x, y = next_future, -x, -y
                next_future += 1
                future[t, near, along] += np.float32(1)
            else:
                next_past += 1
            row, column = min(max(row + margin, 0), tall - margin), min(max(column + margin, 0), wide - margin)
            places[np.uintp(k)] = row * wide + column
            values[np.uintp(k)] = (x & 0xFFFF) | (y << 16)
            heights[np.uintp(k)], widths[np.uintp(k)] = height, width
        field[: nowhere + 1] = _NONE
        for first, last in ((0, futures), (futures, count)):
            for k in range(first, last):
                field[np.uintp(places[k])] = values[k]
            for below in range(0, longest_edge, _CELL):
                for right in range(0 if below else _CELL, longest_edge, _CELL):
                    shift = below // _CELL * wide + right // _CELL
                    for k in range(first, last):
                        is_covered = (heights[k] > below) & (widths[k] > right)
                        field[np.uintp(places[k] + shift if is_covered else nowhere)] = values[k]
        _unpack(field[margin * wide + margin :], wide, t, motion, holes)
        start = ends[one_of]


@kernel
def _unpack(field: NDArray[np.int32], wide: int, t: int, motion: NDArray[np.int16], holes: NDArray[np.float32]) -> None:
    rows, columns = holes.shape[1:]
    single = np.empty(columns, np.int32)
    for row in range(rows):
        found = holes[t, row]
        found[:] = 0
        for i in range(2):
            line = field[(2 * row + i) * wide : (2 * row + i) * wide + 2 * columns]
            for j in range(2):
                x, y = motion[0, i, j, t, row], motion[1, i, j, t, row]
                for c in range(columns):
                    single[c] = line[2 * c + j]
                for c in range(columns):
                    found[c] += np.float32(single[c] == _NONE)
                for c in range(columns):
                    single[c] = np.int32(0) if single[c] == _NONE else single[c]
                for c in range(columns):
                    x[c] = np.int16(single[c])
                for c in range(columns):
                    y[c] = np.int16(single[c] >> np.int32(16))
