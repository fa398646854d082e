"""The one small model of the experiment: encoder, connector, read-out.

Letters: N patches of a batch, M tokens, K canvases, B clips, F distinct frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ov2kit.canvases import CLIP_MEAN, CLIP_STD
from ov2kit.connectors import EVSPruner, UniquenessPruner
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import OptionError, check_choice, check_number
from ov2kit.recipes.architecture.parts import PositionsName, build_connector, position_module
from ov2kit.recipes.evidence.runs.canvas_store import MERGE, PATCH, StoredClip
from ov2kit.recipes.evidence.runs.readout import TimeReadout
from ov2kit.recipes.evidence.runs.variant import ConnectorName, Precision, PruningName, SeenBy, SweepError
from ov2kit.recipes.prompt.layout import VisualLayout
from ov2kit.segments import Segments

_WINDOW = 2  # canvases: half a group
_HEAD_DIM = 32
_PRUNERS = {"evs": EVSPruner, "uniqueness": UniquenessPruner}


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

    They are those of `VisualLayout.segments`; "window" is 2 canvases and "spatial" sees by group.
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
    return ClipBatch(
        torch.cat([clip.patches for clip in clips]),
        torch.cat([clip.positions for clip in clips]),
        layout.segments("group" if visibility == "spatial" else visibility, _WINDOW, clips[0].patches.device),
        tuple((len(clip.groups), side, side) for clip in clips),
        area,
        torch.cat(token_frames),
        torch.cat(canvas_frames),
        (torch.cat([clip.positions for clip in clips])[:: MERGE**2, 1:] + MERGE / 2) / side,
        torch.stack(seconds),
        [clip.starts for clip in clips],
        tuple(clip.duration for clip in clips),
        all(line.filled for line in lines),
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
        pruning: which of the connector's tokens are kept, compared frame by frame.
        kept_tokens: of a clip, by `pruning`.
        precision: of encoder and connector; the read-out and all weights are float32.
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
        pruning: PruningName = "none",
        kept_tokens: int = 128,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        window = {"window": (4, 4), "span": "canvas"} if visibility == "spatial" else {}
        check_number("width", width, low=_HEAD_DIM, integer=True)
        if width % _HEAD_DIM:
            raise OptionError(f"width must be a multiple of {_HEAD_DIM}, got {width}")
        check_choice("visibility", visibility, get_args(SeenBy))
        check_choice("connector", connector, get_args(ConnectorName))
        for name, count in (("canvas_tokens", canvas_tokens), ("kept_tokens", kept_tokens)):
            check_number(name, count, low=1, integer=True)
        check_choice("pruning", pruning, get_args(PruningName))
        check_choice("precision", precision, get_args(Precision))
        self.precision = precision
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
        self.pruner = None if pruning == "none" else _PRUNERS[pruning](width, tokens=kept_tokens)
        self.readout = TimeReadout(width)
        mean, std = (torch.tensor(x).repeat_interleave(PATCH**2) for x in (CLIP_MEAN, CLIP_STD))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", mean / std, persistent=False)

    def forward(self, batch: ClipBatch, query_seconds: Tensor) -> Tensor:
        """Logits (B, Q)."""
        pixels = batch.patches.float().mul_(self.scale).sub_(self.shift)  # in place: new memory costs more than sums
        frame, place = batch.token_frame, batch.place
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            features = self.encoder(pixels, batch.positions, batch.segments, grid_thw=batch.grids)
            if self.per_canvas:
                tokens = self.connector(features, [batch.canvas_patches] * (len(features) // batch.canvas_patches))
                if self.latents:  # which latent holds what is not known: they carry the time their canvas begins at
                    frame = batch.canvas_frame.repeat_interleave(self.latents)
                    place = batch.place.new_full((len(frame), 2), 0.5)
            else:
                tokens = self.connector(features)
        tokens = tokens.float()
        if self.pruner is not None:
            rows = self.pruner.kept(tokens, grids=batch.grids)
            tokens, frame, place = tokens[rows], frame[rows], place[rows]
        if not batch.filled:
            kept = frame >= 0
            tokens, frame, place = tokens[kept], frame[kept], place[kept]
        logits: Tensor = self.readout(tokens, place, frame, batch.frame_seconds, query_seconds)
        return logits
