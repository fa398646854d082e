"""The one-to-one assignment of largest total score."""

import numpy as np
from numpy.typing import NDArray


def assign(scores: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns, one to one, so that the scores of the pairs add up to the most.

    Shortest augmenting paths with dual prices: Kuhn (1955), Munkres (1957), Jonker and Volgenant (1987).

    Args:
        scores: (R, C) finite.

    Returns:
        min(R, C) pairs (row, column), by row.
    """
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ValueError(f"scores must be a finite (rows, columns) table, got shape {scores.shape}")
    if scores.shape[0] > scores.shape[1]:
        return sorted((row, column) for column, row in assign(scores.T))
    cost = -scores
    rows, columns = cost.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)
    for start in range(rows):
        distance = np.full(columns, np.inf)
        reached_from = np.full(columns, -1)  # the column whose owner gave way, -1 for `start` itself
        done = np.zeros(columns, dtype=bool)
        row, column, length = start, -1, 0.0
        while True:
            through = length + cost[row] - row_price[row] - column_price
            better = ~done & (through < distance)
            distance[better] = through[better]
            reached_from[better] = column
            column = int(np.where(done, np.inf, distance).argmin())
            length = float(distance[column])
            if owner[column] < 0:
                break
            done[column] = True
            row = int(owner[column])
        row_price[start] += length
        row_price[owner[done]] += length - distance[done]
        column_price[done] -= length - distance[done]
        while column >= 0:  # everyone on the path moves one on
            before = int(reached_from[column])
            owner[column] = owner[before] if before >= 0 else start
            column = before
    return sorted((int(row), column) for column, row in enumerate(owner) if row >= 0)
