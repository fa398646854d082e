"""PlaneBlocks: blocks of a scaled plane, each made from its own patch of the source.

A block is a product: weights of rows x patch x weights of columns, with swscale's rounding in between. All
numbers are whole, and small enough to be exact in the floating point that they are multiplied in: what comes
out depends on no machine, no number of threads and no other block.
Letters: n blocks of s x s pixels, h x w pixels of the source for one of them.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike

from ov2kit.codec.video.bilinear import CENTER, bilinear_weights

Halves = tuple[tuple[slice, slice], ...]  # of each half: pixels of the patch, pixels of the block
Wanted = tuple[tuple[int, ...], DTypeLike]
_LINE_PARTS, _LINE_TAPS = 1 << 14, 4  # what swscale's weights along a line add up to, and how many it keeps at least
_COLUMN_PARTS, _COLUMN_TAPS = 1 << 12, 2
_BITS_OF_LINES = 15


@dataclass(frozen=True)
class PlaneBlocks:
    """How blocks come out of planes of one size.

    Args:
        top: (block rows,) first row of their patches.
        left: (block columns,) first column of their patches.
        down: (block rows, s, h) float64 weights.
        across: (block columns, w, s) float32 weights.
        halves: for rows and for columns, which pixels of a patch each half of a block is made from: weights of
            others are 0.
    """

    top: np.ndarray
    left: np.ndarray
    down: np.ndarray
    across: np.ndarray
    halves: tuple[Halves, Halves]

    @staticmethod
    @lru_cache(32)
    def of(
        source: tuple[int, int], target: tuple[int, int], side: int, depth: int, center: tuple[int, int] = (CENTER,) * 2
    ) -> "PlaneBlocks":
        """Planes of `source` (height, width) scaled to `target`, in blocks of `side` pixels.

        Args:
            depth: bits of a pixel.
            center: (y, x) of the first pixel, see `bilinear_weights`.
        """
        rows = bilinear_weights(source[0], target[0], _COLUMN_PARTS, _COLUMN_TAPS, center[0])
        columns = bilinear_weights(source[1], target[1], _LINE_PARTS, _LINE_TAPS, center[1])
        (top, down), (left, across) = _cut(*rows, source[0], side), _cut(*columns, source[1], side)
        halves = _halves(down), _halves(across)
        across = across.swapaxes(1, 2).astype(np.float32) / (1 << line_shift(depth))
        return PlaneBlocks(top, left, down.astype(np.float64), across, halves)

    def wanted(self, n: int) -> list[Wanted]:
        """The arrays that n blocks need, patches first, for `in_one_piece`."""
        (_, side, h), w = self.down.shape, self.across.shape[1]
        return [
            ((n, h, w), np.float32),
            ((n, w, side), np.float32),
            ((n, h, side), np.float32),
            ((n, side, h), np.float64),
            ((n, h, side), np.float64),
            ((n, side, side), np.float64),
            ((n, side, side), np.int32),
        ]

    def patches(self, plane: np.ndarray) -> np.ndarray:
        """(rows, columns, h, w) view of a contiguous plane: the patch at each place where one fits."""
        h, w = self.down.shape[2], self.across.shape[1]
        down, right = plane.strides
        shape = (plane.shape[0] - h + 1, plane.shape[1] - w + 1, h, w)
        return np.ndarray(shape, plane.dtype, plane.data, 0, (down, right, down, right))

    def scaled(self, room: list[np.ndarray], rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(n, s, s) int32 blocks of (n,) rows and columns, with 19 bits after the point, from the patches in `room`."""
        n = len(rows)
        patches, across, lines, down, wide, sums, whole = (each[:n] for each in room)
        np.take(self.across, columns, axis=0, out=across, mode="clip")
        for pixels, part in self.halves[1]:
            np.matmul(patches[:, :, pixels], across[:, pixels, part], out=lines[:, :, part])
        np.floor(lines, out=lines)
        np.copyto(wide, lines)  # up to 27 bits from here on, more than float32 holds
        np.take(self.down, rows, axis=0, out=down, mode="clip")
        for pixels, part in self.halves[0]:
            np.matmul(down[:, part, pixels], wide[:, pixels], out=sums[:, part])
        np.copyto(whole, sums, casting="unsafe")
        return whole


@dataclass(frozen=True)
class PlaneTables:
    """Which pixels of a plane each line of it is made from when it is scaled, and with what weights; all int32.

    Args:
        rows: (H,) first pixels and (H, taps) weights.
        columns: (W,) and (W, taps).
    """

    rows: tuple[np.ndarray, np.ndarray]
    columns: tuple[np.ndarray, np.ndarray]

    @staticmethod
    @lru_cache(32)
    def of(source: tuple[int, int], target: tuple[int, int], center: tuple[int, int] = (CENTER,) * 2) -> "PlaneTables":
        """See `PlaneBlocks.of`."""
        rows = bilinear_weights(source[0], target[0], _COLUMN_PARTS, _COLUMN_TAPS, center[0])
        columns = bilinear_weights(source[1], target[1], _LINE_PARTS, _LINE_TAPS, center[1])
        return PlaneTables(_without_zeros(*rows), _without_zeros(*columns))


def line_shift(depth: int) -> int:
    """Bits that sums along lines lose, where pixels have so many."""
    return depth + _LINE_PARTS.bit_length() - 1 - _BITS_OF_LINES


def in_one_piece(wanted: list[Wanted]) -> list[np.ndarray]:
    """Arrays without values, in one piece of memory: several that are given back are mapped again by the next call."""
    sizes = [math.prod(shape) * np.dtype(kind).itemsize for shape, kind in wanted]
    starts = np.cumsum([0, *(-(-size // 64) * 64 for size in sizes)])
    memory = np.empty(starts[-1], dtype=np.uint8)
    return [
        memory[start : start + size].view(kind).reshape(shape)
        for start, size, (shape, kind) in zip(starts.tolist(), sizes, wanted, strict=False)
    ]


def _cut(first: np.ndarray, weights: np.ndarray, source: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixels and weights of a whole line -> (blocks,) first pixels of patches, (blocks, side, pixels) weights."""
    taps, target = weights.shape[1], len(first)
    ends = first.reshape(-1, side)[:, [0, -1]]
    reach = int((ends[:, 1] - ends[:, 0]).max()) + taps
    start = np.minimum(ends[:, 0], source - reach)
    dense = np.zeros((target, reach), dtype=np.int64)
    place = first - start.repeat(side)
    dense[np.arange(target)[:, None], place[:, None] + np.arange(taps)] = weights
    return start, dense.reshape(-1, side, reach)


def _without_zeros(first: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As given, but for weights at the end that are 0 for every pixel."""
    taps = int(np.flatnonzero(weights.any(axis=0)).max()) + 1
    return first.astype(np.int32), np.ascontiguousarray(weights[:, :taps], dtype=np.int32)


def _halves(weights: np.ndarray) -> Halves:
    """See `PlaneBlocks.halves`; weights are (blocks, side, pixels)."""
    side = weights.shape[1]
    found = []
    for part in (slice(0, side // 2), slice(side // 2, side)):
        used = np.flatnonzero(weights[:, part].any(axis=(0, 1)))
        if len(used):  # a block of one pixel has no first half
            found.append((slice(int(used[0]), int(used[-1]) + 1), part))
    return tuple(found)
