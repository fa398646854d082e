"""Cuts from what has been seen: those of the whole clip where quota and delay are those of a clip."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from ov2kit.codec.grouping import BitCostGrouping
from ov2kit.codec.grouping.energy import smooth_energy
from ov2kit.codec.live.grouping import RunningGrouping
from ov2kit.errors import OptionError


def cuts_of(grouping, energy, may_cut=lambda end: True):
    """All cuts, with how many bins had been seen when each was known."""
    found = []
    for seen, value in enumerate(energy, 1):
        cut = grouping.add(float(value), may_cut)
        while cut is not None:
            found.append((cut, seen))
            cut = grouping.more(may_cut)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_with_the_quota_of_a_clip_and_time_to_wait_the_cuts_are_those_of_the_clip(seed):
    rng = np.random.default_rng(seed)
    raw = rng.gamma(0.5, 1000, 200) * (rng.random(200) < 0.8)
    smoothed = smooth_energy(torch.from_numpy(raw), 1)
    offline = BitCostGrouping(12).trace(smoothed)
    live = cuts_of(RunningGrouping(8, delay_seconds=3.5, threshold=offline.threshold), raw)
    spans = [(cut.start, cut.end) for cut, _ in live]
    spans = spans[: len(offline.spans) - 1]  # the tail may have joined the last
    live = live[: len(spans)]
    assert len(spans) > 10
    assert spans == list(offline.spans[: len(spans)])
    assert [cut.trigger for cut, _ in live] == list(offline.triggers[: len(spans)])
    sums = [float(smoothed[a:b].sum()) for a, b in spans]
    assert [cut.spent for cut, _ in live] == pytest.approx(sums)


@pytest.mark.parametrize("delay", [0, 0.3, 0.5, 1.0, 1.5, 2.0, 8.0])
@pytest.mark.parametrize("smooth", [0, 1, 3])
def test_no_cut_is_known_later_than_the_delay(delay, smooth):
    rng = np.random.default_rng(3)
    raw = rng.gamma(0.5, 1000, 400)
    found = cuts_of(RunningGrouping(4, delay_seconds=delay, smooth_bins=smooth), raw)
    assert len(found) > 30
    assert max(seen - cut.end for cut, seen in found) <= delay / 0.5
    spans = [(cut.start, cut.end) for cut, _ in found]
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert {3 <= end - start <= 12 for start, end in spans} == {True}


def test_a_cut_is_made_at_the_cheapest_bin_within_the_delay():
    """Quota 30 at bins of 10: asked for at bin 2, cheap bins after it at 3 and 5."""
    energy = [10, 10, 10, 3, 10, 1] + [10] * 20
    ends = {}
    for delay in (0, 0.5, 1.0, 1.5, 3.0):
        grouping = RunningGrouping(1.5, delay_seconds=delay, smooth_bins=0, threshold=30, max_seconds=6)
        ends[delay] = cuts_of(grouping, energy)[0][0].end
    assert ends == {0: 3, 0.5: 4, 1.0: 4, 1.5: 4, 3.0: 6}


def test_a_longer_delay_than_the_search_looks_ahead_changes_no_cut():
    raw = np.random.default_rng(4).gamma(0.5, 1000, 400)
    ends = {
        delay: [cut.end for cut, _ in cuts_of(RunningGrouping(4, delay_seconds=delay), raw)] for delay in (2, 3.5, 4, 8)
    }
    assert ends[3.5] == ends[4] == ends[8] != ends[2]


def test_the_quota_follows_the_mean_with_its_half_life():
    grouping = RunningGrouping(8, half_life_seconds=60)
    cuts_of(grouping, [100] * 2000)
    assert grouping.threshold == pytest.approx(100 * 16)
    cuts_of(grouping, [300] * 120)  # one half-life
    assert grouping.threshold == pytest.approx(200 * 16, rel=1e-3)


def test_where_nothing_is_spent_every_bin_is_equal():
    found = cuts_of(RunningGrouping(4), [0] * 40)
    assert {cut.end - cut.start for cut, _ in found} <= {7, 8, 9}
    assert len(found) == 4


def test_without_tokens_only_the_longest_group_ends():
    raw = [1000.0] * 60
    found = cuts_of(RunningGrouping(2, delay_seconds=0), raw, lambda end: False)
    assert [(cut.end, cut.reason) for cut, _ in found] == [(12 * k, "longest") for k in range(1, 6)]


def test_close_and_decide_end_with_what_is_there():
    grouping = RunningGrouping(4, threshold=1e9)
    assert grouping.close() is None
    assert not cuts_of(grouping, [5, 6, 7])
    cut = grouping.close()
    assert (cut.start, cut.end, cut.spent) == (0, 3, pytest.approx(5.5 + 6 + 7))  # the last bin is not smoothed yet
    assert grouping.close() is None
    grouping = RunningGrouping(4, threshold=10, delay_seconds=3.5)
    assert not cuts_of(grouping, [5, 5, 5, 1])
    assert grouping.is_due
    assert grouping.decide().end == 3
    assert grouping.decide() is None


def test_memory_is_that_of_the_open_group():
    grouping = RunningGrouping(4)
    cuts_of(grouping, np.random.default_rng(0).gamma(0.5, 1000, 20_000))
    assert len(grouping._raw) < 30
    assert len(grouping._smoothed) < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay_seconds": -1}, "delay_seconds must be at least 0, got -1"),
        ({"bin_seconds": 0}, "bin_seconds must be above 0, got 0"),
        ({"min_seconds": 7}, "min_seconds must not be greater than max_seconds"),
        ({"threshold": float("nan")}, "threshold must be a finite number"),
    ],
)
def test_numbers_are_checked(options, message):
    with pytest.raises(OptionError, match=message):
        RunningGrouping(8, **options)
