"""Motion vectors of a decoder on a dense grid. Letters: T frames, N vectors, gh x gw cells."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.compiled.jit import kernel


@kernel
def paint(vectors: NDArray[Any], ends: NDArray[np.int64], cell: int, out: NDArray[np.float32]) -> None:
    """See `ov2kit.codec.signals.motion_grid.rasterize_motion`.

    Args:
        vectors: (N,) of FFmpeg's motion vectors, frame after frame.
        ends: (T,) where those of each frame end.
        cell: edge of a cell in pixels.
        out: (T, gh, gw, 2), filled.
    """
    count, rows, columns, _ = out.shape
    start = 0
    for t in range(count):
        out[t] = np.nan
        down, across, futures = 0, 0, 0
        for v in range(start, ends[t]):
            down, across = max(down, int(vectors[v]["h"])), max(across, int(vectors[v]["w"]))
            futures += vectors[v]["source"] >= 0
        for past in range(0 if futures else 1, 2):  # the past is written last, and so wins
            for below in range(0, down, cell):
                for right in range(0, across, cell):
                    for v in range(start, ends[t]):
                        one = vectors[v]
                        if (one["source"] < 0) != (past == 1) or one["h"] <= below or one["w"] <= right:
                            continue
                        row = (np.int64(one["dst_y"]) - one["h"] // 2) // cell + below // cell
                        column = (np.int64(one["dst_x"]) - one["w"] // 2) // cell + right // cell
                        if 0 <= row < rows and 0 <= column < columns:
                            scale = np.float32(1 if past else -1) / np.float32(max(one["motion_scale"], 1))
                            out[t, row, column, 0] = np.float32(one["motion_x"]) * scale
                            out[t, row, column, 1] = np.float32(one["motion_y"]) * scale
        start = ends[t]
