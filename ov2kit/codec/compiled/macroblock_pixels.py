"""What luma and its moved reference tell of each macroblock.

Letters: T frames, R x C macroblocks of 4 x 4 luma pixels and of 2 x 2 motion cells.
"""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel

_EDGE = 4  # luma pixels per macroblock edge
_PARTS, _BITS = 8, 3  # of a luma pixel


@kernel
def pixel_means(
    luma: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    motion: NDArray[np.int16],
    margin: int,
    out: NDArray[np.float32],
) -> None:
    """See `ov2kit.codec.signals.macroblock_pixels.pixel_means`.

    Args:
        luma: (T, 4 R, 4 C).
        reference: as `luma`.
        motion: (2, 2, 2, T, R, C) as in `MacroblockSignals`; (2, 2, 2, 0, R, C): nothing moves.
        margin: luma pixels that a sample may lie outside.
        out: (7, T, R, C), filled: means of the residual, of the difference and the smaller of both, mean square, share
            of pixels with a residual, its maximum, mean of the gradient.
    """
    count, height, width = luma.shape
    rows, columns = height // _EDGE, width // _EDGE
    wide = width + 2 * margin + 1
    padded = np.empty((height + 2 * margin + 1) * wide, np.uint8)
    cells = 4 * columns
    # One place more: the last cell may not move, and is written all the same.
    place, first = np.empty(cells + 1, np.int32), np.empty(cells + 1, np.int32)
    right, down = np.empty(cells + 1, np.int16), np.empty(cells + 1, np.int16)
    xs, ys = np.empty(columns, np.int16), np.empty(columns, np.int16)
    near, lines = np.empty((9, cells), np.int16), np.empty((6, cells), np.int16)
    predicted, levels = np.empty(_EDGE * width, np.uint8), np.empty(_EDGE * width, np.uint8)
    steps = np.zeros(_EDGE * width, np.uint8)
    low, small, large = np.empty(width, np.int16), np.empty(width, np.uint8), np.empty(width, np.int32)
    for t in range(count):
        is_padded = False
        for row in range(rows):
            now = luma[t, row * _EDGE : (row + 1) * _EDGE].reshape(-1)
            before = reference[t, row * _EDGE : (row + 1) * _EDGE].reshape(-1)
            moving = 0
            if motion.shape[3]:
                moving = _moving(motion, t, row, margin, wide, width, xs, ys, place, first, right, down)
            _differences(now, before, levels)
            _sums(levels, width, low)
            _put_means(low, out[1, t, row])
            if moving:
                if not is_padded:
                    _pad(reference[t], margin, padded)
                    is_padded = True
                start = (row * _EDGE + margin) * wide + margin
                for x in range(len(before)):  # a copy of slices takes long to compile, too
                    predicted[x] = before[x]
                _move(padded[start - margin * wide - margin :], margin * wide + margin, wide, width,
                      first[:moving], place[:moving], right, down, near, lines, predicted)  # fmt: skip
                _differences(now, predicted, levels)
                _sums(levels, width, low)
            _put_means(low, out[0, t, row])
            _squares(levels, width, large)
            one = out[3, t, row]
            for c in range(columns):
                i = c * _EDGE
                one[c] = np.float32(large[i] + large[i + 1] + large[i + 2] + large[i + 3]) / np.float32(16)
            _counts(levels, width, small)
            one = out[4, t, row]
            for c in range(columns):
                i = c * _EDGE
                one[c] = np.float32(small[i] + small[i + 1] + small[i + 2] + small[i + 3]) / np.float32(16)
            _maxima(levels, width, small)
            one = out[5, t, row]
            for c in range(columns):
                i = c * _EDGE
                one[c] = max(small[i], small[i + 1], small[i + 2], small[i + 3])
            _put_gradient(luma[t], row, steps, levels, low, out[6, t, row])
            one, other, least = out[0, t, row], out[1, t, row], out[2, t, row]
            for c in range(columns):
                least[c] = min(one[c], other[c])


@kernel
def _pad(picture: NDArray[np.uint8], margin: int, padded: NDArray[np.uint8]) -> None:
    """Repeat the border, one pixel more to the right and below."""
    height, width = picture.shape
    wide = width + 2 * margin + 1
    for y in range(height + 2 * margin + 1):
        own = picture[min(max(y - margin, 0), height - 1)]
        line = padded[y * wide : (y + 1) * wide]
        line[:margin] = own[0]
        line[margin + width :] = own[width - 1]
        inner = line[margin : margin + width]
        for x in range(width):  # a copy of slices takes five times as long
            inner[x] = own[x]


@kernel
def _moving(
    motion: NDArray[np.int16],
    t: int,
    row: int,
    margin: int,
    wide: int,
    width: int,
    xs: NDArray[np.int16],
    ys: NDArray[np.int16],
    place: NDArray[np.int32],
    first: NDArray[np.int32],
    right: NDArray[np.int16],
    down: NDArray[np.int16],
) -> int:
    """How many cells of a row of macroblocks move, where each is, where it comes from, and by what eighths."""
    most, count = np.int16(margin * _PARTS), 0
    one = np.int16(1)
    for i in range(2):
        for j in range(2):
            # From sixteenths of a luma pixel to eighths: halves to even.
            x, y = motion[0, i, j, t, row], motion[1, i, j, t, row]
            for c in range(len(x)):
                xs[c] = min(max(np.int16(((x[c] >> one) & one) + x[c]) >> one, -most), most)
            for c in range(len(x)):
                ys[c] = min(max(np.int16(((y[c] >> one) & one) + y[c]) >> one, -most), most)
            # What stays is overwritten by the next: a branch for it would be guessed wrong too often.
            own = 2 * i * width + 2 * j
            for c in range(len(x)):
                place[np.uintp(count)] = own + _EDGE * c
                right[np.uintp(count)] = xs[c]
                down[np.uintp(count)] = ys[c]
                count += (xs[c] | ys[c]) != 0
    bits, parts = np.int16(_BITS), np.int16(_PARTS - 1)
    for k in range(count):
        line = np.int32(place[k] >= 2 * width) * np.int32(2)
        first[k] = np.int32(line + (down[k] >> bits)) * np.int32(wide) + place[k] - line * np.int32(width)
    for k in range(count):
        first[k] += right[k] >> bits
    for k in range(count):
        right[k] &= parts
    for k in range(count):
        down[k] &= parts
    return count


@kernel
def _move(
    padded: NDArray[np.uint8],
    start: int,
    wide: int,
    width: int,
    first: NDArray[np.int32],
    place: NDArray[np.int32],
    right: NDArray[np.int16],
    down: NDArray[np.int16],
    near: NDArray[np.int16],
    lines: NDArray[np.int16],
    out: NDArray[np.uint8],
) -> None:
    """Predict the 2 x 2 pixels of each moving cell: they lie between nine of the reference."""
    count = len(first)
    eight, half = np.int16(_PARTS), np.int16(_PARTS * _PARTS // 2)
    for dy in range(3):
        for dx in range(3):
            found, own = near[3 * dy + dx], start + dy * wide + dx
            for k in range(count):
                found[k] = padded[np.uintp(first[k] + own)]
    for i in range(6):
        a, b, to = near[i // 2 * 3 + i % 2], near[i // 2 * 3 + i % 2 + 1], lines[i]
        for k in range(count):
            to[k] = a[k] * (eight - right[k]) + b[k] * right[k]
    for i in range(4):
        a, b, to = lines[i], lines[i + 2], near[i]
        for k in range(count):
            to[k] = (a[k] * (eight - down[k]) + b[k] * down[k] + half) >> np.int16(2 * _BITS)
    for i in range(4):
        found, own = near[i], i // 2 * width + i % 2
        for k in range(count):
            out[np.uintp(place[k] + own)] = found[k]


@kernel
def _differences(one: NDArray[np.uint8], other: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    for x in range(len(out)):
        out[x] = max(one[x], other[x]) - min(one[x], other[x])


@kernel
def _sums(levels: NDArray[np.uint8], width: int, out: NDArray[np.int16]) -> None:
    """Of the four pixels of each column; likewise below."""
    a, b, c, d = levels[:width], levels[width : 2 * width], levels[2 * width : 3 * width], levels[3 * width :]
    for x in range(width):
        out[x] = np.int16(a[x]) + np.int16(b[x]) + np.int16(c[x]) + np.int16(d[x])


@kernel
def _squares(levels: NDArray[np.uint8], width: int, out: NDArray[np.int32]) -> None:
    a, b, c, d = levels[:width], levels[width : 2 * width], levels[2 * width : 3 * width], levels[3 * width :]
    for x in range(width):
        out[x] = np.int32(a[x]) * np.int32(a[x]) + np.int32(b[x]) * np.int32(b[x])
    for x in range(width):
        out[x] += np.int32(c[x]) * np.int32(c[x]) + np.int32(d[x]) * np.int32(d[x])


@kernel
def _counts(levels: NDArray[np.uint8], width: int, out: NDArray[np.uint8]) -> None:
    a, b, c, d = levels[:width], levels[width : 2 * width], levels[2 * width : 3 * width], levels[3 * width :]
    one = np.uint8(1)
    for x in range(width):
        out[x] = min(a[x], one) + min(b[x], one) + min(c[x], one) + min(d[x], one)


@kernel
def _maxima(levels: NDArray[np.uint8], width: int, out: NDArray[np.uint8]) -> None:
    a, b, c, d = levels[:width], levels[width : 2 * width], levels[2 * width : 3 * width], levels[3 * width :]
    for x in range(width):
        out[x] = max(a[x], b[x], c[x], d[x])


@kernel
def _put_means(columns: NDArray[np.int16], out: NDArray[np.float32]) -> None:
    for c in range(len(out)):
        i = c * _EDGE
        out[c] = np.float32(columns[i] + columns[i + 1] + columns[i + 2] + columns[i + 3]) / np.float32(16)


@kernel
def _put_gradient(
    luma: NDArray[np.uint8],
    row: int,
    steps: NDArray[np.uint8],
    downward: NDArray[np.uint8],
    sums: NDArray[np.int16],
    out: NDArray[np.float32],
) -> None:
    """|step to the right| + |step down|; 0 at the last column and row."""
    height, width = luma.shape
    y = row * _EDGE
    now = luma[y : y + _EDGE].reshape(-1)
    size = len(now) - 1
    a, b = now[:size], now[1:]
    for x in range(size):
        steps[x] = max(a[x], b[x]) - min(a[x], b[x])
    for line in range(1, _EDGE + 1):
        steps[line * width - 1] = 0
    known = min(_EDGE, height - 1 - y) * width  # the last row has none below
    below = luma[y + 1 : min(y + 1 + _EDGE, height)].reshape(-1)
    for x in range(known):
        downward[x] = max(now[x], below[x]) - min(now[x], below[x])
    downward[known:] = 0
    _sums(steps, width, sums)
    a, b = downward[: 2 * width], downward[2 * width :]
    for x in range(width):
        sums[x] += np.int16(a[x]) + np.int16(a[x + width])
    for x in range(width):
        sums[x] += np.int16(b[x]) + np.int16(b[x + width])
    _put_means(sums, out)
