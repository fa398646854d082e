"""What a place costs usually, taken out: snow, water, leaves and flicker cost much always, events more than usual."""

from torch import Tensor

from ov2kit.codec.scoring.maps import lower_median


def beyond_habit(scores: Tensor, deviations: float = 2.0, least: float = 1.0, quantile: float = 0.9) -> Tensor:
    """How much more each place costs than it usually does, in units of what it often does.

    (score - median - deviations * median absolute deviation) / (least + quantile), 0 below; all are over time, of two
    medians in the middle the lower. Where something passes again and again the median may be 0 and the quantile is not.

    Args:
        scores: (T, hb, wb) float, at least 0.
        deviations: that still are usual.
        least: what counts as often where nothing ever happens.
        quantile: in [0, 1], linear between ranks.

    Returns:
        As `scores`.
    """
    usual = lower_median(scores, 0)
    spread = lower_median((scores - usual).abs(), 0)
    often = scores.quantile(quantile, dim=0)
    return (scores - usual - deviations * spread).clamp(min=0) / (least + often)
