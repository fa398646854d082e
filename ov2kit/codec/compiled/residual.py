"""Residuals of motion compensation, how often each of their levels occurs, and their sums over blocks.

Letters: T frames, h x w luma pixels, gh x gw motion cells, hb x wb blocks.
"""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel

# A loop over more than a few arrays is not turned into vector instructions: numba cannot see that none of them
# overlap, and tests of all pairs cost too much. So predictions are made in several short loops.


@kernel
def residual(
    luma: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    motion: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    bits: int,
    margin: int,
    out: NDArray[np.uint8],
) -> None:
    """See `ov2kit.codec.signals.compensate.residual_of`.

    Args:
        luma: (T, h, w).
        reference: (T, h, w).
        motion: (T, gh, gw, 2).
        rows: (h,) cell row of each pixel row, not decreasing.
        columns: (w,) cell column of each pixel column.
        bits: positions are whole multiples of 1 / (1 << bits) pixels.
        margin: pixels that a sample may lie outside.
        out: (T, h, w), filled.
    """
    count, height, width = luma.shape
    cells = motion.shape[2]
    wide = width + 2 * margin + 1
    parts, most = np.float32(1 << bits), np.float32(margin)
    one, half, twice = np.int16(1 << bits), np.int16((1 << (2 * bits)) >> 1), np.int16(2 * bits)
    padded = np.empty((height + 2 * margin + 1) * wide, np.uint8)
    offsets, rights, downs = np.empty(cells, np.int64), np.empty(cells, np.int16), np.empty(cells, np.int16)
    offset, right, down = np.empty(width, np.int64), np.empty(width, np.int16), np.empty(width, np.int16)
    a, b, c, d = (
        np.empty(width, np.int16),
        np.empty(width, np.int16),
        np.empty(width, np.int16),
        np.empty(width, np.int16),
    )
    for t in range(count):
        for y in range(height + 2 * margin + 1):
            own, line = reference[t, min(max(y - margin, 0), height - 1)], padded[y * wide : (y + 1) * wide]
            line[:margin] = own[0]
            line[margin + width :] = own[width - 1]
            inner = line[margin : margin + width]
            for x in range(width):  # a copy of slices takes five times as long
                inner[x] = own[x]
        known, still, whole = -1, True, True
        for y in range(height):
            row = rows[y]
            if row != known:
                known, still, whole = row, True, True
                for cell in range(cells):
                    dx, dy = motion[t, row, cell, 0], motion[t, row, cell, 1]
                    if np.isnan(dx):
                        dx = np.float32(0)
                    if np.isnan(dy):
                        dy = np.float32(0)
                    x_parts = np.int64(np.rint(min(max(dx, -most), most) * parts))
                    y_parts = np.int64(np.rint(min(max(dy, -most), most) * parts))
                    offsets[cell] = (y_parts >> bits) * wide + (x_parts >> bits)
                    rights[cell] = x_parts - ((x_parts >> bits) << bits)
                    downs[cell] = y_parts - ((y_parts >> bits) << bits)
                    still = still and x_parts == 0 and y_parts == 0
                    whole = whole and rights[cell] == 0 and downs[cell] == 0
                if not still:
                    for x in range(width):
                        cell = columns[x]
                        offset[x] = offsets[cell] + x
                        right[x] = rights[cell]
                        down[x] = downs[cell]
            start = (y + margin) * wide + margin
            now, found = luma[t, y], out[t, y]
            if still:
                predicted = padded[start : start + width]
                for x in range(width):
                    found[x] = max(now[x], predicted[x]) - min(now[x], predicted[x])
                continue
            if whole:
                for x in range(width):
                    level = padded[np.uintp(start + offset[x])]
                    found[x] = max(now[x], level) - min(now[x], level)
                continue
            for x in range(width):
                place = np.uintp(start + offset[x])
                a[x] = padded[place]
                b[x] = padded[place + np.uintp(1)]
                c[x] = padded[place + np.uintp(wide)]
                d[x] = padded[place + np.uintp(wide) + np.uintp(1)]
            for x in range(width):
                a[x] = a[x] * (one - right[x]) + b[x] * right[x]
            for x in range(width):
                c[x] = c[x] * (one - right[x]) + d[x] * right[x]
            for x in range(width):
                a[x] = (a[x] * (one - down[x]) + c[x] * down[x] + half) >> twice
            for x in range(width):
                level = np.uint8(a[x])
                found[x] = max(now[x], level) - min(now[x], level)


@kernel
def levels(values: NDArray[np.uint8], out: NDArray[np.int64]) -> None:
    """How often each level occurs.

    Args:
        values: (rows, N).
        out: (rows, 256), filled.
    """
    # Four counters in turn: one that waits for its last sum to be stored takes five times as long.
    found = np.empty((4, 256), np.int64)
    size = values.shape[1] // 4 * 4
    for row in range(len(values)):
        line = values[row]
        found[:] = 0
        for i in range(0, size, 4):
            found[0, line[i]] += 1
            found[1, line[i + 1]] += 1
            found[2, line[i + 2]] += 1
            found[3, line[i + 3]] += 1
        for i in range(size, len(line)):
            found[0, line[i]] += 1
        for level in range(256):
            out[row, level] = found[0, level] + found[1, level] + found[2, level] + found[3, level]


@kernel
def clipped_sums(residuals: NDArray[np.uint8], full: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Sums over blocks of min(residual, full), exact before they are rounded.

    Args:
        residuals: (T, h, w).
        full: (T,) not negative.
        out: (T, hb, wb), filled; h and w are multiples of hb and wb.
    """
    count, height, width = residuals.shape
    rows, columns = out.shape[1], out.shape[2]
    tall, wide = height // rows, width // columns
    capped, above = np.empty(width, np.int32), np.empty(width, np.int32)
    for t in range(count):
        top = np.int32(np.ceil(full[t]))
        over = np.float64(top) - np.float64(full[t])
        for row in range(rows):
            capped[:] = 0
            above[:] = 0
            for y in range(row * tall, (row + 1) * tall):
                line = residuals[t, y]
                for x in range(width):
                    capped[x] += min(np.int32(line[x]), top)
                    above[x] += np.int32(line[x] >= top)
            for column in range(columns):
                total, many = 0, 0
                for x in range(column * wide, (column + 1) * wide):
                    total += capped[x]
                    many += above[x]
                out[t, row, column] = np.float32(total - many * over)
