"""The search for a quota and a stretch of the span limits that use a budget of groups and keep it."""

from collections.abc import Callable
from dataclasses import replace

from ov2kit.codec.grouping.bitcost_walk import Bins, GroupTrace, SpanLimits, round_up, walk

_QUOTA_STEPS = 40  # halvings of the search for a quota
_SHRINK = 2**-0.25  # one step towards shorter groups


def search(
    bins_at: Callable[[float], Bins],
    limits: SpanLimits,
    quota_groups: float,
    max_groups: int,
    least_stretch: float,
) -> GroupTrace:
    """The partition with most groups within the budget.

    Too many groups: both span limits stretch by the smallest factor that makes them fit, found by
    doubling and halving over whole bins. Too few: the quota shrinks, and if the shortest span is what
    holds them back both limits shrink in steps of 2 ** -1/4; among results with equally many groups the
    one nearest to the plain limits wins.

    Args:
        bins_at: the bins for a stretch.
        limits: the plain limits.
        quota_groups: K of the quota to begin with.
        max_groups: the budget, at least 1.
        least_stretch: the limits shrink no further than this.
    """
    bins = bins_at(1.0)
    best = walk(bins, limits, quota_groups)
    if len(best) > max_groups:
        return _fill(bins, limits, _stretched(bins, limits, quota_groups, max_groups), max_groups)
    best = _fill(bins, limits, best, max_groups)
    stretch = 1.0
    while len(best) < max_groups and stretch * _SHRINK >= least_stretch:
        stretch *= _SHRINK
        found = _at_stretch(bins_at(stretch), replace(limits, stretch=stretch), quota_groups, max_groups)
        if found is not None and len(found) > len(best):
            best = found
    return best


def _stretched(bins: Bins, limits: SpanLimits, quota_groups: float, most: int) -> GroupTrace:
    """The smallest stretch above 1, in whole bins of the longest span, with at most `most` groups."""

    def at(max_bins: int) -> GroupTrace:
        stretch = max_bins * bins.seconds / limits.max_seconds
        return walk(bins, replace(limits, stretch=stretch), quota_groups)

    fails = max(1, round_up(limits.max_seconds / bins.seconds))
    fits, found = 2 * fails, at(2 * fails)
    while len(found) > most:  # ends: once the shortest span reaches all bins there is one group
        fails, fits = fits, 2 * fits
        found = at(fits)
    while fits - fails > 1:
        middle = (fits + fails) // 2
        trial = at(middle)
        if len(trial) > most:
            fails = middle
        else:
            fits, found = middle, trial
    return found


def _fill(bins: Bins, limits: SpanLimits, found: GroupTrace, most: int) -> GroupTrace:
    """Shrink the quota of a partition that fits until it has as many groups as may be."""
    limits = replace(limits, stretch=found.stretch)
    low = high = found.quota_groups
    best = found
    while len(best) < most and high < 16 * len(bins):
        high *= 2
        trial = walk(bins, limits, high)
        if len(trial) > most:
            return _between(bins, limits, low, high, best, most)
        low, best = high, trial if len(trial) > len(best) else best
    return best


def _at_stretch(bins: Bins, limits: SpanLimits, quota_groups: float, most: int) -> GroupTrace | None:
    """The most groups within the budget at one stretch; None where even a huge quota gives more."""
    found = walk(bins, limits, quota_groups)
    if len(found) <= most:
        return _fill(bins, limits, found, most)
    low = walk(bins, limits, 0.5)  # a quota never reached: groups of the longest span
    return None if len(low) > most else _between(bins, limits, 0.5, quota_groups, low, most)


def _between(bins: Bins, limits: SpanLimits, low: float, high: float, best: GroupTrace, most: int) -> GroupTrace:
    """Halve between a quota that gives few enough groups and one that gives too many."""
    for _ in range(_QUOTA_STEPS):
        if len(best) == most or high - low < 1e-9 * high:
            break
        middle = (low + high) / 2
        trial = walk(bins, limits, middle)
        if len(trial) > most:
            high = middle
        else:
            low, best = middle, trial if len(trial) > len(best) else best
    return best
