"""Which block goes where on a canvas. Letters: T frames, n blocks, K canvases, hb x wb places of each."""

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel


@kernel
def slots(
    anchor: int,
    blocks: NDArray[np.int64],
    canvas: NDArray[np.int64],
    rows: int,
    columns: int,
    out: NDArray[np.int64],
) -> None:
    """Block of each place, the anchor's on the first canvas.

    Args:
        anchor: frame that is shown whole.
        blocks: (n, 3) frame, row and column; -1 for none.
        canvas: (n,) canvas behind the first, from 0, not decreasing, each with no more blocks than places.
        rows: hb.
        columns: wb.
        out: (K, hb * wb), filled with (frame * hb + row) * wb + column; -1 for none.
    """
    places = rows * columns
    for place in range(places):
        out[0, place] = anchor * places + place
    out[1:] = -1
    current, at = -1, 0
    for i in range(len(blocks)):
        if canvas[i] != current:
            current, at = canvas[i], 0
        if blocks[i, 0] >= 0:
            out[1 + current, at] = (blocks[i, 0] * rows + blocks[i, 1]) * columns + blocks[i, 2]
        at += 1


@kernel
def positions(
    source: NDArray[np.int64], times: NDArray[np.int64], merge: int, columns: int, out: NDArray[np.int32]
) -> None:
    """Source frame, patch row and patch column of every patch of canvases.

    Args:
        source: (K, hb * wb) block of each place, (frame * hb + row) * wb + column; -1 for none.
        times: (T,) source frame of each frame.
        merge: patches of an edge of a block.
        columns: wb.
        out: (K, hb * merge, wb * merge, 3), filled; -1 where there is no block.
    """
    places = source.shape[1]
    for canvas in range(len(source)):
        for place in range(places):
            block = source[canvas, place]
            top, left = place // columns * merge, place % columns * merge
            if block < 0:
                out[canvas, top : top + merge, left : left + merge] = -1
                continue
            time, row, column = times[block // places], block % places // columns, block % columns
            for y in range(merge):
                for x in range(merge):
                    out[canvas, top + y, left + x, 0] = time
                    out[canvas, top + y, left + x, 1] = row * merge + y
                    out[canvas, top + y, left + x, 2] = column * merge + x
