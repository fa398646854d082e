"""Blocks of decoded pictures in RGB, without the rest of the picture: pixel for pixel what swscale makes of it whole.

Only for what is known to come out equal: planes of 8 or 10 bits, not interlaced (swscale scales the fields apart).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.video.bilinear import CENTER
from ov2kit.codec.video.color_matrix import FULL_RANGE, ColorMatrix
from ov2kit.codec.video.plane_blocks import PlaneBlocks, PlaneTables, in_one_piece, line_shift

_BLOCKS_AT_ONCE = 48  # what is in between stays in the processor's cache
PROBE = 24  # pixels a side of a picture that is made to see how swscale takes it; smaller than any with a layout
_CENTERS = (CENTER, CENTER // 2, CENTER // 2 * 3)  # between two pixels of luma, with the first, with the second
_FORMATS = {
    f"{kind}{subsampling}p{deep}": (*shifts, 10 if deep else 8)
    for subsampling, shifts in (("420", (1, 1)), ("422", (0, 1)), ("444", (0, 0)))
    for kind, deep in (("yuv", ""), ("yuvj", ""), ("yuv", "10le"))
}  # log2 of the rows and of the columns of luma to one of chroma; bits of a pixel


@dataclass(frozen=True)
class Layout:
    """All that decides how blocks of a picture are made, but for its pixels.

    Args:
        pix_fmt: FFmpeg's name.
        size: (height, width) as coded.
        colors: to RGB.
    """

    pix_fmt: str
    size: tuple[int, int]
    colors: ColorMatrix

    @classmethod
    def of(cls, frame: VideoFrame) -> "Layout | None":
        """That of a picture; None where blocks of it cannot be made alone."""
        found = _layout(frame.format.name, frame.height, frame.width, frame.colorspace, frame.color_range)
        if found is None or frame.interlaced_frame:
            return None
        return None if frame.planes[0].line_size < 0 else found  # raw video that is stored upside down

    @property
    def subsampling(self) -> tuple[int, int]:
        """log2 of the rows and of the columns of luma to one of chroma."""
        return _FORMATS[self.pix_fmt][:2]

    @property
    def chroma_size(self) -> tuple[int, int]:
        """(height, width) of its chroma planes."""
        rows, columns = self.subsampling
        return -(-self.size[0] >> rows), -(-self.size[1] >> columns)

    @property
    def depth(self) -> int:
        """Bits of a pixel."""
        return _FORMATS[self.pix_fmt][2]


@lru_cache
def _layout(pix_fmt: str, height: int, width: int, matrix: int, color_range: int) -> Layout | None:
    if pix_fmt not in _FORMATS or min(height, width) <= PROBE:
        return None
    colors = ColorMatrix.of(matrix, pix_fmt.startswith("yuvj") or color_range == FULL_RANGE)
    return None if colors is None else Layout(pix_fmt, (height, width), colors)


def draw_probe(picture: VideoFrame, layout: Layout) -> None:
    """Fill a picture of `PROBE` pixels a side with slopes of chroma, from left to right and from top to bottom."""
    for plane, across, down in zip(picture.planes, (0, 9, 0), (0, 0, 9), strict=True):
        lines = _lines(plane, layout.depth)
        level = 16 + across * np.arange(lines.shape[1]) + down * np.arange(lines.shape[0])[:, None]
        plane.update((level % 240 << (layout.depth - 8)).astype(lines.dtype).tobytes())


@lru_cache(64)
def chroma_center(layout: Layout, scaled: bytes) -> tuple[int, int] | None:
    """(y, x) of the first pixel of chroma, in 256th parts of one, as swscale takes them to be.

    A picture says where its chroma is, but PyAV does not: so it is seen from what swscale makes of a drawn one.

    Args:
        layout: of the pictures.
        scaled: what swscale makes of one with their tags, see `draw_probe`: (3, 2 * PROBE, 2 * PROBE) of RGB.

    Returns:
        None where no place gives just these pixels: then swscale does something that is not known here.
    """
    probe, side = VideoFrame(PROBE, PROBE, layout.pix_fmt), 2 * PROBE
    draw_probe(probe, layout)
    small = replace(layout, size=(PROBE, PROBE))
    one = np.zeros((1, 3), dtype=np.int64)
    rows, columns = layout.subsampling
    for center in product(_CENTERS if rows else _CENTERS[:1], _CENTERS if columns else _CENTERS[:1]):
        if rgb_blocks([probe], small, center, one, (side, side), side).tobytes() == scaled:
            return center
    return None


def rgb_blocks(
    frames: Sequence[VideoFrame],
    layout: Layout,
    center: tuple[int, int],
    blocks: np.ndarray,
    size: tuple[int, int],
    side: int,
) -> np.ndarray:
    """Blocks of pictures that are scaled to `size`.

    Args:
        frames: as decoded, all of one layout.
        layout: theirs.
        center: of chroma, see `chroma_center`.
        blocks: (n, 3) int64 of (which of the frames, block row, block col), frame after frame.
        size: (height, width) in pixels of the scaled picture, not turned; multiples of `side`.
        side: of a block, in pixels.

    Returns:
        (n, 3, side, side) uint8.
    """
    if uses_kernels():
        return _compiled(frames, layout, center, blocks, size, side)
    luma = PlaneBlocks.of(layout.size, size, side, layout.depth)
    chroma = PlaneBlocks.of(layout.chroma_size, size, side, layout.depth, center)
    most = max(1, min(_BLOCKS_AT_ONCE, len(blocks)))
    wanted = luma.wanted(most), chroma.wanted(2 * most)
    arrays = in_one_piece([*wanted[0], *wanted[1]])
    of_luma, of_chroma = arrays[: len(wanted[0])], arrays[len(wanted[0]) :]
    kinds = (luma, chroma, chroma)
    patches = [
        [kind.patches(_lines(plane, layout.depth)) for kind, plane in zip(kinds, frame.planes, strict=True)]
        for frame in frames
    ]
    which, rows, columns = blocks.T
    edges = _edges(which)
    starts = [(kind.top[rows], kind.left[columns]) for kind in kinds]
    out = np.empty((len(blocks), 3, side, side), dtype=np.uint8)
    for start in range(0, len(blocks), most):
        stop = min(start + most, len(blocks))
        n, row, column = stop - start, rows[start:stop], columns[start:stop]
        into = of_luma[0], of_chroma[0], of_chroma[0][n:]
        for a, b in pairwise([start, *(edge for edge in edges if start < edge < stop), stop]):
            for plane, (top, left), room in zip(patches[which[a]], starts, into, strict=True):
                room[a - start : b - start] = plane[top[a:b], left[a:b]]
        scaled = luma.scaled(of_luma, row, column)
        both = chroma.scaled(of_chroma, np.concatenate([row, row]), np.concatenate([column, column]))
        layout.colors.rgb(scaled, both.reshape(2, *scaled.shape), out[start:stop])
    return out


def _compiled(
    frames: Sequence[VideoFrame],
    layout: Layout,
    center: tuple[int, int],
    blocks: np.ndarray,
    size: tuple[int, int],
    side: int,
) -> np.ndarray:
    """As `rgb_blocks`."""
    from ov2kit.codec.compiled import blocks as kernels

    luma, chroma = PlaneTables.of(layout.size, size), PlaneTables.of(layout.chroma_size, size, center)
    colors = np.array(astuple(layout.colors), dtype=np.int32)
    out = np.empty((len(blocks), 3, side, side), dtype=np.uint8)
    which, rows, columns = np.ascontiguousarray(blocks.T)
    for start, stop in pairwise(_edges(which)):
        y, u, v = (_lines(plane, layout.depth) for plane in frames[which[start]].planes)
        kernels.rgb_blocks(
            y, u, v, rows[start:stop], columns[start:stop],
            luma.rows, luma.columns, chroma.rows, chroma.columns,
            np.int32(line_shift(layout.depth)), colors, out[start:stop],
        )  # fmt: skip
    return out


def _edges(which: np.ndarray) -> list[int]:
    """Where the blocks of each picture begin, and where the last of them end."""
    return [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]


def _lines(plane: VideoPlane, depth: int) -> np.ndarray:
    """(height, line) uint8 or uint16 view of a plane, with the padding at the end of its lines."""
    width = plane.line_size if depth == 8 else plane.line_size // 2
    return np.ndarray((plane.height, width), np.uint8 if depth == 8 else "<u2", memoryview(plane))
