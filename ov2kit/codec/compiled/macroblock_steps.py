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
    left, above = np.zeros((2, 2, columns), np.int16), np.zeros((2, 2, columns), np.int16)
    corner = np.zeros((2, columns), np.int16)
    length, off, part = np.empty(columns, np.int16), np.empty(columns, np.int16), np.empty(columns, np.int16)
    # Rows one by one: in a slice of several axes the compiler does not know that numbers lie side by side.
    for t in range(count):
        for row in range(rows):
            for axis in range(2):
                for i in range(2):
                    to, cells = left[axis, i], motion[axis, i, 1, t, row]
                    for c in range(columns - 1):
                        to[c + 1] = cells[c]
                if row:
                    for j in range(2):
                        to, cells = above[axis, j], motion[axis, 1, j, t, row - 1]
                        for c in range(columns):
                            to[c] = cells[c]
                else:
                    above[axis] = 0
                to, cells = corner[axis], above[axis, 0]
                for c in range(columns - 1):
                    to[c] = cells[c + 1]
            # Off the prediction: the median of left, above and right above, or no motion.
            x, y = motion[0, 0, 0, t, row], motion[1, 0, 0, t, row]
            for c in range(columns):
                length[c] = abs(x[c]) + abs(y[c])
            _off_median(x, left[0, 0], above[0, 0], corner[0], off)
            _off_median(y, left[1, 0], above[1, 0], corner[1], part)
            for c in range(columns):
                off[c] += part[c]
            _cap_where_still(left[0, 0], left[1, 0], length, off)
            _cap_where_still(above[0, 0], above[1, 0], length, off)
            _put(length, lengths[t, row])
            _put(off, offs[t, row])
            # The largest step inside.
            off[:] = 0
            for i, j in ((1, 1), (0, 1), (1, 0)):
                _step(x, y, motion[0, i, j, t, row], motion[1, i, j, t, row], part)
                for c in range(columns):
                    off[c] = max(off[c], part[c])
            _put(off, spreads[t, row])
            # To each cell from that on its left and from that above.
            for i in range(2):
                for j in range(2):
                    x, y = motion[0, i, j, t, row], motion[1, i, j, t, row]
                    if j:
                        _step(x, y, motion[0, i, 0, t, row], motion[1, i, 0, t, row], part)
                    else:
                        _step(x, y, left[0, i], left[1, i], part)
                        part[0] = 0
                    if i:
                        _step(x, y, motion[0, 0, j, t, row], motion[1, 0, j, t, row], off)
                    elif row:
                        _step(x, y, above[0, j], above[1, j], off)
                    else:
                        off[:] = 0
                    to = around[i, j, t, row]
                    for c in range(columns):
                        to[c] = np.int32(part[c]) + np.int32(off[c])


@kernel
def _off_median(
    own: NDArray[np.int16],
    left: NDArray[np.int16],
    above: NDArray[np.int16],
    right: NDArray[np.int16],
    out: NDArray[np.int16],
) -> None:
    for c in range(len(out)):
        low, high = min(left[c], above[c]), max(left[c], above[c])
        out[c] = abs(own[c] - max(low, min(high, right[c])))


@kernel
def _cap_where_still(
    x: NDArray[np.int16], y: NDArray[np.int16], most: NDArray[np.int16], out: NDArray[np.int16]
) -> None:
    for c in range(len(out)):
        out[c] = min(out[c], most[c]) if (x[c] | y[c]) == 0 else out[c]


@kernel
def _step(
    x: NDArray[np.int16],
    y: NDArray[np.int16],
    from_x: NDArray[np.int16],
    from_y: NDArray[np.int16],
    out: NDArray[np.int16],
) -> None:
    for c in range(len(out)):
        out[c] = abs(x[c] - from_x[c]) + abs(y[c] - from_y[c])


@kernel
def _put(values: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    for c in range(len(out)):
        out[c] = values[c]
