"""Connected regions of boolean pictures, by filling runs of rows and columns in turn."""

import numpy as np

from ov2kit.recipes.spatial.rle import Mask


def connected(allowed: Mask, seeds: Mask) -> Mask:
    """Pixels of `allowed` that a path of 4-neighbors within it joins to a seed; (H, W) bool each."""
    marked = allowed & seeds
    count = int(marked.sum())
    while count:
        marked = _fill_rows(allowed, marked)
        marked = _fill_rows(allowed.T, marked.T).T
        grown = int(marked.sum())
        if grown == count:
            break
        count = grown
    return marked


def _fill_rows(allowed: Mask, marked: Mask) -> Mask:
    """Every run of `allowed` along a row that holds a marked pixel, marked as a whole."""
    starts = allowed.copy()
    starts[:, 1:] &= ~allowed[:, :-1]
    runs = np.cumsum(starts.ravel()).reshape(allowed.shape)  # a run's number, from 1; runs end with their row
    hit = np.zeros(int(runs[-1, -1]) + 1, dtype=bool)
    hit[runs[marked]] = True
    filled: Mask = hit[runs] & allowed
    return filled


def components(allowed: Mask, seeds: Mask, most: int = 16) -> list[Mask]:
    """The connected regions of `allowed` that hold a seed, at most `most` of them."""
    left = allowed & seeds
    found: list[Mask] = []
    while left.any() and len(found) < most:
        first = np.zeros_like(left)
        first[np.unravel_index(int(left.argmax()), left.shape)] = True
        found.append(connected(allowed, first))
        left &= ~found[-1]
    return found


def fill_holes(mask: Mask) -> Mask:
    """The mask with everything that it encloses."""
    border = np.zeros_like(mask)
    border[[0, -1]] = True
    border[:, [0, -1]] = True
    return ~connected(~mask, border)


def centroid(mask: Mask) -> tuple[float, float]:
    """Mean (row, column) of a mask that is not empty."""
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


def inner_point(mask: Mask) -> tuple[int, int]:
    """(row, column) of the pixel of a mask nearest to its centroid; always inside, also of a ring."""
    rows, columns = np.nonzero(mask)
    distance = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    at = int(distance.argmin())
    return int(rows[at]), int(columns[at])
