"""Percentiles of rows, linear between ranks. Letters: R rows, N values of a row."""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel


# numpy's partition would take longer to compile than all else here.
@kernel
def _put_in_place(values: NDArray[np.float32], place: int) -> None:
    """Reorder values so that the one at `place` is where sorting would put it, none above it before it."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot, i, j = values[(low + high) // 2], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if j < place < i:
            return
        low, high = (low, j) if place <= j else (i, high)


@kernel
def counted_percentiles(
    values: NDArray[np.float32], counted: NDArray[np.bool_], from_top: float, out: NDArray[np.float32]
) -> None:
    """See `ov2kit.codec.scoring.maps.percentile`.

    Args:
        values: (R, N), without NaN where they count.
        counted: (R, N).
        from_top: share of the values above the percentile.
        out: (R,), filled.
    """
    room = np.empty(values.shape[1], np.float32)
    for row in range(len(values)):
        count = 0
        for i in range(values.shape[1]):
            if counted[row, i]:
                room[count] = values[row, i]
                count += 1
        if count == 0:
            out[row] = 0
            continue
        rank = from_top * np.float64(count - 1)
        whole = np.floor(rank)
        place = count - 1 - int(whole)
        _put_in_place(room[:count], place)
        high = low = room[place]
        if place:
            low = room[0]
            for i in range(1, place):
                low = max(low, room[i])
        out[row] = high + (low - high) * np.float32(rank - whole)


@kernel
def level_percentiles(
    levels: NDArray[np.int64], counts: NDArray[np.int64], share: float, out: NDArray[np.float32]
) -> None:
    """Percentiles of whole numbers from how often each occurs; 0 where nothing counts.

    Args:
        levels: (R, 256) how often each level occurs.
        counts: (R,) how many values count; those that do not are 0.
        share: of the values below the percentile.
        out: (R,), filled.
    """
    for row in range(len(levels)):
        count = counts[row]
        if count <= 0:
            out[row] = 0
            continue
        rank = np.float64(count - 1) * share
        whole = np.int64(np.floor(rank))
        upper = min(whole + 1, count - 1)
        below = count - levels[row].sum()  # what does not count is taken off level 0
        low = high = 0
        for level in range(256):
            below += levels[row, level]
            low += below <= whole
            high += below <= upper
        lower, higher = np.float64(min(low, 255)), np.float64(min(high, 255))
        out[row] = np.float32(lower + (higher - lower) * (rank - np.floor(rank)))
