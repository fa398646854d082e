"""From decoded frames to what saliency takes: luma, the luma it is compared with, a motion field.

Everything here is at scoring resolution and as shown (turned, square pixels), so that scores fall
on the canvas grid. Letters: T frames, h x w scoring pixels, gh x gw motion cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.codec.signals.motion_grid import rasterize_frames
from ov2kit.codec.video.frame import Frame
from ov2kit.codec.video.orientation import Orientation

_FINEST_CELL, _COARSER_CELL = 8, 16  # H.264 vectors come for 8 x 8 blocks at the finest
_LEAST_SCORING_PIXELS = 3.0


@dataclass(frozen=True)
class FrameSignals:
    """Inputs of `MotionResidualSaliency.forward` for T frames.

    Args:
        luma: (T, h, w) uint8.
        reference: (T, h, w) uint8 luma each frame is compared with; zeros where `valid` is False.
        motion: (T, gh, gw, 2) float32 displacement to the reference in scoring pixels, NaN where
            there is no vector; None when no frame has vectors.
        nbytes: (T,) float32 packet size of each frame.
        distance: (T,) float32 frames between a frame and its reference, at least 1.
        valid: (T,) bool, the frame has a reference.
    """

    luma: Tensor
    reference: Tensor
    motion: Tensor | None
    nbytes: Tensor
    distance: Tensor
    valid: Tensor


def motion_cell(coded_height: int, scoring_height: int) -> int:
    """Edge of motion cells in coded pixels: finer than three scoring pixels adds nothing."""
    return _FINEST_CELL if _FINEST_CELL * scoring_height >= _LEAST_SCORING_PIXELS * coded_height else _COARSER_CELL


def collect_signals(frames: Sequence[Frame], orientation: Orientation, before: Frame | None = None) -> FrameSignals:
    """Stack what the frames of a group carry.

    A frame without its own reference (a keyframe, the first of an interval) is compared with
    the frame before it in `frames`, or with `before`, without vectors.

    Args:
        frames: decoded with luma, reference and motion, in display order.
        orientation: from coded to shown.
        before: the last frame of the group before.
    """
    references: list[Tensor] = []
    distance: list[int] = []
    own: list[bool] = []
    previous = before
    for frame in frames:
        if frame.reference is not None:
            references.append(frame.reference)
            distance.append(frame.index - frame.reference_index)
        elif previous is not None and previous.luma is not None:
            references.append(previous.luma)
            distance.append(frame.index - previous.index)
        else:
            assert frame.luma is not None
            references.append(torch.zeros_like(frame.luma))
            distance.append(0)
        own.append(frame.reference is not None)
        previous = frame
    luma = torch.stack([frame.luma for frame in frames if frame.luma is not None])
    shown = (int(luma.shape[1]), int(luma.shape[2]))
    return FrameSignals(
        luma=luma,
        reference=torch.stack(references),
        motion=_motion_field([f if kept else None for f, kept in zip(frames, own, strict=True)], orientation, shown),
        nbytes=torch.tensor([frame.nbytes for frame in frames], dtype=torch.float32),
        distance=torch.tensor(distance, dtype=torch.float32).clamp(min=1),
        valid=torch.tensor(distance) > 0,
    )


def _motion_field(frames: Sequence[Frame | None], orientation: Orientation, shown: tuple[int, int]) -> Tensor | None:
    """One field for all frames, or None if none of them has a vector."""
    by_frame = [(None, (0, 0)) if f is None else (f.motion, f.coded_size) for f in frames]
    sizes = dict.fromkeys(size for vectors, size in by_frame if vectors is not None)
    if not sizes:
        return None
    height, width = orientation.size(*shown)  # scoring size before turning
    field: Tensor | None = None
    for size in sizes:  # one size, but for streams that change theirs
        mine = [vectors if own == size else None for vectors, own in by_frame]
        raster = rasterize_frames(mine, size, cell=motion_cell(size[0], height))
        raster *= torch.tensor([width / size[1], height / size[0]])
        if field is None:
            field = raster
        else:
            fitted = F.interpolate(raster.permute(0, 3, 1, 2), field.shape[1:3], mode="nearest").permute(0, 2, 3, 1)
            at = torch.tensor([t for t, vectors in enumerate(mine) if vectors is not None])
            field[at] = fitted[at]
    assert field is not None
    return orientation.field(field)
