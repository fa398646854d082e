"""BlockScorer: the old spelling of the scorers; goes with ov2kit 0.2."""

from collections.abc import Sequence
from typing import get_args

from torch import Tensor, nn

from ov2kit.codec.scoring.estimated_bits import EstimatedBitsScorer
from ov2kit.codec.scoring.event_scorer import EventScorer
from ov2kit.codec.scoring.external_maps import ExternalMapScorer, MapKind, ScoreMaps
from ov2kit.codec.scoring.query_saliency import PlainSaliency
from ov2kit.codec.scoring.random_saliency import RandomScorer
from ov2kit.codec.scoring.saliency_scorer import plain_scorer_of
from ov2kit.codec.scoring.scorer import Motion
from ov2kit.codec.signals.collect import collect_signals
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.orientation import Orientation
from ov2kit.errors import check_choice, deprecated


class BlockScorer(nn.Module):
    """Deprecated: `SaliencyScorer`, `EstimatedBitsScorer` and `ExternalMapScorer` in one.

    Args:
        saliency: of the `SaliencyScorer`.
        motion: see `CodecTokenizer`.
        map_kind: of the `ExternalMapScorer`.
        bit_cost: not used; `estimated_bits` is there anyway.
    """

    def __init__(
        self, saliency: PlainSaliency, motion: Motion = "auto", map_kind: MapKind = "bits", *, bit_cost: bool = False
    ) -> None:
        super().__init__()
        deprecated("BlockScorer", "SaliencyScorer, EstimatedBitsScorer or ExternalMapScorer", "0.2")
        self.scorer, self.bits = plain_scorer_of(saliency, motion), EstimatedBitsScorer(motion)
        self.map_kind: MapKind = check_choice("map_kind", map_kind, get_args(MapKind))

    def estimated_bits(
        self, frames: Sequence[Frame], info: StreamInfo, grid: tuple[int, int], *, threads: int = 1
    ) -> tuple[Tensor, str]:
        """Scores and signal of `EstimatedBitsScorer.scores`."""
        found = self.bits.scores(frames, info, grid, threads=threads)
        return found.values, found.signal

    def forward(
        self,
        frames: Sequence[Frame],
        orientation: Orientation,
        grid: tuple[int, int],
        before: Frame | None = None,
        score_maps: ScoreMaps | None = None,
    ) -> tuple[Tensor, str]:
        """Scores and signal of `SaliencyScorer.scores`, or of `ExternalMapScorer.scores` where maps are given."""
        if score_maps is not None:
            return ExternalMapScorer(score_maps, self.map_kind).of_frames(frames, grid), "external"
        signals = collect_signals(frames, orientation, before)
        if isinstance(self.scorer, RandomScorer):
            return self.scorer.saliency(signals.luma, grid, signals.valid), "random"
        if isinstance(self.scorer, EventScorer):
            return self.scorer.saliency(signals.luma, grid, None if before is None else before.luma), "luma, events"
        found = self.scorer.of_signals(signals, grid)
        return found.values, found.signal
