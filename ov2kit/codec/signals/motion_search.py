"""Motion for streams whose decoder gives none (HEVC, VP9, AV1, MJPEG), by FFmpeg's `mestimate`.

The search runs at scoring resolution, a few milliseconds per frame. Letters: T frames of h x w
pixels, gh x gw cells of 8 x 8 pixels.
"""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import torch
from av.filter import Graph
from torch import Tensor

from ov2kit.codec.video.side_data import side_data

_CELL = 8
_GRAY = av.VideoFormat("gray")
_TIME_BASE = Fraction(1, 25)  # any will do: frames are only counted
_METHOD = "epzs"  # predictive zonal search: as good as full search here, seven times faster


def estimate_motion(luma: Tensor, reference: Tensor) -> Tensor:
    """Block motion from each frame to its reference.

    Args:
        luma: (T, h, w) uint8.
        reference: (T, h, w) uint8.

    Returns:
        (T, gh, gw, 2) float32 displacement (dx, dy) in pixels from a block to where it was in the
        reference; gh = ceil(h / 8), gw = ceil(w / 8). Cells that the search does not cover (a last
        column or row that is not whole) copy their neighbor.
    """
    count, height, width = luma.shape
    rows, columns = height // _CELL, width // _CELL
    field = np.zeros((count, -(-height // _CELL), -(-width // _CELL), 2), dtype=np.float32)
    if rows == 0 or columns == 0:
        return torch.from_numpy(field)
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=_GRAY, time_base=_TIME_BASE)
    search = graph.add("mestimate", f"method={_METHOD}:mb_size={_CELL}")
    sink = graph.add("buffersink")
    source.link_to(search)
    search.link_to(sink)
    graph.configure()
    # The filter compares a frame with its neighbors on both sides and needs both, so each pair is
    # followed by its own frame again.
    for t in range(count):
        for place, picture in enumerate((reference[t], luma[t], luma[t])):
            graph.push(_frame(picture.numpy(), 3 * t + place))
            for frame in _pulled(graph):
                _read(frame, field, rows, columns)
    graph.push(None)
    for frame in _pulled(graph):
        _read(frame, field, rows, columns)
    field[:, rows:] = field[:, rows - 1 : rows]
    field[:, :, columns:] = field[:, :, columns - 1 : columns]
    return torch.from_numpy(field)


def _read(frame: av.VideoFrame, field: np.ndarray, rows: int, columns: int) -> None:
    """Vectors to the past of the middle frame of a triple."""
    pair, place = divmod(int(frame.pts or 0), 3)
    data = side_data(frame, "MOTION_VECTORS")
    if place != 1 or data is None:
        return
    vectors = data.to_ndarray()
    past = vectors[vectors["source"] < 0]
    row, column = past["dst_y"].astype(np.int64) // _CELL, past["dst_x"].astype(np.int64) // _CELL
    inside = (row < rows) & (column < columns)
    # This filter leaves motion_x, motion_y and motion_scale unset; the two positions are right.
    moved = np.stack([past[f"src_{a}"].astype(np.float32) - past[f"dst_{a}"] for a in "xy"], axis=-1)
    field[pair, row[inside], column[inside]] = moved[inside]


def _frame(picture: np.ndarray, pts: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")
    frame.pts = pts
    return frame


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield frame
