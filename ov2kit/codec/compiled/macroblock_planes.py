"""Planes of features: what quantizers tell, and means over the macroblocks around.

Letters: n planes, T frames, R x C macroblocks.
"""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel


@kernel
def quantizer_features(quantizer: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """See `ov2kit.codec.signals.macroblocks`.

    Args:
        quantizer: (T, N) whole numbers, in the order in which they are coded.
        out: (6, T, N), filled.
    """
    count, size = quantizer.shape
    eight, nine, two, three, one, zero = (
        np.float32(8), np.float32(9), np.float32(2), np.float32(3), np.float32(1), np.float32(0),
    )  # fmt: skip
    edged = np.zeros(size + 8, np.float32)
    for t in range(count):
        own, changed, step, large = quantizer[t], out[0, t], out[1, t], out[2, t]
        less, after, nearby = out[3, t], out[4, t], out[5, t]
        step[0] = 0
        for i in range(1, size):
            step[i] = own[i] - own[i - 1]
        for i in range(size):
            changed[i] = one if step[i] != zero else zero
        for i in range(size):
            step[i] = min(max(step[i] / eight, -two), two)
        for i in range(size):
            large[i] = abs(step[i])
        total = np.int64(0)
        for i in range(size):
            total += np.int64(own[i])
        mean = np.float32(total) / np.float32(size)
        for i in range(size):
            less[i] = min(max((own[i] - mean) / eight, -three), three)
        for i in range(size - 1):
            after[i] = changed[i + 1]
        after[size - 1] = 0
        middle = edged[4 : 4 + size]
        for i in range(size):
            middle[i] = changed[i]
        nearby[:] = 0
        for shift in range(9):
            line = edged[shift : shift + size]
            for i in range(size):
                nearby[i] += line[i]
        for i in range(size):
            nearby[i] /= nine


@kernel
def around(planes: NDArray[np.float32], which: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    """See `ov2kit.codec.signals.macroblocks`; sums in the order in which it makes them.

    Args:
        planes: (n, T, R, C).
        which: (m,) planes to take.
        out: (m, T, R, C), filled.
    """
    _, count, rows, columns = planes.shape
    size = rows * columns
    sums, firsts, known = np.empty(size, np.float32), np.empty(rows, np.float32), np.empty((rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            tall = 1 + (row > 0) + (row + 1 < rows)
            known[row, column] = tall * (1 + (column > 0) + (column + 1 < columns))
    area = known.reshape(-1)
    for k in range(len(which)):
        for t in range(count):
            own, to = planes[which[k], t].reshape(-1), out[k, t].reshape(-1)
            below = own[columns:]
            for i in range(len(below)):
                sums[i] = own[i] + below[i]
            for i in range(len(below), size):
                sums[i] = own[i]
            under = sums[columns:]
            for i in range(len(under)):
                under[i] += own[i]
            for i in range(size - 1):
                to[i] = sums[i] + sums[i + 1]
            for row in range(rows):
                to[(row + 1) * columns - 1] = sums[(row + 1) * columns - 1]
            for row in range(rows):
                firsts[row] = to[row * columns]
            for i in range(1, size):
                to[i] += sums[i - 1]
            for row in range(rows):
                to[row * columns] = firsts[row]
            for i in range(size):
                to[i] /= area[i]
