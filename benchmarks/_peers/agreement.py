"""How much two choices of blocks agree, against chance.

Choices of different tools are of different frames and grids, so both are put on cells (time bin,
row, column) of one grid first. Anchors are left out: nothing was chosen in them.
"""

from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """Overlap of choice A with choice B, each value next to what chance gives.

    Attributes:
        jaccard: shared cells / cells of either; `jaccard_random` for cells drawn from the whole
            clip, `jaccard_timed` for cells drawn again within each time bin, as many as each has there.
        recall: share of B's cells that A has, with the same two chances.
        time: overlap of the two histograms over time bins (1: the same share of blocks in every
            bin); `time_random` for an A spread evenly over the clip.
        space: shared cells / the most that the two counts per time bin allow; `space_random` for
            cells drawn within each bin.
        cells_a, cells_b: cells of each.
    """

    jaccard: float
    jaccard_timed: float
    jaccard_random: float
    recall: float
    recall_timed: float
    recall_random: float
    time: float
    time_random: float
    space: float
    space_random: float
    cells_a: int
    cells_b: int


def cells(
    blocks: np.ndarray, grid: np.ndarray, times: np.ndarray, common: tuple[int, int], bin_seconds: float
) -> np.ndarray:
    """(frame, row, col) of a grid -> occupied cells.

    Args:
        blocks: (n, 3) decoded frame index, block row, block column.
        grid: (rows, columns) of blocks in a frame.
        times: (frames,) seconds of each decoded frame, from 0.
        common: rows and columns to map to; a block goes where its center lies.
        bin_seconds: width of a time bin.

    Returns:
        (bins, rows, columns) bool.
    """
    occupied = np.zeros((int(times.max() // bin_seconds) + 1, *common), dtype=bool)
    bins = (times[np.minimum(blocks[:, 0], len(times) - 1)] // bin_seconds).astype(np.int64)
    rows = ((blocks[:, 1] + 0.5) / grid[0] * common[0]).astype(np.int64)
    cols = ((blocks[:, 2] + 0.5) / grid[1] * common[1]).astype(np.int64)
    occupied[bins, rows, cols] = True
    return occupied


def compare(a: np.ndarray, b: np.ndarray) -> Agreement:
    """Agreement of two (bins, rows, columns) bool maps; chances are expectations, nothing is drawn."""
    bins, area = len(a), a[0].size
    in_a, in_b = a.reshape(bins, -1).sum(1), b.reshape(bins, -1).sum(1)
    n_a, n_b = int(in_a.sum()), int(in_b.sum())
    if not n_a or not n_b:
        return Agreement(*([float("nan")] * 10), n_a, n_b)
    shared = int((a & b).sum())
    timed = float((in_a * in_b).sum() / area)  # a cell of the bin is in both with probability in_a/area * in_b/area
    random = n_a * n_b / (bins * area)
    most = float(np.minimum(in_a, in_b).sum())
    share_a, share_b = in_a / n_a, in_b / n_b

    def jaccard(both: float) -> float:
        return both / (n_a + n_b - both)

    return Agreement(
        jaccard=jaccard(shared),
        jaccard_timed=jaccard(timed),
        jaccard_random=jaccard(random),
        recall=shared / n_b,
        recall_timed=timed / n_b,
        recall_random=random / n_b,
        time=float(np.minimum(share_a, share_b).sum()),
        time_random=float(np.minimum(1 / bins, share_b).sum()),
        space=shared / most if most else float("nan"),
        space_random=timed / most if most else float("nan"),
        cells_a=n_a,
        cells_b=n_b,
    )
