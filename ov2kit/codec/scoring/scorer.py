"""Block scores of decoded frames, from whatever signal there is, with a record of which it was.

In order: an external map; estimated bits, where asked for; motion vectors with residual, estimated
motion with residual, plain luma difference. A stream without vectors is a normal state and never an error.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ov2kit.codec.scoring.external_maps import _LEAST_BITS, _MAP_PERCENTILE, _MAP_PIXELS, MapKind, ScoreMaps, _has
from ov2kit.codec.scoring.maps import cell_sums, normalized
from ov2kit.codec.scoring.random_saliency import RandomSaliency
from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.codec.signals.bit_cost import BitCostMap, mean_on_grid
from ov2kit.codec.signals.collect import collect_signals
from ov2kit.codec.signals.macroblocks import Moved
from ov2kit.codec.signals.motion_search import estimate_motion
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.orientation import Orientation
from ov2kit.errors import check_choice, check_flag, check_type

Motion = Literal["auto", "stream", "estimate", "none"]
Saliency = MotionResidualSaliency | RandomSaliency


class BlockScorer(nn.Module):
    """Scores of a group's frames, on the grid of blocks of its canvases.

    Args:
        saliency: module that scores luma, reference and motion.
        motion: which motion to use, see `CodecTokenizer`.
        map_kind: what external maps hold: "bits" are compressed by log1p and scaled by their 99th
            percentile, as the release does; "scores" are taken as they are.
        bit_cost: score by the bits that `BitCostMap` estimates, compressed and scaled alike,
            instead of by `saliency`.
    """

    def __init__(
        self,
        saliency: Saliency,
        motion: Motion = "auto",
        map_kind: MapKind = "bits",
        *,
        bit_cost: bool = False,
    ) -> None:
        super().__init__()
        kinds = (MotionResidualSaliency, RandomSaliency)
        check_type("saliency", saliency, kinds, "a MotionResidualSaliency or RandomSaliency")
        check_choice("motion", motion, get_args(Motion))
        check_choice("map_kind", map_kind, get_args(MapKind))
        check_flag("bit_cost", bit_cost)
        self.saliency = saliency
        self.motion: Motion = motion
        self.map_kind: MapKind = map_kind
        self.bit_cost = bit_cost
        self.models: dict[Moved, BitCostMap] = {}

    @property
    def needs_whole_clip(self) -> bool:
        """Scores are scaled over the clip, so no group can be scored before all are decoded."""
        return self.saliency.normalize == "clip" and not self.bit_cost

    def moved(self, exports_motion: bool) -> Moved:
        """What bits are estimated from, for a stream that has vectors or not."""
        if self.motion == "none":
            return "difference"
        if exports_motion:
            return "vectors"
        return "estimated" if self.motion == "estimate" else "difference"

    def estimated_bits(
        self, frames: Sequence[Frame], info: StreamInfo, grid: tuple[int, int], *, threads: int = 1
    ) -> tuple[Tensor, str]:
        """Score frames by estimated bits.

        Args:
            frames: decoded with luma and reference at `macroblock_luma_size`, as coded.
            info: of their stream.
            grid: (rows, cols) of blocks, as shown.
            threads: batches of frames that are worked on at a time.

        Returns:
            (T, rows, cols) float32 scores and the signal, "bit-cost, estimated".
        """
        moved = self.moved(info.exports_motion)
        if moved not in self.models:
            self.models[moved] = BitCostMap(moved)
        bits = self.models[moved].of_frames(frames, info.coded_size, threads=threads)
        cost = normalized(bits.log1p(), _MAP_PERCENTILE, math.log1p(_LEAST_BITS))[0]
        scores = mean_on_grid(cost, info.coded_size, info.orientation.size(*grid)) * _MAP_PIXELS**2
        return torch.from_numpy(info.orientation.picture(scores.numpy())), "bit-cost, estimated"

    def forward(
        self,
        frames: Sequence[Frame],
        orientation: Orientation,
        grid: tuple[int, int],
        before: Frame | None = None,
        score_maps: ScoreMaps | None = None,
    ) -> tuple[Tensor, str]:
        """Score frames of one group (or of the whole clip).

        Args:
            frames: decoded with luma, reference and motion, in display order.
            orientation: from coded to shown.
            grid: (rows, cols) of blocks.
            before: the last frame decoded before them, to compare the first one with.
            score_maps: external maps by display index.

        Returns:
            (T, rows, cols) float32 scores, and the signal used: "external", "motion+residual",
            "estimated motion+residual", "luma" or "random".
        """
        if score_maps is not None:
            return self._external(frames, grid, score_maps), "external"
        signals = collect_signals(frames, orientation, before)
        if isinstance(self.saliency, RandomSaliency):
            drawn: Tensor = self.saliency(signals.luma, grid, signals.valid)
            return drawn, "random"
        motion, signal = signals.motion, "motion+residual"
        if self.motion == "none":
            motion = None
        elif motion is None and self.motion == "estimate":
            motion, signal = estimate_motion(signals.luma, signals.reference), "estimated motion+residual"
        if motion is None:
            signal = "luma"
        pictures = (signals.luma, signals.reference, motion)
        scale = None
        if self.needs_whole_clip:
            scale = self.saliency.scales(*pictures, signals.valid, distance=signals.distance)
        scores: Tensor = self.saliency(
            *pictures, grid, signals.nbytes, signals.valid, distance=signals.distance, scale=scale
        )
        return scores, signal

    def _external(self, frames: Sequence[Frame], grid: tuple[int, int], maps: ScoreMaps) -> Tensor:
        pixels = (grid[0] * _MAP_PIXELS, grid[1] * _MAP_PIXELS)
        rows = []
        for frame in frames:
            if not _has(maps, frame.index):  # an anchor without a map: it is shown whole anyway
                rows.append(torch.zeros(grid))
                continue
            given = torch.as_tensor(np.asarray(maps[frame.index]), dtype=torch.float32)
            if given.ndim != 2:
                raise ValueError(f"a score map must be (rows, cols), got {tuple(given.shape)} for frame {frame.index}")
            if not given.isfinite().all():
                raise ValueError(f"the score map of frame {frame.index} holds NaN or infinity")
            if self.map_kind == "bits":
                given = normalized(given.clamp(min=0).log1p(), _MAP_PERCENTILE, 1e-6)[0]
            rows.append(cell_sums(given, pixels, grid))
        return torch.stack(rows)


def describe_signal(
    counts: Mapping[str, int], motion: Motion, exports_motion: bool, bits_from: Moved | None = None
) -> dict[str, Any]:
    """Provenance: the signal most frames were scored by, how many frames each, and what bits were estimated from."""
    used = max(counts, key=lambda name: counts[name]) if counts else "none"
    told: dict[str, Any] = {} if bits_from is None else {"bits_from": bits_from}
    return told | {
        "used": used,
        "frames": dict(counts),
        "asked": motion,
        "decoder_exports_motion": exports_motion,
    }
