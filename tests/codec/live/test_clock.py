"""Time stamps without end: wrapped, jumped, missing."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from ov2kit.codec.live.clock import StreamClock
from ov2kit.errors import OptionError

TICKS, WRAP = Fraction(1, 90_000), 1 << 33
FRAME = 3600  # 25 a second


def test_stamps_of_33_bits_go_on_for_days():
    """Frames one hour apart over ten wraps: what a counter without end says."""
    clock = StreamClock(TICKS, 0.04, max_gap_seconds=4000)
    hour = 3600 * 90_000
    true = [WRAP - 5 * hour + k * hour for k in range(270)]
    stamps = [clock((t + 2 * FRAME) % WRAP, t % WRAP) for t in true]
    assert [stamp.jump for stamp in stamps] == [0] * 270
    assert [stamp.dts - stamps[0].dts for stamp in stamps] == pytest.approx([3600 * k for k in range(270)], abs=1e-6)
    assert [stamp.pts - stamp.dts for stamp in stamps] == pytest.approx([0.08] * 270, abs=1e-6)


def test_pts_wraps_before_dts_and_both_fit():
    clock = StreamClock(TICKS, 0.04)
    true = np.arange(WRAP - 10 * FRAME, WRAP + 10 * FRAME, FRAME)
    stamps = [clock(int(t + 3 * FRAME) % WRAP, int(t) % WRAP) for t in true]
    dts = np.array([stamp.dts for stamp in stamps])
    assert np.allclose(np.diff(dts), 0.04)
    assert np.allclose([stamp.pts - stamp.dts for stamp in stamps], 0.12)
    assert not any(stamp.jump for stamp in stamps)


@pytest.mark.parametrize(("step", "jump"), [(-90_000, -1.0), (61 * 90_000, 61.0), (-(WRAP // 3), -WRAP / 3 / 90_000)])
def test_after_a_jump_time_goes_on_with_the_next_frame(step, jump):
    clock = StreamClock(TICKS, 0.04)
    before = clock(FRAME + 500_000_000, 500_000_000)
    after = clock(FRAME + 500_000_000 + step, 500_000_000 + step)
    assert after.jump == pytest.approx(jump)
    assert after.dts == pytest.approx(before.dts + 0.04)
    assert after.pts == pytest.approx(before.pts + 0.04)
    following = clock(2 * FRAME + 500_000_000 + step, FRAME + 500_000_000 + step)
    assert following.jump == 0
    assert following.dts == pytest.approx(before.dts + 0.08)


def test_a_gap_is_kept():
    clock = StreamClock(TICKS, 0.04)
    before = clock(0, 0)
    after = clock(59 * 90_000, 59 * 90_000)
    assert after.jump == 0
    assert after.dts - before.dts == 59


def test_other_clocks_do_not_wrap():
    clock = StreamClock(Fraction(1, 1000), 0.04)
    clock((1 << 33) - 1, (1 << 33) - 1)
    assert clock(0, 0).jump == pytest.approx(-((1 << 33) - 1) / 1000)


def test_packets_without_decoding_times_are_not_a_jump():
    """As Matroska gives the first packets: shown at 0, 0.12 and 0.04, and only then decoding times."""
    clock = StreamClock(Fraction(1, 1000), 0.04)
    stamps = [clock(0, None), clock(120, None), clock(40, -40 + 40), clock(80, 40)]
    assert [stamp.jump for stamp in stamps] == [0] * 4
    assert [stamp.pts for stamp in stamps] == [0, 0.12, 0.04, 0.08]
    assert all(a.dts <= b.dts for a, b in pairwise(stamps))
    assert all(stamp.dts <= min(0.04, stamp.pts) for stamp in stamps[:3])


def test_packets_without_any_stamp_come_one_frame_after_the_other():
    clock = StreamClock(Fraction(1, 1_200_000), 0.04)
    assert [clock(None, None).dts for _ in range(4)] == pytest.approx([0, 0.04, 0.08, 0.12])
    clock = StreamClock(Fraction(1, 1_200_000), 0.04)
    assert [clock(None, None, 24_000).dts for _ in range(4)] == pytest.approx([0, 0.02, 0.04, 0.06])


def test_numbers_are_checked():
    with pytest.raises(OptionError, match="max_gap_seconds must be above 0, got 0"):
        StreamClock(TICKS, 0.04, max_gap_seconds=0)
