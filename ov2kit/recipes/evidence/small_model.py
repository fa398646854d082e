"""The one small model of the experiment: encoder, connector, read-out.

Letters: N patches of a batch, M tokens, K canvases, B clips, F distinct frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ov2kit.canvases import CLIP_MEAN, CLIP_STD
from ov2kit.connectors import AveragePool, MLPConnector, PatchMerger, PerceiverResampler
from ov2kit.encoders import OneVisionEncoder
from ov2kit.positional import NoPositions, RoPE3D
from ov2kit.recipes.evidence.canvas_store import MERGE, PATCH, StoredClip
from ov2kit.recipes.evidence.readout import TimeReadout
from ov2kit.recipes.evidence.variant import SweepError
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
        place: (M', 2) float32 centre of each block in its frame, (row, column) as shares of the edges.
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


def pack(clips: Sequence[StoredClip], visibility: str) -> ClipBatch:
    """Clips one after the other, with the segments that `visibility` names."""
    area = len(clips[0].patches) // len(clips[0].groups)
    lengths: list[int] = []
    token_frames, canvas_frames, seconds = [], [], []
    most = max(len(torch.unique(clip.seconds)) for clip in clips)
    for number, clip in enumerate(clips):
        lengths += [n * area for n in _runs(clip.groups, visibility)]
        blocks = clip.seconds[:: MERGE**2]
        times, place = torch.unique(blocks[blocks >= 0], return_inverse=True)
        frame = torch.full((len(blocks),), -1)
        frame[blocks >= 0] = place + number * most
        token_frames.append(frame)
        canvas_frames.append(frame.view(len(clip.groups), -1)[:, 0])
        seconds.append(torch.cat([times, torch.full((most - len(times),), torch.nan)]))
    side = round(area**0.5)
    return ClipBatch(
        torch.cat([clip.patches for clip in clips]),
        torch.cat([clip.positions for clip in clips]),
        Segments.from_lengths(lengths),
        tuple((len(clip.groups), side, side) for clip in clips),
        area,
        torch.cat(token_frames),
        torch.cat(canvas_frames),
        (torch.cat([clip.positions for clip in clips])[:: MERGE**2, 1:] + MERGE / 2) / side,
        torch.stack(seconds),
        [clip.starts for clip in clips],
        tuple(clip.duration for clip in clips),
    )


def _runs(groups: tuple[int, ...], visibility: str) -> list[int]:
    """Canvases per segment of one clip."""
    if visibility == "full":
        return [len(groups)]
    if visibility == "canvas":
        return [1] * len(groups)
    if visibility == "window":
        return [min(_WINDOW, len(groups) - at) for at in range(0, len(groups), _WINDOW)]
    if visibility in ("group", "spatial"):
        return [groups.count(group) for group in sorted(set(groups))]
    raise SweepError(f"unknown visibility {visibility!r}; known: group, full, canvas, window, spatial")


class JumpModel(nn.Module):
    """Canvases of clips -> a logit per time step.

    Args:
        width: of the encoder and its tokens; a multiple of 32.
        depth: blocks.
        positions: "release", "exact", "2d" or "none".
        visibility: as in `pack`; "spatial" also gives the encoder windows of 4 x 4 patches.
        connector: "merger", "mlp", "resampler" or "pool".
        canvas_tokens: merged tokens of a canvas: what resampler and pool make of one.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        width: int = 32,
        depth: int = 2,
        *,
        positions: str = "release",
        visibility: str = "group",
        connector: str = "merger",
        canvas_tokens: int = 16,
    ) -> None:
        super().__init__()
        window = {"window": (4, 4), "span": "canvas"} if visibility == "spatial" else {}
        options: dict[str, Any] = {"patch": PATCH, "merge": MERGE, "position": _position(positions), **window}
        self.encoder = OneVisionEncoder(width, depth, width // _HEAD_DIM, 2 * width, **options)
        for module in self.encoder.modules():  # its deviation of 0.02 suits a width of 1024; here it is a slow start
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        self.connector = _connector(connector, width, canvas_tokens)
        self.per_canvas = connector in ("resampler", "pool")
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
            tokens, _ = self.connector(features, [batch.canvas_patches] * (len(features) // batch.canvas_patches))
            if self.latents:  # which latent holds what is not known: they carry the time their canvas begins at
                frame = batch.canvas_frame.repeat_interleave(self.latents)
                place = batch.place.new_full((len(frame), 2), 0.5)
        else:
            tokens = self.connector(features)
        kept = frame >= 0
        logits: Tensor = self.readout(tokens[kept], place[kept], frame[kept], batch.frame_seconds, query_seconds)
        return logits


def _position(name: str) -> nn.Module:
    if name == "none":
        return NoPositions()
    if name == "2d":
        return RoPE3D(_HEAD_DIM, split=(0, 1, 1), pairing="release")
    if name not in ("release", "exact"):
        raise SweepError(f"unknown positions {name!r}; known: release, exact, 2d, none")
    return RoPE3D(_HEAD_DIM, pairing="release" if name == "release" else "interleaved")


def _connector(name: str, width: int, tokens: int) -> nn.Module:
    if name == "merger":
        return PatchMerger(width, width, MERGE)
    if name == "mlp":
        return MLPConnector(width, width, MERGE)
    if name == "resampler":
        return PerceiverResampler(width, width, tokens, depth=1, heads=width // _HEAD_DIM, mlp_ratio=2.0)
    if name == "pool":
        return AveragePool(width, width, tokens)
    raise SweepError(f"unknown connector {name!r}; known: merger, mlp, resampler, pool")
