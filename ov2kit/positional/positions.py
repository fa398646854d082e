"""Where tokens sit: positions of packed grids, and time in seconds.

Source: `patch_positions` of LLaVA-OneVision-2; the 64-slot virtual time grid of OneVision-Encoder
(`visible_indices`).
Letters: N tokens; t, h, w frames, patch rows and patch columns of one grid row.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ov2kit.errors import OptionError, check_number, check_type
from ov2kit.geometry import check_grids, grid_positions, to_block_layout


def packed_positions(
    grid_thw: Tensor | Sequence[Sequence[int]],
    merge: int = 2,
    frame_indices: Sequence[Sequence[int] | None] | None = None,
) -> Tensor:
    """Positions of whole pictures packed one grid row after the other, in block layout.

    Args:
        grid_thw: rows (t, h, w) in patches; h and w multiples of `merge`.
        merge: patches per block edge; 1 is raster order.
        frame_indices: per grid row the t source frames, or None for 0..t-1.

    Returns:
        (N, 3) int64 of (frame, row, column).

    Raises:
        ValueError: a grid is no multiple of `merge`, or the frame indices do not match the grids.
    """
    check_number("merge", merge, low=1, integer=True)
    rows = check_grids("grid_thw", grid_thw)
    check_type("frame_indices", frame_indices, list | tuple, "a list of frame numbers per grid row", optional=True)
    frames = [None] * len(rows) if frame_indices is None else list(frame_indices)
    if len(frames) != len(rows):
        raise OptionError(f"frame_indices must have one entry per grid row: {len(rows)}, got {len(frames)}")
    parts = [
        to_block_layout(grid_positions(t, h, w, f).view(t, h, w, 3), merge)
        for (t, h, w), f in zip(rows, frames, strict=True)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, 3, dtype=torch.int64)


def times_in_seconds(positions: Tensor, frame_times: Mapping[int, float], ticks_per_second: float = 1.0) -> Tensor:
    """Replace frame indices by time, so that clips of different frame rates share one time axis.

    Args:
        positions: (N, 3) integers (frame, row, column), -1 for padding.
        frame_times: frame index -> seconds, as in `Canvases.frame_times`.
        ticks_per_second: time positions per second; the frame rate a model was trained with keeps
            its angles.

    Returns:
        (N, 3) float32 of (ticks, row, column); padding stays -1.

    Raises:
        ValueError: a frame has no time.
    """
    check_number("ticks_per_second", ticks_per_second, above=0)
    check_type("frame_times", frame_times, Mapping, "a mapping of frame indices to seconds")
    frames, places = torch.unique(positions[:, 0], return_inverse=True)
    known = frames.tolist()
    if missing := [f for f in known if f >= 0 and f not in frame_times]:
        raise OptionError(f"frame_times has no entry for frames {missing[:5]}")
    ticks = torch.tensor([frame_times[f] * ticks_per_second if f >= 0 else -1.0 for f in known], dtype=torch.float64)
    out = positions.to(torch.float32, copy=True)
    out[:, 0] = ticks.to(device=positions.device, dtype=torch.float32)[places]
    return out


def virtual_frames(t: int, slots: int = 64) -> list[int]:
    """The time slots that the stand-alone encoder release gives to t evenly sampled frames.

    Slot of frame i is the whole part of i * (slots - 1) / (t - 1); a single frame sits at 0.
    """
    check_number("t", t, low=1, integer=True)
    check_number("slots", slots, low=1, integer=True)
    return torch.linspace(0, slots - 1, t).long().tolist()
