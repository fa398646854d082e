"""The weights that swscale's bilinear scaling gives to the pixels of a line, in its own whole numbers.

Source: FFmpeg, libswscale, what `initFilter` computes for SWS_BILINEAR. Along one axis, S pixels become D.
"""

from functools import lru_cache

import numpy as np

_ONE = 1 << 30  # of a weight before it is rounded to the parts that swscale multiplies by
_LEAST = 0.002 * _ONE  # what swscale leaves out at the ends of a filter, taken together
CENTER = 128  # 256 to a pixel of the luma


@lru_cache(64)
def bilinear_weights(
    source: int, target: int, parts: int, align: int, position: int = CENTER
) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of the source each pixel of the target is a mean of, and with what weights.

    Args:
        source: S.
        target: D.
        parts: sum of the weights of a pixel: 1 << 14 along lines, 1 << 12 across them.
        align: a multiple of this many weights is kept for each pixel, as long as there are as many.
        position: of the first pixel of the source in 256th parts of one: 128 but for chroma that is not in the
            middle of its pixels of luma.

    Returns:
        (D,) int64 first pixel and (D, taps) int64 weights; not to be changed.
    """
    step = ((source << 16) + (target >> 1)) // target
    if abs(step - 0x10000) < 10 and position == CENTER:
        return np.arange(target), np.full((target, 1), parts)
    first, weights = _triangles(source, target, step, position)
    first, weights = _without_ends(first, weights, align)
    first, weights = _within(first, weights, source)
    weights <<= 24 - min((source // target).bit_length() - 1 if source >= target else 0, 8)  # as fine as they round
    total = (weights.sum(1) + parts // 2) // parts
    found, rest = np.empty_like(weights), np.zeros(target, dtype=np.int64)
    for tap in range(weights.shape[1]):  # what rounding takes from one weight goes to the next
        value = weights[:, tap] + rest
        found[:, tap] = (value + total // 2) // total
        rest = value - found[:, tap] * total
    return first, found


def _triangles(source: int, target: int, step: int, position: int) -> tuple[np.ndarray, np.ndarray]:
    """(D,) first pixels, (D, taps) weights: as high as the source pixel is near, as wide as a pixel of the target."""
    taps = 3 if step <= 0x10000 else 1 + (2 * source + target - 1) // target
    taps = max(1, min(taps, source - 2))
    at = ((CENTER * step) >> 7) - ((position * 0x10000) >> 7) + 2 * step * np.arange(target, dtype=np.int64)
    before = at - ((taps - 2) << 16)
    first = np.sign(before) * (np.abs(before) >> 17)
    away = np.abs(((first[:, None] + np.arange(taps)) << 17) - at[:, None]) << 13
    if step > 0x10000:
        away = away * target // source
    return first, np.maximum(_ONE - away, 0)


def _without_ends(first: np.ndarray, weights: np.ndarray, align: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of next to nothing before the first pixel are left out, those after the last for as far as all can."""
    taps = weights.shape[1]
    leading = (np.cumsum(weights, axis=1) <= _LEAST).sum(1).tolist()
    at = first.tolist()
    for i in range(len(at) - 1, -1, -1):  # first pixels never decrease
        if leading[i] and i + 1 < len(at):
            leading[i] = max(0, min(leading[i], at[i + 1] - at[i]))
        at[i] += leading[i]
    moved = np.arange(taps) + np.array(leading)[:, None]
    weights = np.where(moved < taps, np.take_along_axis(weights, np.minimum(moved, taps - 1), 1), 0)
    trailing = (np.cumsum(weights[:, :0:-1], axis=1) <= _LEAST).sum(1)
    kept = int((taps - trailing).max())
    return np.array(at), weights[:, : kept if kept == 1 and align == 2 else -(-kept // align) * align]


def _within(first: np.ndarray, weights: np.ndarray, source: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights of pixels outside of the source go to its first or last one."""
    taps = weights.shape[1]
    inside = np.clip(first, 0, max(0, source - taps))
    place = np.clip(first[:, None] + np.arange(taps), 0, source - 1) - inside[:, None]
    moved = np.zeros_like(weights)
    np.add.at(moved, (np.arange(len(first))[:, None], place), weights)
    return inside, moved
