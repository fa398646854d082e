"""Tracks: both dialects, what models really write, and what must not be guessed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov2kit.errors import DataError
from ov2kit.recipes.spatial.tracks import TrackPoint, Tracks, parse_tracks, write_tracks

_LABELS = st.text("ab Zé日-_,;:.!?()[]{}0159/")


@st.composite
def tracks(draw, steps=1000):
    """Tracks whose coordinates are multiples of 1 / steps and whose times have two decimals."""
    keys = draw(st.sets(st.tuples(st.integers(0, 99999), st.integers(0, 12)), min_size=1, max_size=12))
    share = st.integers(0, steps).map(lambda k: k / steps)
    points = [TrackPoint(time / 100, number, draw(share), draw(share)) for time, number in sorted(keys)]
    return Tracks.of(points, draw(_LABELS).strip())


def raw(text):
    """(seconds, id, x, y) with x and y of 1000, rounded."""
    return [(p.seconds, p.object_id, round(p.x * 1000), round(p.y * 1000)) for p in parse_tracks(text).points]


@given(tracks())
def test_the_public_dialect_comes_back_as_it_was(given_tracks):
    again = parse_tracks(write_tracks(given_tracks), strict=True)
    assert again == given_tracks
    assert again.problems == ()


@given(tracks(), st.sets(st.integers(0, 12)))
def test_the_older_dialect_comes_back_as_it_was(given_tracks, hidden):
    points = [TrackPoint(p.seconds, p.object_id, p.x, p.y, occluded=p.object_id in hidden) for p in given_tracks.points]
    read = parse_tracks(write_tracks(Tracks.of(points), "time"), strict=True)
    rounded = [TrackPoint(p.seconds, p.object_id, round(p.x, 3), round(p.y, 3), p.occluded) for p in read.points]
    assert rounded == points  # 0.7 of 100 is not the float nearest to 0.007


@given(st.text())
def test_no_text_breaks_the_reader(text):
    parse_tracks(text)
    parse_tracks(f'<tracks coords="{text}">x</tracks>')
    parse_tracks(f"time 1.0\n{{{text}}}")


@pytest.mark.parametrize(
    ("text", "points", "label"),
    [
        ('<tracks coords="0.0 0 512 300 1 40 77; 0.5 0 520 310">two dogs</tracks>',
         [(0.0, 0, 512, 300), (0.0, 1, 40, 77), (0.5, 0, 520, 310)], "two dogs"),
        ("Sure! Here it is:\n```xml\n<tracks coords='0 0 1 2'>cat</tracks>\n```", [(0.0, 0, 1, 2)], "cat"),
        ('<tracks coords="1.0 0 5 6; 0.0 0 3 4">x</tracks>', [(0.0, 0, 3, 4), (1.0, 0, 5, 6)], "x"),
        ('<tracks coords="0.0 0 3 4, 1.0 0 5 6">x</tracks>', [(0.0, 0, 3, 4), (1.0, 0, 5, 6)], "x"),
        ('<tracks coords="0.0 0 3 4\n1.0 0 5 6">x</tracks>', [(0.0, 0, 3, 4), (1.0, 0, 5, 6)], "x"),
        ('<tracks coords="0.0s 0 3 4; 0.5s 0 5 6;">x</tracks>', [(0.0, 0, 3, 4), (0.5, 0, 5, 6)], "x"),
        ('<tracks coords="0.0 0.0 512.7 300.0">x</tracks>', [(0.0, 0, 512, 300)], "x"),
        ("<tracks coords=&quot;0.0 0 3 4&quot;>x</tracks>", [(0.0, 0, 3, 4)], "x"),
        ('<tracks coords="0 0 3 4">a</tracks> <tracks coords="0 1 5 6">b</tracks>',
         [(0.0, 0, 3, 4), (0.0, 1, 5, 6)], "a; b"),
        ('<think>coords="9 9 9 9"? no</think><tracks coords="0 0 3 4">x</tracks>', [(0.0, 0, 3, 4)], "x"),
        ("time 0.5\n{0: [51.2, 30.0], 1: [4, 7.7, 'yes']}",
         [(0.5, 0, 512, 300), (0.5, 1, 40, 77)], ""),
        ("time 0.5\n{'0': [51.2, 30.0]}\ntime 1.0\n{0: [50, 30, \"no\"]}",
         [(0.5, 0, 512, 300), (1.0, 0, 500, 300)], ""),
        ("Time: 0.5 s {0: [51.2, 30.0]}", [(0.5, 0, 512, 300)], ""),
        ('<TRACKS COORDS="0 0 3 4">x</TRACKS>', [(0.0, 0, 3, 4)], "x"),
        ("<tracks coords=0.0 0 3 4; 0.5 0 5 6>x</tracks>", [(0.0, 0, 3, 4), (0.5, 0, 5, 6)], "x"),
        ("<tracks coords=“0.0 0 3 4”>x</tracks>", [(0.0, 0, 3, 4)], "x"),
        (r'<tracks coords=\"0.0 0 3 4\n0.5 0 5 6\">x</tracks>', [(0.0, 0, 3, 4), (0.5, 0, 5, 6)], "x"),
        ('<tracks coords="0.0, 0, 3, 4; 0.5, 0, 5, 6">x</tracks>', [(0.0, 0, 3, 4), (0.5, 0, 5, 6)], "x"),
        ('<tracks coords="0.0: 0 3 4, 1 7 8; 0.5: 0 5 6">x</tracks>',
         [(0.0, 0, 3, 4), (0.0, 1, 7, 8), (0.5, 0, 5, 6)], "x"),
        ('<tracks coords="0.0 0 (3, 4) 1 (7, 8); 0.5 0 [5, 6]">x</tracks>',
         [(0.0, 0, 3, 4), (0.0, 1, 7, 8), (0.5, 0, 5, 6)], "x"),
        ('<tracks coords="00:01.5 0 3 4; 1:05 0 5 6; 1:00:02 0 7 8">x</tracks>',
         [(1.5, 0, 3, 4), (65.0, 0, 5, 6), (3602.0, 0, 7, 8)], "x"),
        ('<tracks coords="0 0 3 4">a &lt; b < c</tracks>', [(0.0, 0, 3, 4)], "a < b < c"),
        ('time 0.5\n{"0": [51.2, 30.0, true]}', [(0.5, 0, 512, 300)], ""),
        ("There is no such thing in the video.", [], ""),
        ("", [], ""),
    ],
)  # fmt: skip
def test_what_models_write_is_read(text, points, label):
    assert raw(text) == points
    assert parse_tracks(text).label == label
    assert parse_tracks(text).problems == ()


@pytest.mark.parametrize(
    ("text", "points", "problem"),
    [
        ('<tracks coords="0 0 3 4; 1 0 5', [(0.0, 0, 3, 4)], "expected time, id, x, y"),
        ('<tracks coords="0 0 3 4 1 7', [(0.0, 0, 3, 4)], "breaks off"),
        ('<tracks coords="0 0 1001 4 1 5 6">x</tracks>', [(0.0, 1, 5, 6)], "outside 0 to 1000"),
        ('<tracks coords="0 0 -3 4; 1 0 5 6">x</tracks>', [(1.0, 0, 5, 6)], "'-3' is no number"),
        ('<tracks coords="0 0 3 4 0 5 6">x</tracks>', [(0.0, 0, 3, 4)], "two points at 0 s"),
        ('<tracks coords="0 0 0.51 0.3; 1 0 5 6">x</tracks>', [(1.0, 0, 5, 6)], "look like shares"),
        ('<tracks coords="0 0 a 4; 1 0 5 6">x</tracks>', [(1.0, 0, 5, 6)], "'a' is no number"),
        ('<tracks coords="0.0 0 3 4, 1.0 0 5">x</tracks>', [(0.0, 0, 3, 4)], "expected time, id, x, y"),
        ('<tracks coords="0 0 3 4; 1, 0, 5, 6, 1.5, 7, 8">x</tracks>', [(0.0, 0, 3, 4)], "'1.5' is no id"),
        ("time 1\n{0: [5, 5]}\ntime 2\n{0: [7, ", [(1.0, 0, 50, 50)], "time 2: '{0: [7, ' is not {id: [x, y]}"),
        ("time 1\n{0: [nan, 5]}", [], "is not {id: [x, y]}"),
        ('time 1\n{"0": [NaN, 5]}', [], "(nan, 5) of object 0 at 1 s is outside 0 to 100"),
        ("time 1\n{0: [101, 5], 1: [5, 5]}", [(1.0, 1, 50, 50)], "outside 0 to 100"),
        ("time 1\n{0: [1, 2, 3, 4]}\ntime 2\n{0: [5, 5]}", [(2.0, 0, 50, 50)], "is not {id: [x, y]}"),
        ("time 1\n{0: __import__('os').getcwd()}\ntime 2\n{0: [5, 5]}", [(2.0, 0, 50, 50)], "is not {id: [x, y]}"),
    ],
)
def test_what_is_odd_is_left_out_with_a_reason_or_refused(text, points, problem):
    assert raw(text) == points
    assert problem in parse_tracks(text).problems[0]
    with pytest.raises(DataError, match=re.escape(problem)):
        parse_tracks(text, strict=True)


def test_strict_refuses_an_answer_without_tracks():
    with pytest.raises(DataError, match="no tracks"):
        parse_tracks("I cannot see it.", strict=True)


def test_occlusion_is_read_and_written():
    text = "time 1\n{0: [10.0, 20.0, 'yes'], 1: [30.0, 40.0]}"
    points = parse_tracks(text).points
    assert [p.occluded for p in points] == [True, False]
    assert write_tracks(Tracks(points), "time") == text


def test_writing_refuses_what_would_be_read_back_as_something_else():
    points = (TrackPoint(0.001, 0, 0.5, 0.5), TrackPoint(0.002, 0, 0.5, 0.5))
    with pytest.raises(ValueError, match="equal with 2 decimals"):
        write_tracks(Tracks(points))
    with pytest.raises(ValueError, match="cannot hold '<'"):
        write_tracks(Tracks(points[:1], "</tracks>"), decimals=3)
    with pytest.raises(ValueError, match="one point per time and object"):
        Tracks((points[0], points[0]))
    with pytest.raises(ValueError, match=r"x must be from 0 to 1, got 1\.5"):
        TrackPoint(0, 0, 1.5, 0)
