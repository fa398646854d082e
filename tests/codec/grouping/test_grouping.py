"""Grouping against the public tool's numbers, and by its own promises."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.codec.grouping import (
    BitCostGrouping,
    ContainerGrouping,
    FixedGrouping,
    Grouping,
    ReadinessGrouping,
    even_subset,
)
from ov2kit.codec.grouping.energy import bin_energy
from ov2kit.codec.grouping.readiness import frame_limits
from ov2kit.errors import OptionError, VideoError
from tests.paths import read_golden

ENERGY = read_golden("06_energy_gops.json")
PARTITIONS = {f"{i}-{case['name']}": case for i, case in enumerate(ENERGY["partition_cases"])}
READY = read_golden("07_groups_topk_meta.json")
READY_CASES = {
    f"{folder}case{case['case']}": (case, read_golden(f"{folder}07_groups_topk.npz"))
    for folder in ("", "readiness_b/")
    for case in read_golden(f"{folder}07_groups_topk_meta.json")["cases"]
}
STRATIFIED = read_golden("09_stratified_meta.json")
ALL_GROUPINGS = [BitCostGrouping(4), FixedGrouping(4), ContainerGrouping(), ReadinessGrouping(2, 8)]


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")


def packets_of(case):
    packets = case["packets"]
    return (
        torch.tensor([number(p.get("pts_time")) for p in packets], dtype=torch.float64),
        torch.tensor([number(p.get("size")) for p in packets], dtype=torch.float64),
        torch.tensor(["K" in p["flags"] for p in packets]),
    )


def stream(count, *, fps=25.0, key_every=50, start=0.0, seed=0):
    """A packet table: heavy-tailed sizes, a keyframe every `key_every` packets."""
    generator = torch.Generator().manual_seed(seed)
    times = start + torch.arange(count, dtype=torch.float64) / fps
    nbytes = torch.rand(count, generator=generator, dtype=torch.float64).pow(-0.7) * 1000
    return times, nbytes, torch.arange(count) % key_every == 0


# --- bit cost -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ENERGY["packet_bin_cases"], ids=lambda c: f"{len(c['packets'])}-packets")
def test_bins_match_release(case):
    energy = bin_energy(
        *packets_of(case),
        bin_seconds=case["bin_sec"],
        smooth_bins=case["smooth_bins"],
        cost="log1p",
        start_seconds=0.0,
    )
    if case["debug"].get("error") == "no_pb_packets":  # the release gives no bin, we give empty ones
        assert energy.tolist() == [0.0, 0.0, 0.0]
        return
    assert energy.dtype == torch.float64
    torch.testing.assert_close(energy, torch.tensor(case["energy"], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("case", PARTITIONS.values(), ids=PARTITIONS)
def test_partition_matches_release(case):
    energy = torch.tensor(case["energy"])
    grouping = BitCostGrouping(case["target_num_gops"], case["bin_sec"], case["min_span_sec"], case["max_span_sec"])
    duration = case["total_frames"] / (case["fps"] or 30.0)
    if case["name"] in ("no_bins", "no_frames"):
        with pytest.raises(VideoError, match=r"at least one bin, got \(0,\)|longer than 0 s, got 0.0 s"):
            grouping.partition(energy, duration)
        return
    ranges = grouping.partition(energy, duration)
    assert ranges.dtype == torch.long
    assert ranges.tolist() == case["segments"]
    trace = grouping.trace(energy, duration)
    assert [list(pair) for pair in zip(trace.triggers, trace.cuts, strict=True)] == case["cut_points"]
    assert (trace.min_bins, trace.max_bins) == (case["min_bins"], case["max_bins"])
    assert trace.threshold == pytest.approx(case["threshold"], rel=1e-9)
    sums = [float(trace.energy[first:end].sum()) for first, end in trace.spans]
    assert sums == pytest.approx(case["energy_sum"], rel=1e-9)
    starts = trace.seconds()[:, 0].tolist()
    assert starts == pytest.approx(case["start_sec"], rel=1e-9)


def test_fixed_groups_are_the_release_fallback():
    case = next(c for c in PARTITIONS.values() if c["name"] == "no_bins")
    times = torch.arange(case["total_frames"], dtype=torch.float64) / case["fps"]
    groups = FixedGrouping(case["target_num_gops"])(times, torch.ones(300), torch.zeros(300, dtype=torch.bool))
    assert groups[:, 0].tolist() == pytest.approx(case["start_sec"], rel=1e-9)
    assert groups[:, 1].tolist() == pytest.approx(case["end_sec"], rel=1e-9)


def test_bit_cost_by_hand():
    """Twelve half seconds, one expensive; the cut goes to the cheap bin beside the trigger."""
    energy = torch.tensor([1.0, 1, 1, 9, 1, 0.5, 1, 1, 1, 1, 1, 1])
    trace = BitCostGrouping(2, 0.5, 1.5, 6.0).trace(energy)
    assert trace.threshold == pytest.approx(19.5 / 2)
    # bins 0..3 hold 12 >= 9.75, so bin 3 triggers; within 2..6 the cheapest is bin 5.
    assert trace.triggers == (3,)
    assert trace.cuts == (5,)
    assert trace.spans == ((0, 6), (6, 12))


def test_cost_in_bytes_is_the_default_and_differs_from_log():
    times, nbytes, is_key = stream(100)
    plain = bin_energy(times, nbytes, is_key, smooth_bins=0)
    assert float(plain.sum()) == pytest.approx(float(nbytes[~is_key].sum()))
    logs = bin_energy(times, nbytes, is_key, smooth_bins=0, cost="log1p")
    assert float(logs.sum()) == pytest.approx(float(nbytes[~is_key].log1p().sum()))


energies = st.lists(st.floats(0, 1e6) | st.just(0.0), min_size=1, max_size=120)


@settings(max_examples=150)
@given(energies, st.integers(1, 20), st.floats(0.25, 4), st.floats(1, 6))
def test_partition_covers_bins_and_keeps_the_limits(energy, groups, shortest, ratio):
    grouping = BitCostGrouping(groups, 0.5, shortest, shortest * ratio)
    trace = grouping.trace(torch.tensor(energy, dtype=torch.float64))
    covered = [bin_ for first, end in trace.spans for bin_ in range(first, end)]
    assert covered == list(range(len(energy)))
    spans = [end - first for first, end in trace.spans]
    assert all(trace.min_bins <= span <= trace.max_bins for span in spans[:-1])
    assert spans[-1] <= trace.max_bins + trace.min_bins / 2  # a merged tail is under half of the shortest
    if len(spans) > 1:
        assert spans[-1] * 0.5 >= grouping.min_seconds / 2


@settings(max_examples=150)
@given(energies, st.integers(1, 20), st.integers(1, 12))
def test_partition_keeps_the_budget(energy, groups, most):
    energy = torch.tensor(energy, dtype=torch.float64)
    grouping = BitCostGrouping(groups)
    trace = grouping.trace(energy, max_groups=most)
    assert 1 <= len(trace) <= most
    assert trace.spans[0][0] == 0
    assert trace.spans[-1][1] == len(energy)
    plain = grouping.trace(energy)
    if len(plain) > most:  # the limits stretch, by no more bins than needed
        assert trace.stretch > 1
        less = BitCostGrouping(groups, 0.5, 1.5 * trace.stretch, 6 * trace.stretch)
        assert trace.max_bins == less.trace(energy).max_bins
        bins = trace.max_bins - 1
        if bins > 12:
            less = BitCostGrouping(groups, 0.5, 1.5 * bins / 12, bins / 2)
            assert len(less.trace(energy)) > most
    elif len(plain) == most:
        assert trace.spans == plain.spans


@pytest.mark.parametrize("most", [1, 2, 3, 8, 16, 32, 64])
@pytest.mark.parametrize("seconds", [2, 9, 31, 140, 3600])
def test_budget_is_kept_and_used(seconds, most):
    times, nbytes, is_key = stream(int(seconds * 25), seed=most)
    groups = BitCostGrouping(most)(times, nbytes, is_key, max_groups=most)
    assert len(groups) <= most
    if seconds * 25 >= 8 * most:  # eight frames for each group: enough to choose from
        assert len(groups) >= 0.9 * most


# --- readiness ------------------------------------------------------------------------------------


def ready_case(name):
    case, arrays = READY_CASES[name]
    config = case["config"]
    rows, columns = (side // case["block_size"] for side in case["grid_hw"])
    scores = torch.from_numpy(arrays[f"case{case['case']}_block_scores"])
    grouping = ReadinessGrouping(
        case["min_group_frames"],
        case["max_group_frames"],
        case["images_per_group"],
        config.get("group_size", 32),
        config["readiness_coverage_bins"],
        config["readiness_delta_ratio"],
        config.get("readiness_sum_threshold", config.get("readiness_norm_sum_threshold")),
        threshold_mode=config["readiness_sum_threshold_mode"],
        exact_release=True,
    )
    return grouping, scores.reshape(-1, rows, columns), case["bits_per_pixel_per_frame"]


REASONS = {
    "readiness_threshold_low_gain": "low_gain",
    "readiness_threshold": "ready",
    "max_group_frames": "max_frames",
    "tail_flush": "tail",
}


@pytest.mark.parametrize("name", READY_CASES)
def test_readiness_matches_release(name):
    case = READY_CASES[name][0]
    grouping, scores, bits = ready_case(name)
    assert grouping.threshold(scores, bits_per_pixel=bits) == pytest.approx(case["threshold"], rel=1e-5)
    ranges = grouping.partition(scores, bits_per_pixel=bits)
    assert ranges.tolist() == [[group["start"], group["end"]] for group in case["groups"]]
    for mine, group in zip(grouping.trace(scores, bits_per_pixel=bits), case["groups"], strict=True):
        assert mine.reason == REASONS[group["stop_reason"]]
        assert mine.covered_bins == group["readiness"]["selected_time_bins"]
        assert mine.score == pytest.approx(group["readiness"]["topk_candidate_block_score_sum"], rel=1e-5)


def test_readiness_keeps_the_tail_unless_told_otherwise():
    grouping, scores, _ = ready_case("case4")  # 18 frames in groups of 5: the release drops the last 3
    exact = grouping.partition(scores).tolist()
    grouping.exact_release = False
    assert exact[-1][1] == 15
    assert grouping.partition(scores).tolist() == [*exact, [15, 18]]


@pytest.mark.parametrize("row", READY["group_limits"]["rows"])
def test_frame_limits_match_release(row):
    assert list(frame_limits(*row[:5])) == row[5:]


def test_readiness_gain_by_hand():
    """Frames 1.. hold one good block each but frame 4: no gain there, so the group ends with it."""
    scores = torch.zeros(12, 1, 2)
    scores[1:4, 0, 0] = 1.0
    grouping = ReadinessGrouping(3, 12, 4, coverage_bins=3, threshold=1.0)
    assert grouping.partition(scores)[0].tolist() == [0, 5]


@pytest.mark.parametrize(
    ("length", "bins", "hot", "covered"),
    [
        (8, 3, [1, 2], 1),  # edges 1, 3.33, 5.67, 8: frames 1-2, 3-4 and 5-7
        (8, 3, [2, 3], 2),
        (8, 3, [4, 5], 2),
        (8, 3, [5, 6, 7], 1),
        (3, 3, [1], 2),  # edges 1, 1, 2, 3: the first bin has no width, and is frame 1 like the second
        (3, 3, [2], 1),
        (3, 4, [1], 2),  # edges 1, 1, 2, 2, 3: two bins on each of the two frames
        (2, 3, [1], 3),  # all on the only frame there is
    ],
)
def test_time_bins_have_whole_edges(length, bins, hot, covered):
    scores = torch.zeros(length, 1, 1)
    scores[hot] = 1.0
    # as many P-canvases as frames are hot, of one block each: these are the best blocks
    grouping = ReadinessGrouping(length, length, 1 + len(hot), coverage_bins=bins, threshold=1.0)
    (group,) = grouping.trace(scores)
    assert group.covered_bins == covered


@settings(max_examples=60)
@given(st.integers(2, 40), st.integers(1, 7), st.data())
def test_time_bins_in_fractions(length, bins, data):
    hot = data.draw(st.sets(st.integers(1, length - 1), min_size=1))
    scores = torch.zeros(length, 1, 1)
    scores[sorted(hot)] = 1.0
    (group,) = ReadinessGrouping(length, length, 1 + len(hot), coverage_bins=bins, threshold=1.0).trace(scores)
    edges = [math.floor(1 + Fraction(k * (max(2, length) - 1), bins)) for k in range(bins + 1)]
    held = [any(first <= frame < max(end, first + 1) for frame in hot) for first, end in itertools.pairwise(edges)]
    assert group.covered_bins == sum(held)


@settings(max_examples=60)
@given(st.integers(1, 90), st.integers(1, 9), st.integers(0, 30), st.integers(2, 5), st.integers(0, 5))
def test_readiness_covers_frames_and_keeps_the_limits(frames, shortest, extra, canvases, seed):
    scores = torch.rand(frames, 2, 3, generator=torch.Generator().manual_seed(seed))
    grouping = ReadinessGrouping(shortest, shortest + extra, canvases, window=12)
    ranges = grouping.partition(scores)
    assert ranges[0, 0] == 0
    assert ranges[-1, 1] == frames
    assert torch.equal(ranges[1:, 0], ranges[:-1, 1])
    spans = ranges[:, 1] - ranges[:, 0]
    assert (spans <= shortest + extra).all()
    assert (spans[:-1] >= shortest).all()
    assert len(grouping.partition(scores, max_groups=2)) <= 2


# --- what all four promise ------------------------------------------------------------------------


@pytest.mark.parametrize("grouping", ALL_GROUPINGS, ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("start", [0.0, 1.4, -334.592, 1e6])
def test_groups_cover_the_clip(grouping, start):
    times, nbytes, is_key = stream(200, start=start)
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    scores = torch.rand(200, 3, 4, generator=torch.Generator().manual_seed(4))
    groups = grouping(times, nbytes, is_key, scores)
    assert groups.dtype == torch.float64
    assert groups[0, 0] == times[0]
    assert times[-1] < groups[-1, 1] <= times[-1] + 0.05
    assert torch.equal(groups[1:, 0], groups[:-1, 1])
    assert (groups[:, 1] > groups[:, 0]).all()
    again = grouping(times[shuffled], nbytes[shuffled], is_key[shuffled], scores[shuffled])
    assert torch.equal(again, groups)
    lost = torch.cat([times, times.new_tensor([float("nan"), float("inf")])])
    again = grouping(
        lost,
        torch.cat([nbytes, nbytes[:2]]),
        torch.cat([is_key, is_key[:2]]),
        torch.cat([scores, scores[:2]]),
    )
    assert torch.equal(again, groups)


@settings(max_examples=40)
@given(
    st.lists(st.floats(-50, 300), min_size=1, max_size=80),
    st.integers(1, 6),
    st.sampled_from(["none", "some", "all"]),
)
def test_any_clock_is_covered_within_the_budget(clock, most, keys):
    times = torch.tensor(clock, dtype=torch.float64)
    nbytes = torch.arange(len(times)) * 100.0
    is_key = {"none": torch.zeros(len(times)), "some": torch.arange(len(times)) % 7 == 0, "all": torch.ones(len(times))}
    for grouping in ALL_GROUPINGS:
        groups = grouping(times, nbytes, is_key[keys].bool(), torch.rand(len(times), 2, 2), max_groups=most)
        assert 1 <= len(groups) <= most
        assert groups[0, 0] == times.min()
        assert groups[-1, 1] > times.max()
        assert torch.equal(groups[1:, 0], groups[:-1, 1])
        assert (groups[:, 1] > groups[:, 0]).all()


@pytest.mark.parametrize("grouping", ALL_GROUPINGS, ids=lambda g: type(g).__name__)
def test_no_packets_is_a_clear_error(grouping):
    none = torch.zeros(0)
    with pytest.raises(VideoError, match="no time"):
        grouping(none, none, none.bool(), torch.zeros(0, 2, 2))
    unknown = torch.full((3,), float("nan"))
    with pytest.raises(VideoError, match="got 3 packets and no time"):
        grouping(unknown, torch.ones(3), torch.ones(3).bool(), torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        grouping(*stream(100), torch.rand(100, 2, 2), max_groups=0)


def test_one_frame_and_all_intra():
    one = BitCostGrouping(4)(torch.tensor([7.0]), torch.tensor([500.0]), torch.tensor([True]))
    assert one.shape == (1, 2)
    assert one[0].tolist() == pytest.approx([7.0, 7.04])
    times, nbytes, _ = stream(500)
    intra = BitCostGrouping(5)(times, nbytes, torch.ones(500, dtype=torch.bool))
    lengths = (intra[:, 1] - intra[:, 0]).tolist()
    assert lengths == pytest.approx([4.0] * 5)  # nothing known of the cost, so equal spans


def test_readiness_says_what_it_needs():
    with pytest.raises(ValueError, match="pass block_scores"):
        ReadinessGrouping()(*stream(20))
    with pytest.raises(ValueError, match=r"got \(19, 2, 2\) for 20 times"):
        ReadinessGrouping()(*stream(20), torch.rand(19, 2, 2))


def test_container_cuts_at_keyframes():
    times, nbytes, is_key = stream(200, key_every=60)
    is_key[0] = False
    groups = ContainerGrouping()(times, nbytes, is_key)
    assert groups[:, 0].tolist() == pytest.approx([0.0, 2.4, 4.8, 7.2])
    groups = ContainerGrouping()(times, nbytes, is_key, max_groups=2)
    assert groups[:, 0].tolist() == pytest.approx([0.0, 7.2])


@pytest.mark.parametrize("row", STRATIFIED["even_anchor_subsample"]["rows"])
def test_even_subset_matches_release(row):
    anchors, keep, expected = row
    assert even_subset(torch.tensor(anchors), keep).tolist() == expected


def test_absurd_clock_is_refused():
    with pytest.raises(VideoError, match="repair the time stamps"):
        BitCostGrouping(4)(torch.tensor([0.0, 1e9]), torch.ones(2), torch.zeros(2).bool())


@pytest.mark.parametrize("grouping", ALL_GROUPINGS, ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("most", [0, -2, 1.5, True])
def test_every_grouping_refuses_the_same_budgets(grouping, most):
    assert isinstance(grouping, Grouping)
    times, nbytes, is_key = stream(100)
    with pytest.raises(OptionError, match=rf"max_groups must be .*, got {most}"):
        grouping(times, nbytes, is_key, torch.rand(100, 2, 2), max_groups=most)
