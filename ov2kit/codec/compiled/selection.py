"""Canvases filled with the best blocks of their stretches of time. Letters: T frames, N candidates, P P-canvases."""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel


# To compile numpy's partition and searchsorted would take longer than all else here.
@kernel
def _put_in_place(values: NDArray[np.float64], place: int) -> None:
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
def _first_from(frames: NDArray[np.int64], frame: int) -> int:
    """Place of the first of ascending frames that is not before `frame`."""
    low, high = 0, len(frames)
    while low < high:
        middle = (low + high) // 2
        if frames[middle] < frame:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def fill_canvases(
    frames: NDArray[np.int64],
    scores: NDArray[np.float64],
    ranges: NDArray[np.int64],
    most: int,
    turn: NDArray[np.int64],
) -> None:
    """See `ov2kit.codec.selection.stratify.stratify`.

    Args:
        frames: (N,) ascending.
        scores: (N,) without NaN; -inf marks what is no candidate.
        ranges: (P, steps, 2) first and last frame that each canvas takes from, step by step.
        most: blocks of a canvas.
        turn: (N,), filled: canvas * steps + step of each candidate that was chosen, -1 of the others.
    """
    canvases, steps, _ = ranges.shape
    near = np.empty(len(scores), np.float64)
    turn[:] = -1
    for canvas in range(canvases):
        room = most
        for step in range(steps):
            if room == 0:
                break
            start = _first_from(frames, ranges[canvas, step, 0])
            stop = _first_from(frames, ranges[canvas, step, 1] + 1)
            count = 0
            for i in range(start, stop):
                if turn[i] < 0 and scores[i] > -np.inf:
                    near[count] = scores[i]
                    count += 1
            least, spare = -np.inf, 0  # all of those above `least` are taken, and so many of those equal to it
            if count > room:
                _put_in_place(near[:count], count - room)
                least = near[count - room]
                spare = room
                for i in range(count):
                    spare -= near[i] > least
            for i in range(start, stop):
                if turn[i] >= 0:
                    continue
                is_taken = scores[i] > least
                if spare and scores[i] == least:
                    spare -= 1
                    is_taken = True
                if is_taken:
                    turn[i] = canvas * steps + step
                    room -= 1


@kernel
def stratify(
    frames: NDArray[np.int64],
    scores: NDArray[np.float64],
    weights: NDArray[np.float64],
    blocks_per_canvas: int,
    turn: NDArray[np.int64],
    canvas: NDArray[np.int64],
    focus: NDArray[np.int64],
) -> None:
    """See `ov2kit.codec.selection.stratify.stratify`.

    Args:
        frames: (N,) ascending.
        scores: (N,) without NaN; -inf marks what is no candidate.
        weights: (T,) positive for frames with candidates, 0 for the others.
        blocks_per_canvas: how many blocks fill a canvas.
        turn: (N,), filled, as are the others; see `StratifiedChoice`.
        canvas: (N,).
        focus: (P, 3).
    """
    steps, canvases, count = 3, len(focus), len(weights)
    first, last = count - 1, 0
    cumulated, total = np.empty(count, np.float64), 0.0
    for frame in range(count):
        if weights[frame] > 0:
            first, last = min(first, frame), max(last, frame)
        total += weights[frame]
        cumulated[frame] = total
    for frame in range(count):
        cumulated[frame] /= max(total, 1e-300)
    candidates = 0
    for score in scores:
        candidates += score > -np.inf
    used = min(max((candidates + blocks_per_canvas - 1) // blocks_per_canvas, 1), max(canvases, 1))
    ranges = np.empty((canvases, steps, 2), np.int64)
    for p in range(canvases):
        for place, edge in enumerate((0.0, 1.0, 0.5)):
            below = 0
            while below < count and cumulated[below] < (p + edge) / used:
                below += 1
            focus[p, place] = min(max(below, first), last)
        low, high, center = focus[p]
        radius = high + 1 - low
        ranges[p, 0, 0], ranges[p, 0, 1] = low, high
        ranges[p, 1, 0], ranges[p, 1, 1] = center - radius, center + radius
        ranges[p, 2, 0], ranges[p, 2, 1] = first, last
    fill_canvases(frames, scores, ranges, min(blocks_per_canvas, len(scores)), turn)
    for i in range(len(turn)):
        canvas[i] = turn[i] // steps if turn[i] >= 0 else -1


@kernel
def gather_blocks(canvas: NDArray[np.int64], lots: int, rows: int, columns: int, out: NDArray[np.int64]) -> int:
    """Blocks lot by lot, each in its order.

    Args:
        canvas: (N,) lot of each block, blocks in (frame, row, column) order; -1 for none.
        lots: how many there are.
        rows: of blocks in a frame.
        columns: of blocks in a frame.
        out: (places, 3), filled with frame, row and column; -1 where there is no block.

    Returns:
        How many have a lot.
    """
    out[:] = -1
    at = 0
    for lot in range(lots):
        for block in range(len(canvas)):
            if canvas[block] == lot:
                out[at, 0], out[at, 1], out[at, 2] = block // (rows * columns), block // columns % rows, block % columns
                at += 1
    return at
