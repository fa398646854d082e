"""Clips packed one after the other, as the small model takes them.

Letters: N patches of a batch, M' blocks, K canvases, B clips, F distinct frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.errors import check_choice
from ov2kit.recipes.evidence.runs.canvas_store import MERGE, StoredClip
from ov2kit.recipes.evidence.runs.variant import SeenBy, SweepError
from ov2kit.recipes.prompt.layout import Visibility, VisualLayout
from ov2kit.segments import Segments

_WINDOW = 2  # canvases: half a group


@dataclass(frozen=True)
class ClipBatch:
    """Clips of one budget, packed.

    Args:
        patches: (N, 3*p*p) uint8.
        positions: (N, 3) int32.
        segments: who sees whom.
        grids: (t, h, w) of each clip.
        canvas_patches: patches of one canvas.
        token_frame: (M',) entry of `frame_seconds`, flattened, of each block; -1 is padding.
        canvas_frame: (K,) the same for the first block of each canvas.
        place: (M', 2) float32 center of each block in its frame, (row, column) as shares of the edges.
        frame_seconds: (B, F) float32, NaN where a clip has fewer frames.
        frame_rates: (B, 2) float32 source frames per second of each clip, and the source frame at second 0.
        starts: answers.
        durations: seconds.
        filled: no block is padding.
    """

    patches: Tensor
    positions: Tensor
    segments: Segments
    grids: tuple[tuple[int, int, int], ...]
    canvas_patches: int
    token_frame: Tensor
    canvas_frame: Tensor
    place: Tensor
    frame_seconds: Tensor
    frame_rates: Tensor
    starts: list[tuple[float, ...]]
    durations: tuple[float, ...]
    filled: bool = False

    def to(self, device: torch.device | str, **options: Any) -> "ClipBatch":
        """The same batch on `device`; NaN times, lengths and answers stay what they are."""
        moved: dict[str, Any] = {
            name: value.to(device, **options) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, segments=self.segments.to(device), **moved)


def pack(clips: Sequence[StoredClip], visibility: SeenBy) -> ClipBatch:
    """Clips one after the other, with the segments that `visibility` names.

    They are those of `VisualLayout.segments`; "window" is 2 canvases, "spatial" sees by group, and "causal" the groups
    before it too.
    """
    check_choice("visibility", visibility, get_args(SeenBy), SweepError)
    area = len(clips[0].patches) // len(clips[0].groups)
    side = round(area**0.5)
    token_frames, canvas_frames, seconds = [], [], []
    lines = [clip.times() for clip in clips]
    most = max(len(line.times) for line in lines)
    for number, (clip, line) in enumerate(zip(clips, lines, strict=True)):
        frame = torch.where(line.frame < 0, -1, line.frame + number * most)
        token_frames.append(frame)
        canvas_frames.append(frame.view(len(clip.groups), -1)[:, 0])
        seconds.append(F.pad(line.times, (0, most - len(line.times)), value=torch.nan))
    layout = VisualLayout(
        tuple((side, side) for clip in clips for _ in clip.groups),
        tuple(group for clip in clips for group in clip.groups),
        tuple(number for number, clip in enumerate(clips) for _ in clip.groups),
    )
    named = cast(Visibility, {"spatial": "group", "causal": "group"}.get(visibility, visibility))
    segments = layout.segments(named, _WINDOW, clips[0].patches.device)
    if visibility == "causal":
        segments = segments.causal([len(set(clip.groups)) for clip in clips])
    return ClipBatch(
        torch.cat([clip.patches for clip in clips]),
        torch.cat([clip.positions for clip in clips]),
        segments,
        tuple((len(clip.groups), side, side) for clip in clips),
        area,
        torch.cat(token_frames),
        torch.cat(canvas_frames),
        (torch.cat([clip.positions for clip in clips])[:: MERGE**2, 1:] + MERGE / 2) / side,
        torch.stack(seconds),
        torch.stack([_frame_rate(clip) for clip in clips]),
        [clip.starts for clip in clips],
        tuple(clip.duration for clip in clips),
        all(line.filled for line in lines),
    )


def _frame_rate(clip: StoredClip) -> Tensor:
    """(2,) source frames per second, from the first and the last frame shown, and the source frame at second 0.

    Where they are one, every second is that frame.
    """
    frames, seconds = clip.positions[:, 0].float(), clip.seconds
    first, last = torch.where(seconds < 0, torch.inf, seconds).argmin(), seconds.argmax()
    rate = (frames[last] - frames[first]) / (seconds[last] - seconds[first]).clamp(min=1e-6)
    return torch.stack([rate, frames[first] - rate * seconds[first]])
