"""Tokens per second with a burst: the promise over every stretch of time."""

import numpy as np
import pytest

from ov2kit.codec.live.rate import TokenRate, canvases_of_group
from ov2kit.errors import OptionError


def test_no_stretch_of_time_takes_more_than_burst_and_rate():
    rng = np.random.default_rng(0)
    rate, taken, at = TokenRate(90, 1440), [], 0.0
    for _ in range(500):
        at += rng.exponential(2.0)
        tokens = int(min(rate.level(at), rng.integers(0, 900)))
        rate.take(tokens, at)
        taken.append((at, tokens))
    times, tokens = np.array(taken).T
    sums = np.concatenate([[0], np.cumsum(tokens)])
    for first in range(len(times)):
        spans = times[first:] - times[first]
        assert (sums[first + 1 :] - sums[first] <= 1440 + 90 * spans + 1e-6).all()
    assert sums[-1] > 0.9 * (1440 + 90 * times[-1])


def test_more_than_there_is_is_refused():
    rate = TokenRate(10, 100)
    rate.take(100, 5)
    assert rate.level(5) == 0
    assert rate.level(7) == 20
    with pytest.raises(OptionError, match=r"21 tokens are more than the 20.0 that the rate allows at 7.000 s"):
        rate.take(21, 7)


def test_a_group_takes_by_what_it_spent_and_what_would_spill():
    rate = TokenRate(90, 1440)
    assert canvases_of_group(720, rate, 180, 4, 1.0, 4.0) == 4
    assert canvases_of_group(720, rate, 180, 4, 0.2, 4.0) == 2  # an I and a P canvas
    assert canvases_of_group(1440, rate, 180, 4, 0.2, 8.0) == 4  # full: the bucket would spill 8 s of tokens
    assert canvases_of_group(1440, rate, 180, 4, 0.2, 12.0) == 6
    assert canvases_of_group(1080, rate, 180, 4, 2.0, 4.0) == 6  # 8 wanted, 6 there
    assert canvases_of_group(100_000, TokenRate(90, 200_000), 180, 4, 50.0, 4.0) == 16
    assert canvases_of_group(10, rate, 180, 4, 1.0, 4.0) == 1
