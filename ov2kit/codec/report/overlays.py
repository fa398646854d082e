"""Drawings over a frame in units of blocks: the heat map, and the spotlight on chosen blocks."""

import numpy as np
from numpy.typing import NDArray


def _squares(cells: NDArray[np.int64]) -> str:
    return "".join(f"M{column} {row}h1v1h-1z" for row, column in cells.tolist())


def spotlight(cells: NDArray[np.int64], grid: tuple[int, int]) -> str:
    """SVG over a frame: everything but the (n, 2) cells (block row, block col) is dimmed, cells are outlined."""
    rows, columns = grid
    squares = _squares(cells)
    return (
        f'<svg class="over-picture" viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="dim" fill-rule="evenodd" d="M0 0H{columns}V{rows}H0z{squares}"/>'
        f'<path class="outline" d="{squares}"/></svg>'
    )


def heat_layer(counts: NDArray[np.int64], most: int) -> str:
    """SVG over a frame: each cell of (hb, wb) counts in the heat color, stronger for more."""
    rows, columns = counts.shape
    cells = []
    for level in range(1, 9):  # one path for each of 8 strengths
        low, high = most * (level - 1) / 8, most * level / 8
        inside = np.argwhere((counts > low) & (counts <= high) & (counts > 0))
        if len(inside):
            cells.append(f'<path class="heat" fill-opacity="{0.12 + 0.1 * level:.2f}" d="{_squares(inside)}"/>')
    return (
        f'<svg class="over-picture" viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(cells)}</svg>"
    )
