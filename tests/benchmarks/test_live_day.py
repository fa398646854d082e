"""A stream that goes on: the day of `benchmarks.live`, scaled down to minutes at full speed."""

import pytest

from benchmarks.live import day


def test_minutes_of_stream_keep_memory_times_and_handles():
    rows = day(0.06)  # 216 s, with a wrap of the time stamps after one
    assert len(rows) == 10
    first, last = rows[2], rows[-1]
    assert last["memory_mb"] - first["memory_mb"] < 15
    assert last["handles"] == first["handles"]
    assert last["jumps"] == 0
    assert all(abs(row["drift_seconds"]) < 0.2 for row in rows)  # what the decoder holds back, and no more
    assert last["stream_seconds"] == pytest.approx(216, abs=0.3)
    assert last["groups"] > 2.5 * first["groups"]
