"""What stock FFmpeg reports about each macroblock, stacked over frames.

Letters: T frames, R x C macroblocks of 16 coded pixels, k = 4 luma pixels per macroblock edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ov2kit.codec.signals.macroblock_motion import field_planes, vector_planes
from ov2kit.codec.signals.motion_search import estimate_motion
from ov2kit.codec.video.frame import Frame

MACROBLOCK = 16  # pixels
EDGE = 4  # luma pixels per macroblock edge that features are measured on

Moved = Literal["vectors", "estimated", "difference"]


@dataclass(frozen=True)
class MacroblockSignals:
    """What was decoded of T frames of one coded size.

    Args:
        luma: (T, R k, C k) uint8, as coded (not turned), its border repeated to whole macroblocks.
        reference: the same of the frame each is compared with; `luma` itself where `compared` is False.
        motion: (2, 2, 2, T, R, C) int16 quarters of a coded pixel to the reference: x and y, of the
            upper and lower, left and right cells of 8 pixels; 0 where there is no vector, as
            throughout where `compared` is False. None: no frame has any.
        holes: (T, R, C) float32 how many of the four cells have no vector.
        vectors: (T, R, C) float32 how many vectors each macroblock has.
        future: (T, R, C) float32 how many of them point to the future.
        quantizer: (T, R, C) float32; 0 throughout for frames that do not tell it.
        bits: (T,) float64 of each frame's packet.
        intra: (T,) bool, I-frames.
        bidirectional: (T,) bool, B-frames.
        compared: (T,) bool, frames that are compared with a reference.
        distance: (T,) float32 frames from the reference, at least 1.
    """

    luma: Tensor
    reference: Tensor
    motion: Tensor | None
    holes: Tensor
    vectors: Tensor
    future: Tensor
    quantizer: Tensor
    bits: Tensor
    intra: Tensor
    bidirectional: Tensor
    compared: Tensor
    distance: Tensor

    def to(self, device: torch.device) -> "MacroblockSignals":
        there: dict[str, Any] = {}
        for name in (f.name for f in fields(self)):
            held = getattr(self, name)
            there[name] = None if held is None else held.to(device)
        return MacroblockSignals(**there)


def macroblock_grid(coded_size: tuple[int, int]) -> tuple[int, int]:
    """(rows, cols) of the macroblocks of a coded (height, width)."""
    return -(-coded_size[0] // MACROBLOCK), -(-coded_size[1] // MACROBLOCK)


def macroblock_luma_size(coded_size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) at which luma has `EDGE` pixels per macroblock edge, before its border is repeated."""
    height, width = (max(1, round(side * EDGE / MACROBLOCK)) for side in coded_size)
    return height, width


def macroblock_signals(
    frames: Sequence[Frame], moved: Moved = "vectors", coded_size: tuple[int, int] | None = None
) -> MacroblockSignals:
    """Stack frames decoded with luma and reference at `macroblock_luma_size`, as coded.

    Args:
        frames: at least one.
        moved: how references are moved: along the ``"vectors"`` of the stream, by ``"estimated"``
            motion (a few milliseconds per frame), or not at all: ``"difference"``. Quantizers go
            with vectors.
        coded_size: (height, width) that luma was scaled from; that of the first frame by default.
            Vectors and quantizers of frames that have another size are left out.
    """
    size = coded_size or frames[0].coded_size
    rows, cols = macroblock_grid(size)
    compared = [frame.reference is not None and frame.kind != "I" for frame in frames]
    luma = torch.stack([frame.luma for frame in frames if frame.luma is not None])
    pairs = list(zip(frames, compared, strict=True))
    reference = torch.stack(
        [f.reference if c and f.reference is not None else luma[t] for t, (f, c) in enumerate(pairs)]
    )
    count = len(frames)
    motion: Tensor | None = None
    holes, counted, future = torch.full((count, rows, cols), 4.0), *torch.zeros(2, count, rows, cols)
    quantizer = np.zeros((count, rows, cols), dtype=np.int8)
    if moved == "vectors":
        moving = [
            (t, f.motion) for t, f in enumerate(frames) if f.motion is not None and compared[t] and f.coded_size == size
        ]
        for t, frame in enumerate(frames):
            if frame.quantizer is not None and frame.coded_size == size:
                quantizer[t] = frame.quantizer
        if moving:
            motion, holes, counted, future = vector_planes(moving, count, (rows, cols))
    luma, reference = _padded(luma, rows, cols), _padded(reference, rows, cols)
    if moved == "estimated":
        motion, holes = field_planes(_estimated(luma, reference, torch.tensor(compared), (rows, cols)))
    return MacroblockSignals(
        luma=luma,
        reference=reference,
        motion=motion,
        holes=holes,
        vectors=counted,
        future=future,
        quantizer=torch.from_numpy(quantizer).float(),
        bits=torch.tensor([8 * frame.nbytes for frame in frames], dtype=torch.float64),
        intra=torch.tensor([frame.kind == "I" for frame in frames]),
        bidirectional=torch.tensor([frame.kind == "B" for frame in frames]),
        compared=torch.tensor(compared),
        distance=torch.tensor([f.index - f.reference_index if c else 1 for f, c in pairs]).float(),
    )


def _padded(luma: Tensor, rows: int, cols: int) -> Tensor:
    """Cut or repeat the border to whole macroblocks."""
    luma = luma[:, : rows * EDGE, : cols * EDGE]
    missing = (0, cols * EDGE - luma.shape[2], 0, rows * EDGE - luma.shape[1])
    if not any(missing):
        return luma
    out = luma.new_empty(len(luma), rows * EDGE, cols * EDGE)
    height, width = luma.shape[1:]
    out[:, :height, :width] = luma
    out[:, :height, width:] = luma[:, :, -1:]
    out[:, height:] = out[:, height - 1 : height]
    return out


def _estimated(luma: Tensor, reference: Tensor, compared: Tensor, grid: tuple[int, int]) -> Tensor:
    """Motion of 8-pixel cells in coded pixels, searched for blocks of 2 x 2 macroblocks; none where not compared."""
    out = torch.full((len(luma), 2 * grid[0], 2 * grid[1], 2), torch.nan)
    if compared.any():
        found = estimate_motion(luma[compared], reference[compared]) * (MACROBLOCK / EDGE)
        finer = found.repeat_interleave(4, 1).repeat_interleave(4, 2)
        out[compared] = finer[:, : 2 * grid[0], : 2 * grid[1]]
    return out
