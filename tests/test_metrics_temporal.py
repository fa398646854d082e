"""Spans out of text, and how well they fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov2kit.recipes.metrics import TemporalIoU, parse_spans, span_iou, temporal_row


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("from 3.2 to 5.8 seconds", [(3.2, 5.8)]),
        ("The event happens from 3.2s to about 5.8s.", [(3.2, 5.8)]),
        ("3.2 - 5.8", [(3.2, 5.8)]),
        ("3.2s–5.8s", [(3.2, 5.8)]),
        ("between 3.2 and 5.8 seconds", [(3.2, 5.8)]),
        ("[3.2, 5.8]", [(3.2, 5.8)]),
        ("(3, 5)", [(3.0, 5.0)]),
        ('["3.2s", "5.8s"]', [(3.2, 5.8)]),
        ('{"start": 3.2, "end": 5.8}', [(3.2, 5.8)]),
        ('{"start_time": "00:03", "end_time": "00:06"}', [(3.0, 6.0)]),
        ("start: 3.2\nend: 5.8", [(3.2, 5.8)]),
        ("It starts at 3.2 seconds and ends at 5.8 seconds.", [(3.2, 5.8)]),
        ("5.8 to 3.2", [(3.2, 5.8)]),
        ("0:03 - 0:06", [(3.0, 6.0)]),
        ("from 01:02.5 to 01:10", [(62.5, 70.0)]),
        ("1:00:01 until 1:00:05", [(3601.0, 3605.0)]),
        ("between 1 min 5 s and 2 minutes", [(65.0, 120.0)]),
        ("1m5s to 1m10s", [(65.0, 70.0)]),
        ("[[3, 5], [7.5, 9]]", [(3.0, 5.0), (7.5, 9.0)]),
        ("from 3 to 5 and from 7 to 9", [(3.0, 5.0), (7.0, 9.0)]),
        ("3-5, 7-9", [(3.0, 5.0), (7.0, 9.0)]),
        ("It happens 2 times: from 3 to 5 and from 7 to 9.", [(3.0, 5.0), (7.0, 9.0)]),
        ("In frame12 of 30, from 3.2 to 5.8", [(3.2, 5.8)]),
        ("3.2, 5.8", [(3.2, 5.8)]),
        ("[3, 5, 7, 9]", [(3.0, 5.0), (7.0, 9.0)]),
        ("FROM 3.2S TO 5.8S", [(3.2, 5.8)]),
        ("<3.2 seconds> to <5.8 seconds>", [(3.2, 5.8)]),
        ("at 3.2 seconds", []),
        ("", []),
        ("never", []),
        ("9" * 400 + " to 5", []),
    ],
)
def test_spans_of_a_text(text, spans):
    assert parse_spans(text) == spans


@given(st.floats(0, 4000).map(lambda x: round(x, 2)), st.floats(0, 4000).map(lambda x: round(x, 2)))
def test_any_two_times_come_back_in_order(a, b):
    for text in (f"from {a:.2f} to {b:.2f} seconds", f"[{a:.2f}, {b:.2f}]", f"{a:.2f}s - {b:.2f}s"):
        assert parse_spans(text) == [(min(a, b), max(a, b))]


@given(st.text(alphabet='0123456789.:,[]()s -–tomend"{}', max_size=50))
def test_no_text_breaks_the_parser(text):
    assert all(0 <= start <= end < float("inf") for start, end in parse_spans(text))


def test_iou_by_hand():
    assert span_iou((0, 4), (2, 6)) == pytest.approx(2 / 6)
    assert span_iou((0, 4), (1, 2)) == pytest.approx(1 / 4)
    assert span_iou((0, 4), (4, 6)) == 0
    assert span_iou((0, 1), (5, 6)) == 0
    assert span_iou((3, 3), (3, 3)) == 0


def test_iou_counts_what_both_cover_on_a_grid():
    for a in ((0, 7), (2, 3), (5, 9)):
        for b in ((0, 7), (1, 6), (8, 9)):
            mine, true = set(range(*a)), set(range(*b))
            assert span_iou(a, b) == pytest.approx(len(mine & true) / len(mine | true))


def test_several_windows_and_several_spans():
    windows = [[0, 2], [10, 14]]
    assert temporal_row("from 10 to 14", windows) == 1.0  # the closest window counts
    assert temporal_row("50 to 60, 10 to 14", windows) == 0.0  # the first span is the answer
    assert temporal_row("50 to 60, 10 to 14", windows, "best") == 1.0
    assert temporal_row("nothing", windows, "best") == 0.0


def test_metric_by_hand():
    metric = TemporalIoU()
    metric.update(
        ["0 to 4", "from 0 to 5", "no idea", "0:01 - 0:03"],
        ["2 to 6", (0.0, 10.0), [3, 4], [[0, 2], [1, 3]]],  # IoU 1/3, 1/2, 0, 1
    )
    made = {name: value.item() for name, value in metric.compute().items()}
    assert made == pytest.approx({"miou": (1 / 3 + 1 / 2 + 1) / 4, "r1@0.3": 3 / 4, "r1@0.5": 2 / 4, "r1@0.7": 1 / 4})


def test_answers_without_a_span_are_refused_and_nothing_is_added():
    metric = TemporalIoU()
    for answer, message in (
        ("soon", "no time span in the answer 'soon'"),
        ([1, 2, 3], r"got \[1, 2, 3\]"),
        ([], "no time"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.update(["1 to 2", "1 to 2"], [(1, 2), answer])
    assert metric.rows == 0
    with pytest.raises(ValueError, match="'first' or 'best', got 'all'"):
        TemporalIoU(spans="all")
