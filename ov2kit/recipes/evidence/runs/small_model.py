"""The one small model of the experiment: encoder, connector, read-out.

Letters: N patches of a batch, M tokens, K canvases, B clips, F distinct frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ov2kit.canvases import CLIP_MEAN, CLIP_STD
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import OptionError, check_choice, check_number
from ov2kit.recipes.architecture.parts import PositionsName, build_connector, position_module
from ov2kit.recipes.evidence.runs.canvas_store import MERGE, PATCH, StoredClip
from ov2kit.recipes.evidence.runs.readout import TimeReadout
from ov2kit.recipes.evidence.runs.variant import ConnectorName, SeenBy, SweepError
from ov2kit.recipes.prompt.layout import VisualLayout
from ov2kit.segments import Segments

_WINDOW = 2  # canvases: half a group
_HEAD_DIM = 32


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
        starts: answers.
        durations: seconds.
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
    starts: list[tuple[float, ...]]
    durations: tuple[float, ...]

    def to(self, device: torch.device | str, **options: Any) -> "ClipBatch":
        """The same batch on `device`; NaN times, lengths and answers stay what they are."""
        moved: dict[str, Any] = {
            name: value.to(device, **options) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, segments=self.segments.to(device), **moved)


def pack(clips: Sequence[StoredClip], visibility: SeenBy) -> ClipBatch:
    """Clips one after the other, with the segments that `visibility` names.

    They are those of `VisualLayout.segments`; "window" is 2 canvases and "spatial" sees by group.
    """
    check_choice("visibility", visibility, get_args(SeenBy), SweepError)
    area = len(clips[0].patches) // len(clips[0].groups)
    side = round(area**0.5)
    token_frames, canvas_frames, seconds = [], [], []
    most = max(len(torch.unique(clip.seconds)) for clip in clips)
    for number, clip in enumerate(clips):
        blocks = clip.seconds[:: MERGE**2]
        times, place = torch.unique(blocks[blocks >= 0], return_inverse=True)
        frame = torch.full((len(blocks),), -1)
        frame[blocks >= 0] = place + number * most
        token_frames.append(frame)
        canvas_frames.append(frame.view(len(clip.groups), -1)[:, 0])
        seconds.append(torch.cat([times, torch.full((most - len(times),), torch.nan)]))
    layout = VisualLayout(
        tuple((side, side) for clip in clips for _ in clip.groups),
        tuple(group for clip in clips for group in clip.groups),
        tuple(number for number, clip in enumerate(clips) for _ in clip.groups),
    )
    return ClipBatch(
        torch.cat([clip.patches for clip in clips]),
        torch.cat([clip.positions for clip in clips]),
        layout.segments("group" if visibility == "spatial" else visibility, _WINDOW),
        tuple((len(clip.groups), side, side) for clip in clips),
        area,
        torch.cat(token_frames),
        torch.cat(canvas_frames),
        (torch.cat([clip.positions for clip in clips])[:: MERGE**2, 1:] + MERGE / 2) / side,
        torch.stack(seconds),
        [clip.starts for clip in clips],
        tuple(clip.duration for clip in clips),
    )


class JumpModel(nn.Module):
    """Canvases of clips -> a logit per time step.

    Args:
        width: of the encoder and its tokens; a multiple of 32.
        depth: blocks.
        positions: as in `position_module`.
        visibility: as in `pack`; "spatial" also gives the encoder windows of 4 x 4 patches.
        connector: a name of `recipes.architecture.connectors()`, without "query" and "conv".
        canvas_tokens: merged tokens of a canvas: what a connector to a number of tokens makes of one.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        width: int = 32,
        depth: int = 2,
        *,
        positions: PositionsName = "release",
        visibility: SeenBy = "group",
        connector: ConnectorName = "merger",
        canvas_tokens: int = 16,
    ) -> None:
        super().__init__()
        window = {"window": (4, 4), "span": "canvas"} if visibility == "spatial" else {}
        check_number("width", width, low=_HEAD_DIM, integer=True)
        if width % _HEAD_DIM:
            raise OptionError(f"width must be a multiple of {_HEAD_DIM}, got {width}")
        check_choice("visibility", visibility, get_args(SeenBy))
        check_choice("connector", connector, get_args(ConnectorName))
        check_number("canvas_tokens", canvas_tokens, low=1, integer=True)
        heads = width // _HEAD_DIM
        vision = {"hidden_size": width, "num_attention_heads": heads, "spatial_merge_size": MERGE}
        options: dict[str, Any] = {"patch": PATCH, "merge": MERGE, **window}
        self.encoder = OneVisionEncoder(
            width, depth, heads, 2 * width, position=position_module(positions, vision), **options
        )
        for module in self.encoder.modules():  # its deviation of 0.02 suits a width of 1024; here it is a slow start
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        self.per_canvas = connector in ("resampler", "pool", "average")
        sizes: dict[str, Any] = {"tokens": canvas_tokens} if self.per_canvas else {}
        if connector == "resampler":
            sizes |= {"depth": 1, "mlp_ratio": 2.0}
        self.connector = build_connector(connector, vision, width, **sizes)
        self.latents = canvas_tokens if connector == "resampler" else 0
        self.readout = TimeReadout(width)
        mean, std = (torch.tensor(x).repeat_interleave(PATCH**2) for x in (CLIP_MEAN, CLIP_STD))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", mean / std, persistent=False)

    def forward(self, batch: ClipBatch, query_seconds: Tensor) -> Tensor:
        """Logits (B, Q)."""
        pixels = batch.patches.float().mul_(self.scale).sub_(self.shift)  # in place: new memory costs more than sums
        features = self.encoder(pixels, batch.positions, batch.segments, grid_thw=batch.grids)
        frame, place = batch.token_frame, batch.place
        if self.per_canvas:
            tokens = self.connector(features, [batch.canvas_patches] * (len(features) // batch.canvas_patches))
            if self.latents:  # which latent holds what is not known: they carry the time their canvas begins at
                frame = batch.canvas_frame.repeat_interleave(self.latents)
                place = batch.place.new_full((len(frame), 2), 0.5)
        else:
            tokens = self.connector(features)
        kept = frame >= 0
        logits: Tensor = self.readout(tokens[kept], place[kept], frame[kept], batch.frame_seconds, query_seconds)
        return logits
