"""Scales of saliency over a stream, where a clip would have one for all of it."""

import torch
from torch import Tensor, nn

from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.codec.scoring.saliency_scorer import SaliencyScorer
from ov2kit.codec.scoring.scorer import Scorer
from ov2kit.codec.signals.collect import FrameSignals
from ov2kit.errors import OptionError, check_number


class RunningScale(nn.Module):
    """A saliency with ``normalize="clip"`` whose scale is a mean over the groups so far.

    The mean is geometric, and a group counts half after `half_life_groups` more.

    Args:
        saliency: with ``normalize="clip"``.
        half_life_groups: of the mean.
    """

    needs_whole_clip = False

    def __init__(self, saliency: MotionResidualSaliency, half_life_groups: float = 8.0) -> None:
        super().__init__()
        check_number("half_life_groups", half_life_groups, above=0)
        self.saliency = saliency
        self._decay = 0.5 ** (1 / half_life_groups)
        self._sum, self._weight = torch.zeros(2), 0.0

    @property
    def scale(self) -> Tensor:
        """(2,) pixels and gray levels that map to 1 now."""
        return (self._sum / self._weight).exp()

    def of_signals(self, signals: FrameSignals, motion: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """Score a group by the scale of all groups up to it, see `MotionResidualSaliency.of_signals`."""
        pictures = (signals.luma, signals.reference, motion)
        if bool(signals.valid.any()):
            own = self.saliency.scales(*pictures, signals.valid, distance=signals.distance)
            self._sum = self._decay * self._sum + own.cpu().log()
            self._weight = self._decay * self._weight + 1
        scale = self.scale if self._weight else torch.ones(2)
        scores: Tensor = self.saliency(
            *pictures, grid, signals.nbytes, signals.valid, distance=signals.distance, scale=scale
        )
        return scores


def causal_scorer(scorer: Scorer) -> Scorer:
    """A scorer of the same kind that needs no group but those that have been.

    Raises:
        OptionError: there is none.
    """
    if not scorer.needs_whole_clip:
        return scorer
    saliency = getattr(scorer, "saliency", None)
    if isinstance(scorer, SaliencyScorer) and isinstance(saliency, MotionResidualSaliency):
        causal = SaliencyScorer(MotionResidualSaliency(), scorer.motion)
        causal.saliency = RunningScale(saliency)
        return causal
    raise OptionError(f"{type(scorer).__name__} scores a clip as a whole; a stream with a bounded delay never is whole")
