"""From decoded frames to what saliency takes: luma, the luma it is compared with, a motion field.

Everything here is at scoring resolution and as shown (turned, square pixels), so that scores fall
on the canvas grid. Letters: T frames, h x w scoring pixels, gh x gw motion cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.codec.orientation import Orientation
from ov2kit.codec.stream import Frame

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
    """Edge of motion cells in coded pixels: finer than three scoring pixels tells no more."""
    return _FINEST_CELL if _FINEST_CELL * scoring_height >= _LEAST_SCORING_PIXELS * coded_height else _COARSER_CELL


def collect_signals(frames: Sequence[Frame], orientation: Orientation, before: Frame | None = None) -> FrameSignals:
    """Stack what the frames of a group carry.

    A frame without a reference of its own (a keyframe, the first of an interval) is compared with
    the frame before it in `frames`, or with `before`, without vectors.

    Args:
        frames: decoded with luma, reference and motion field, in display order.
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
    moving = [(t, f.motion_field, f.coded_size) for t, f in enumerate(frames) if f is not None]
    fields = [(t, field, size) for t, field, size in moving if field is not None]
    if not fields:
        return None
    height, width = orientation.size(*shown)  # scoring size before turning
    gh, gw, _ = fields[0][1].shape
    out = torch.full((len(frames), gh, gw, 2), torch.nan)
    for t, field, size in fields:
        if field.shape[:2] != (gh, gw):  # a stream that changes its size
            field = F.interpolate(field.permute(2, 0, 1)[None], (gh, gw), mode="nearest")[0].permute(1, 2, 0)  # noqa: PLW2901
        torch.mul(field, torch.tensor([width / size[1], height / size[0]]), out=out[t])
    return orientation.field(out)
