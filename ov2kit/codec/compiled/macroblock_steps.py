"""How the vectors of macroblocks differ from those around them.

Letters: T frames, R x C macroblocks of 2 x 2 motion cells.
"""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel


@kernel
def motion_steps(
    motion: NDArray[np.int16],
    lengths: NDArray[np.float32],
    offs: NDArray[np.float32],
    spreads: NDArray[np.float32],
    around: NDArray[np.float32],
) -> None:
    """See `ov2kit.codec.signals.macroblock_steps.motion_steps`.

    Args:
        motion: (2, 2, 2, T, R, C).
        lengths: (T, R, C), filled; likewise the others.
        offs: (T, R, C).
        spreads: (T, R, C).
        around: (2, 2, T, R, C).
    """
    count, rows, columns = motion.shape[3:]
    size = rows * columns
    left, above = np.zeros((2, 2, size), np.int16), np.zeros((2, 2, size), np.int16)
    corner = np.zeros((2, size), np.int16)
    length, off, part = np.empty(size, np.int16), np.empty(size, np.int16), np.empty(size, np.int16)
    # A picture's plane at a time: of a slice of several axes the compiler does not know that numbers lie side by side.
    for t in range(count):
        for axis in range(2):
            for i in range(2):
                _shift(motion[axis, i, 1, t].reshape(-1), 1, left[axis, i])
                left[axis, i, ::columns] = 0
            for j in range(2):
                _shift(motion[axis, 1, j, t].reshape(-1), columns, above[axis, j])
            to, cells = corner[axis], above[axis, 0]
            for k in range(size - 1):
                to[k] = cells[k + 1]
            to[columns - 1 :: columns] = 0
        # Off the prediction: the median of left, above and right above, or no motion.
        x, y = motion[0, 0, 0, t].reshape(-1), motion[1, 0, 0, t].reshape(-1)
        for k in range(size):
            length[k] = abs(x[k]) + abs(y[k])
        _off_median(x, left[0, 0], above[0, 0], corner[0], off)
        _off_median(y, left[1, 0], above[1, 0], corner[1], part)
        for k in range(size):
            off[k] += part[k]
        _cap_where_still(left[0, 0], left[1, 0], length, off)
        _cap_where_still(above[0, 0], above[1, 0], length, off)
        _put(length, lengths[t].reshape(-1))
        _put(off, offs[t].reshape(-1))
        # The largest step inside.
        off[:] = 0
        for i, j in ((1, 1), (0, 1), (1, 0)):
            _step(x, y, motion[0, i, j, t].reshape(-1), motion[1, i, j, t].reshape(-1), part)
            for k in range(size):
                off[k] = max(off[k], part[k])
        _put(off, spreads[t].reshape(-1))
        # To each cell from that on its left and from that above.
        for i in range(2):
            for j in range(2):
                x, y = motion[0, i, j, t].reshape(-1), motion[1, i, j, t].reshape(-1)
                if j:
                    _step(x, y, motion[0, i, 0, t].reshape(-1), motion[1, i, 0, t].reshape(-1), part)
                else:
                    _step(x, y, left[0, i], left[1, i], part)
                    part[::columns] = 0
                if i:
                    _step(x, y, motion[0, 0, j, t].reshape(-1), motion[1, 0, j, t].reshape(-1), off)
                else:
                    _step(x, y, above[0, j], above[1, j], off)
                    off[:columns] = 0
                to = around[i, j, t].reshape(-1)
                for k in range(size):
                    to[k] = np.int32(part[k]) + np.int32(off[k])


@kernel
def _shift(cells: NDArray[np.int16], places: int, out: NDArray[np.int16]) -> None:
    """What is so many places before each; the first ones of `out` stay."""
    to = out[places:]
    for k in range(len(to)):
        to[k] = cells[k]


@kernel
def _off_median(
    own: NDArray[np.int16],
    left: NDArray[np.int16],
    above: NDArray[np.int16],
    right: NDArray[np.int16],
    out: NDArray[np.int16],
) -> None:
    for k in range(len(out)):
        low, high = min(left[k], above[k]), max(left[k], above[k])
        out[k] = abs(own[k] - max(low, min(high, right[k])))


@kernel
def _cap_where_still(
    x: NDArray[np.int16], y: NDArray[np.int16], most: NDArray[np.int16], out: NDArray[np.int16]
) -> None:
    for k in range(len(out)):
        out[k] = min(out[k], most[k]) if (x[k] | y[k]) == 0 else out[k]


@kernel
def _step(
    x: NDArray[np.int16],
    y: NDArray[np.int16],
    from_x: NDArray[np.int16],
    from_y: NDArray[np.int16],
    out: NDArray[np.int16],
) -> None:
    for k in range(len(out)):
        out[k] = abs(x[k] - from_x[k]) + abs(y[k] - from_y[k])


@kernel
def _put(values: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    for k in range(len(out)):
        out[k] = values[k]
