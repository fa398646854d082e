"""Scores from saliency modules; a stream without motion vectors is a normal state and never an error.

In order: motion vectors with residual, estimated motion with residual, plain luma difference.
"""

from collections.abc import Sequence
from typing import Protocol, get_args

import numpy as np
from torch import Tensor, nn

from ov2kit.codec.scoring.byte_share import ByteShareSaliency
from ov2kit.codec.scoring.event_saliency import EventSaliency
from ov2kit.codec.scoring.event_scorer import EventScorer
from ov2kit.codec.scoring.query_saliency import PlainSaliency, QuerySaliency
from ov2kit.codec.scoring.query_scorer import QueryScorer
from ov2kit.codec.scoring.random_saliency import RandomSaliency, RandomScorer
from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.codec.scoring.scorer import BlockScores, Motion, luma_size
from ov2kit.codec.signals.collect import FrameSignals, collect_signals
from ov2kit.codec.signals.motion_search import estimate_motion
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.errors import check_choice, check_type

Saliency = PlainSaliency | QuerySaliency


class _Saliency(Protocol):
    @property
    def needs_whole_clip(self) -> bool: ...

    def of_signals(self, signals: FrameSignals, motion: Tensor | None, grid: tuple[int, int]) -> Tensor: ...


class SaliencyScorer(nn.Module):
    """A saliency module, with the motion that the stream has or that is searched for.

    Args:
        saliency: module that scores luma, reference and motion.
        motion: which motion to use, see `CodecTokenizer`.

    Raises:
        OptionError: `saliency` is no such module, or `motion` is unknown.
    """

    def __init__(self, saliency: MotionResidualSaliency | ByteShareSaliency, motion: Motion = "auto") -> None:
        super().__init__()
        kinds = (MotionResidualSaliency, ByteShareSaliency)
        check_type("saliency", saliency, kinds, "a MotionResidualSaliency or ByteShareSaliency")
        self.saliency: _Saliency = saliency
        self.motion: Motion = check_choice("motion", motion, get_args(Motion))

    def extra_repr(self) -> str:
        return f"motion={self.motion!r}"

    @property
    def needs_whole_clip(self) -> bool:
        """See `Scorer`."""
        return self.saliency.needs_whole_clip

    def request(self, info: StreamInfo, size: tuple[int, int], grid: tuple[int, int]) -> FrameRequest:
        """See `Scorer`: luma, its reference, and motion vectors."""
        return FrameRequest(size, luma_size=luma_size(size, grid), reference=True, motion=self.motion != "none")

    def covered(self, frames: np.ndarray) -> np.ndarray:
        """See `Scorer`: all of them."""
        return frames

    def scores(
        self,
        frames: Sequence[Frame],
        info: StreamInfo,
        grid: tuple[int, int],
        *,
        before: Frame | None = None,
        threads: int = 1,
    ) -> BlockScores:
        """See `Scorer`; the signal is "motion+residual", "estimated motion+residual" or "luma"."""
        return self.of_signals(collect_signals(frames, info.orientation, before), grid)

    def of_signals(self, signals: FrameSignals, grid: tuple[int, int]) -> BlockScores:
        """As `scores`, of collected signals."""
        motion, signal = signals.motion, "motion+residual"
        if self.motion == "none":
            motion = None
        elif motion is None and self.motion == "estimate":
            motion, signal = estimate_motion(signals.luma, signals.reference), "estimated motion+residual"
        if motion is None:
            signal = "luma"
        return BlockScores(self.saliency.of_signals(signals, motion, grid), signal)


def scorer_of(saliency: Saliency, motion: Motion) -> SaliencyScorer | EventScorer | RandomScorer | QueryScorer:
    """The scorer of any saliency module."""
    if isinstance(saliency, QuerySaliency):
        return QueryScorer(saliency, plain_scorer_of(saliency.saliency, motion))
    return plain_scorer_of(saliency, motion)


def plain_scorer_of(saliency: PlainSaliency, motion: Motion) -> SaliencyScorer | EventScorer | RandomScorer:
    """The scorer of a saliency module that knows nothing of a question."""
    if isinstance(saliency, EventSaliency):
        return EventScorer(saliency)
    if isinstance(saliency, RandomSaliency):
        return RandomScorer(saliency)
    return SaliencyScorer(saliency, motion)
