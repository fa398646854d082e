"""Canvases filled with the best blocks of their stretches of time. Letters: N candidates, P P-canvases."""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel


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
            start = np.searchsorted(frames, ranges[canvas, step, 0])
            stop = np.searchsorted(frames, ranges[canvas, step, 1], side="right")
            count = 0
            for i in range(start, stop):
                if turn[i] < 0 and scores[i] > -np.inf:
                    near[count] = scores[i]
                    count += 1
            least, spare = -np.inf, 0  # all of those above `least` are taken, and so many of those equal to it
            if count > room:
                least = np.partition(near[:count], count - room)[count - room]
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
