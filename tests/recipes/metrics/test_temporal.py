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
        # clocks as subtitles have them, and other arrows and dashes
        ("00:01:23,500 --> 00:01:30,000", [(83.5, 90.0)]),
        ("00:01:23.500-->00:01:30.000", [(83.5, 90.0)]),
        ("1:02:03,5 - 1:02:04,25", [(3723.5, 3724.25)]),
        ("0:05,5,0:07,25", [(5.5, 7.25)]),
        ("from 1:02:03.5 to 1:02:10", [(3723.5, 3730.0)]),
        ("1:05 min to 1:20 min", [(65.0, 80.0)]),
        ("0:03s - 0:06s", [(3.0, 6.0)]),
        ("1:30 hours until 2 hours", [(5400.0, 7200.0)]),
        ("5 s -> 8 s", [(5.0, 8.0)]),
        ("5 s => 8 s", [(5.0, 8.0)]),
        ("5 s — 8 s", [(5.0, 8.0)]),
        ("5 s − 8 s", [(5.0, 8.0)]),
        ("5‑8 s", [(5.0, 8.0)]),
        ("at 99, from 5 up to 8", [(5.0, 8.0)]),
        ("cue 7: 00:00:05,000 --> 00:00:08,000", [(5.0, 8.0)]),
        ("at 99, 5 — 8", [(5.0, 8.0)]),
        ('at 99, "5" to "8"', [(5.0, 8.0)]),
        # hours, minutes and seconds in words and letters
        ("1h 2m 3s to 1h 2m 10s", [(3723.0, 3730.0)]),
        ("1h2m3s-1h2m10.5s", [(3723.0, 3730.5)]),
        ("1 hour 5 minutes to 1 hour 6 minutes", [(3900.0, 3960.0)]),
        ("from 1 hour, 5 minutes and 3 seconds until 2 hrs 1 sec", [(3903.0, 7201.0)]),
        ("1 h to 1h30", [(3600.0, 5400.0)]),
        ("2m30 to 3 min 5", [(150.0, 185.0)]),
        ("1.5 min - 0.5 hours", [(90.0, 1800.0)]),
        ("1 min 2 min", [(60.0, 120.0)]),
        ("500 ms to 2 s", [(0.5, 2.0)]),
        ("between 1 minute and 90 seconds", [(60.0, 90.0)]),
        ("between 1 minute and 5 seconds", [(5.0, 60.0)]),
        ("between 1 minute and 5 seconds and 2 minutes", [(65.0, 120.0)]),
        ("[1 min, 50 s]", [(50.0, 60.0)]),
        ("1'05\" to 1'20.5\"", [(65.0, 80.5)]),
        ("1′05″ – 1′20″", [(65.0, 80.0)]),
        ("['3', '5']", [(3.0, 5.0)]),  # quotes, not minutes
        # a unit behind the second number is the first one's too
        ("5 - 10 seconds", [(5.0, 10.0)]),
        ("1 to 2 minutes", [(60.0, 120.0)]),
        ("between 1,5 and 2,5 min", [(90.0, 150.0)]),
        ("50 to 2 minutes", [(50.0, 120.0)]),
        ("1 s to 2 minutes", [(1.0, 120.0)]),
        ("start: 1, end: 2 minutes", [(1.0, 120.0)]),
        # decimals
        (".5 to 3.2", [(0.5, 3.2)]),
        ("[.5, .75]", [(0.5, 0.75)]),
        ("12,5 to 20,3", [(12.5, 20.3)]),
        ("12,5-20,3", [(12.5, 20.3)]),
        ("12,5 to 20", [(12.5, 20.0)]),
        ("12,5 s bis 20,3 s", [(12.5, 20.3)]),
        ("<12,5 seconds> to <20,3 seconds>", [(12.5, 20.3)]),
        ("start: 12,5, end: 20,3", [(12.5, 20.3)]),
        ("(12,5; 20,3)", [(12.5, 20.3)]),
        ("[12,5, 20,3]", [(12.5, 20.3)]),
        ("[12,5 - 20,3]", [(12.5, 20.3)]),
        ("at 3,5 s", []),
        # lists
        ("12, 5", [(5.0, 12.0)]),
        ("3,5", [(3.0, 5.0)]),
        ("[3,5]", [(3.0, 5.0)]),
        ("3.2,5.8", [(3.2, 5.8)]),
        ("[[3,5],[7,9]]", [(3.0, 5.0), (7.0, 9.0)]),
        ("[3,5,7,9]", [(3.0, 5.0), (7.0, 9.0)]),
        ("3-5,7-9", [(3.0, 5.0), (7.0, 9.0)]),
        ("3s-5s,7s-9s", [(3.0, 5.0), (7.0, 9.0)]),
        ("0:03,0:06", [(3.0, 6.0)]),
        # thousands
        ("1,200 to 1,260.5 seconds", [(1200.0, 1260.5)]),
        ("0,500 to 1,25", [(0.5, 1.25)]),
        ("[1,200]", [(1.0, 200.0)]),
        ("The 2nd time, 3 to 5", [(3.0, 5.0)]),
        ("The 2nd ends the 3rd begins 3, 5", [(3.0, 5.0)]),
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


WRITTEN = {
    "point": lambda t: f"{t / 10:.1f}",
    "comma": lambda t: f"{t / 10:.1f}".replace(".", ","),
    "no zero": lambda t: f"{t / 10:.1f}".lstrip("0"),
    "unit": lambda t: f"{t / 10:.1f} sec",
    "comma and unit": lambda t: f"{t / 10:.1f}s".replace(".", ","),
    "subtitle": lambda t: f"{t // 36000:02}:{t // 600 % 60:02}:{t // 10 % 60:02},{t % 10}00",
    "clock": lambda t: f"{t // 600}:{t // 10 % 60:02}.{t % 10}",
    "letters": lambda t: f"{t // 36000}h{t // 600 % 60}m{t % 600 / 10}s",
    "words": lambda t: f"{t // 36000} hours, {t // 600 % 60} minutes and {t % 600 / 10} seconds",
    "spaces": lambda t: f"{t // 600} min {t % 600 / 10} s",
    "primes": lambda t: f"{t // 600}'{t // 10 % 60:02}.{t % 10}\"",
    "milliseconds": lambda t: f"{t * 100} ms",
}
TENTHS = st.integers(0, 99 * 600 - 1)  # under 100 minutes


@given(TENTHS, TENTHS, st.sampled_from(sorted(WRITTEN)), st.sampled_from(sorted(WRITTEN)), st.data())
def test_any_two_times_in_any_writing(a, b, first, second, data):
    frame = data.draw(st.sampled_from(["{} to {}", "{}-{}", "{} – {}", "{} --> {}", "between {} and {}.", "[{}; {}]"]))
    (span,) = parse_spans(frame.format(WRITTEN[first](a), WRITTEN[second](b)))
    assert span == pytest.approx((min(a, b) / 10, max(a, b) / 10))


@pytest.mark.parametrize(
    "piece", ["1", "9,", "1,000,", "[", "(1,", ".", "1 ", "1h ", "between 1 and ", "1'", "- 1:", "1 min, "]
)
def test_a_model_that_repeats_itself_ends(piece):
    assert all(start <= end < float("inf") for start, end in parse_spans(piece * 10000))


@given(st.text(alphabet="0123456789.:,[]()s -–tomendhr'\"{}", max_size=50))
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
    with pytest.raises(ValueError, match="unknown spans 'all'; known: first, best"):
        TemporalIoU(spans="all")
