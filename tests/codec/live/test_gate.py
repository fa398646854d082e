"""When to call: against a second, slow derivation, and by hand."""

import numpy as np
import pytest

from ov2kit.codec import BitCostGate, CodecTokenizer, LiveTokenizer
from ov2kit.errors import OptionError
from tests.codec.live.streams import packets_of, pushed, ts_clip


def slow(rates, times, quantile, cooldown, heartbeat, history, warmup):
    """Each decision from the whole past, ranks counted one by one."""
    out, calls = [], []
    for now, (rate, time) in enumerate(zip(rates, times, strict=True)):
        past = sorted(rates[max(0, now - history) : now])
        since = time - calls[-1] if calls else float("inf")
        if len(past) < warmup:
            wanted = "event"
        else:
            rank = quantile * (len(past) - 1)
            low = int(rank)
            high = min(low + 1, len(past) - 1)
            limit = past[low] * (1 - (rank - low)) + past[high] * (rank - low)
            due = heartbeat is not None and calls and since >= heartbeat
            wanted = "event" if rate > limit + 1e-12 else "heartbeat" if due else "quiet"
        if wanted != "quiet" and since < cooldown:
            wanted = "cooldown"
        if wanted in ("event", "heartbeat"):
            calls.append(time)
        out.append(wanted)
    return out


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.75, 0.9, 1.0])
@pytest.mark.parametrize(("cooldown", "heartbeat"), [(0, None), (10, 60), (5, 12)])
def test_decisions_are_those_of_a_slow_derivation(quantile, cooldown, heartbeat):
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.7, 1.0, 400).tolist()
    times = np.cumsum(rng.uniform(1.5, 6.0, 400)).tolist()
    gate = BitCostGate(
        quantile=quantile, cooldown_seconds=cooldown, heartbeat_seconds=heartbeat, history_groups=20, warmup_groups=5
    )
    found = [gate.decide(time, rate).decision for time, rate in zip(times, rates, strict=True)]
    assert found == slow(rates, times, quantile, cooldown, heartbeat, 20, 5)
    expected = {"event", "quiet"} | ({"cooldown"} if cooldown else set())
    assert expected <= set(found) or quantile == 0.0


def test_the_share_of_events_is_what_the_quantile_leaves():
    rng = np.random.default_rng(1)
    gate = BitCostGate(quantile=0.8, heartbeat_seconds=None)
    opened = [gate.decide(float(t), float(r)).is_open for t, r in enumerate(rng.random(5000))]
    assert np.mean(opened) == pytest.approx(0.2, abs=0.03)


def test_a_still_scene_is_called_for_by_heartbeats_alone():
    gate = BitCostGate(heartbeat_seconds=60, warmup_groups=1)
    found = [gate.decide(6.0 * k, 1.0).decision for k in range(40)]
    assert found[0] == "event"
    assert [k for k, decision in enumerate(found) if decision == "heartbeat"] == [10, 20, 30]
    assert set(found[1:10]) == {"quiet"}


def test_groups_are_judged_by_their_cost_per_second():
    gate = BitCostGate(quantile=0.7, warmup_groups=2)
    groups = pushed(
        LiveTokenizer(CodecTokenizer(max_pixels=20_000), tokens_per_second=30), packets_of(ts_clip(frames=400))
    )
    for group in groups:
        gated = gate(group)
        assert gated.rate == pytest.approx(group.spent / (group.end_seconds - group.start_seconds))
        assert gated.is_open == (gated.decision in ("event", "heartbeat"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 1.1}, "quantile must be from 0 to 1, got 1.1"),
        ({"warmup_groups": 65}, "warmup_groups must be from 1 to 64, got 65"),
        ({"heartbeat_seconds": 0}, "heartbeat_seconds must be above 0, got 0"),
    ],
)
def test_numbers_are_checked(options, message):
    with pytest.raises(OptionError, match=message):
        BitCostGate(**options)
