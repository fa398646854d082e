"""What a place costs usually, taken out: snow, water, leaves and flicker cost much always, events more than usual."""

from torch import Tensor


def beyond_habit(scores: Tensor, deviations: float = 2.0, least: float = 1.0) -> Tensor:
    """How much more each place costs than it usually does, in units of what it usually does.

    (score - median - deviations * median absolute deviation) / (least + median), 0 below; medians are over time,
    the lower of two in the middle.

    Args:
        scores: (T, hb, wb) float, at least 0.
        deviations: that still are usual.
        least: what counts as usual where nothing ever happens.

    Returns:
        As `scores`.
    """
    usual = scores.median(0).values
    spread = (scores - usual).abs().median(0).values
    return (scores - usual - deviations * spread).clamp(min=0) / (least + usual)
