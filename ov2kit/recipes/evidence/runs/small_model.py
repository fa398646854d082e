"""The one small model of the experiment: encoder, connector, read-out.

Letters: N patches of a batch, M tokens, B clips, Q queries.
"""

from typing import Any, get_args

import torch
from torch import Tensor, nn

from ov2kit.canvases import CLIP_MEAN, CLIP_STD
from ov2kit.connectors import EVSPruner, UniquenessPruner
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import OptionError, check_choice, check_number
from ov2kit.recipes.architecture.parts import PositionsName, build_connector, position_module
from ov2kit.recipes.evidence.runs.canvas_store import MERGE, PATCH
from ov2kit.recipes.evidence.runs.clip_batch import ClipBatch
from ov2kit.recipes.evidence.runs.probes import ProbeReadout
from ov2kit.recipes.evidence.runs.readout import TimeReadout
from ov2kit.recipes.evidence.runs.variant import (
    ConnectorName,
    Precision,
    PruningName,
    ReadoutName,
    SeenBy,
    check_readout,
)
from ov2kit.segments import Segments

_HEAD_DIM = 32
_PRUNERS = {"evs": EVSPruner, "uniqueness": UniquenessPruner}


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
        readout: "times" (`TimeReadout`) or "positions" (`ProbeReadout`).
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
        readout: ReadoutName = "times",
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
        check_readout(readout, pruning, connector, visibility)
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
        self.readout = TimeReadout(width) if readout == "times" else ProbeReadout(width, 3 * PATCH**2)
        mean, std = (torch.tensor(x).repeat_interleave(PATCH**2) for x in (CLIP_MEAN, CLIP_STD))
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", mean / std, persistent=False)

    def forward(self, batch: ClipBatch, query_seconds: Tensor) -> Tensor:
        """Logits (B, Q)."""
        pixels = batch.patches.float().mul_(self.scale).sub_(self.shift)  # in place: new memory costs more than sums
        if isinstance(self.readout, ProbeReadout):
            return self._by_probes(self.readout, pixels, batch, query_seconds)
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

    def seen(self, batch: ClipBatch, queries: int) -> Segments:
        """Which rows of the encoder see which: patches, and the probes of so many queries where there are probes."""
        return self.readout.segments(batch, queries) if isinstance(self.readout, ProbeReadout) else batch.segments

    def _by_probes(self, readout: ProbeReadout, pixels: Tensor, batch: ClipBatch, query_seconds: Tensor) -> Tensor:
        everything = readout.beside(pixels, batch, query_seconds)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            read = self.connector(self.encoder(*everything)[len(pixels) :])
        logits: Tensor = readout(read.float().view(len(batch.grids), len(query_seconds), -1))
        return logits
