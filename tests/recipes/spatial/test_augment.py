"""Mirror and crop: a moved coordinate shows the pixel that it showed before, or the record is refused."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov2kit.errors import DataError
from ov2kit.recipes.data.conversations import read_conversation
from ov2kit.recipes.spatial.augment import Crop, Mirror, move_record, move_text, move_tracks
from ov2kit.recipes.spatial.boxes import Box, parse_boxes
from ov2kit.recipes.spatial.points import Point, parse_points
from ov2kit.recipes.spatial.records import box_record, point_record, track_record
from ov2kit.recipes.spatial.space import Space
from ov2kit.recipes.spatial.tracks import TrackPoint, Tracks, parse_tracks

HALF = Crop(0.25, 0.25, 0.75, 0.75)


@given(st.integers(0, 39), st.integers(0, 59), st.sampled_from([Mirror(), HALF, Crop(0.1, 0.2, 1.0, 0.9)]))
def test_a_moved_place_shows_the_same_pixel(row, column, change):
    picture = np.zeros((40, 60, 3), dtype=np.uint8)
    picture[row, column] = 255
    after = change.pixels(picture)
    place = change.place((column + 0.5) / 60, (row + 0.5) / 40)
    if place is None:
        assert not after.any()
    else:
        assert after[int(place[1] * after.shape[0]), int(place[0] * after.shape[1])].all()


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=5))
def test_two_mirrors_are_none(places):
    points = [TrackPoint(float(k), 0, x / 1000, y / 1000) for k, (x, y) in enumerate(places)]
    record = track_record("a", "a.mp4", "red car", Tracks(tuple(points), "red car"))
    once = move_record(record, Mirror())
    assert move_record(once, Mirror()) == record
    for before, after in zip(points, parse_tracks(once["messages"][1]["content"], strict=True).points, strict=True):
        assert (after.seconds, after.y) == (before.seconds, before.y)
        assert after.x == pytest.approx(1 - before.x)
    assert once["messages"][0] == record["messages"][0]


def test_points_and_boxes_move_in_both_dialects_of_records():
    points = point_record("p", "p.jpg", "cups", [Point(0.3, 0.4)], dialect="conversations")
    assert parse_points(move_record(points, Mirror())["conversations"][1]["value"]).points == (Point(0.7, 0.4),)
    boxes = box_record("b", "b.jpg", "cup", [Box(0.1, 0.2, 0.4, 0.6, "cup")])
    assert parse_boxes(move_record(boxes, Mirror())["messages"][1]["content"]).boxes == (
        Box(0.6, 0.2, 0.9, 0.6, "cup"),
    )
    pixels = Space(200, 100)
    boxes = box_record("b", "b.jpg", "cup", [Box(0.3, 0.3, 0.5, 0.5, "cup")], space=pixels)
    moved = move_record(boxes, HALF, pixels)["messages"][1]["content"]
    assert parse_boxes(moved, pixels).boxes == (Box(0.1, 0.1, 0.5, 0.5, "cup"),)


def test_points_of_a_track_that_leave_the_crop_are_gone():
    tracks = Tracks((TrackPoint(0.0, 0, 0.5, 0.5), TrackPoint(1.0, 0, 0.9, 0.5)), "car")
    assert move_tracks(tracks, HALF).points == (TrackPoint(0.0, 0, 0.5, 0.5),)
    outside = track_record("a", "a.mp4", "car", Tracks(tracks.points[1:], "car"))
    with pytest.raises(DataError, match="no point of the tracks is left"):
        move_record(outside, HALF)


@pytest.mark.parametrize(
    ("text", "change", "problem"),
    [
        ("the car on the left", Mirror(), "'left'"),
        ("What does the text say?", Mirror(), "'text'"),
        ("How many cars are there?", HALF, "'How many'"),
        ("(900, 900)", HALF, "(900, 900) leaves the picture"),
        ("(1200, 20)", Mirror(), "(1200, 20) is outside 1000 x 1000"),
        ("[10, 20, 30, 40]", Mirror(), "a form that cannot be moved: '10, 20'"),
        ("time 1.0\n{0: [51.2, 30.0]}", Mirror(), "a form that cannot be moved"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_true_is_refused(text, change, problem):
    with pytest.raises(DataError, match=re.escape(problem)):
        move_text(text, change)


def test_words_without_coordinates_stay():
    assert move_text("A red car drives by.", Mirror()) == "A red car drives by."
    with pytest.raises(DataError, match="expected turns of text"):
        move_record({"messages": [{"role": "user", "content": [1]}]}, Mirror())
    with pytest.raises(ValueError, match="a crop needs"):
        Crop(0.5, 0, 0.5, 1)


@pytest.mark.parametrize("dialect", ["messages", "conversations"])
def test_records_of_all_kinds_are_conversations(dialect, tmp_path):
    for name in ("a.mp4", "a.jpg"):
        (tmp_path / name).write_bytes(b"x")
    tracks = Tracks((TrackPoint(0.0, 0, 0.5, 0.5),), "car")
    records = [
        track_record("t", "a.mp4", "car", tracks, dialect=dialect),
        point_record("p", "a.jpg", "car", [Point(0.5, 0.5)], dialect=dialect),
        box_record("b", "a.jpg", "car", [Box(0.1, 0.1, 0.5, 0.5)], dialect=dialect),
    ]
    read = [read_conversation(record, tmp_path, "x") for record in records]
    assert [r.kind for r in read] == ["video", "image", "image"]
    question = "".join(part.get("text", "") for part in read[0].messages[0]["content"])
    assert question.lstrip("\n").startswith("Track the car\nReturn the answer in XML format:")
    with pytest.raises(ValueError, match="without a point"):
        track_record("t", "a.mp4", "car", Tracks())
    with pytest.raises(ValueError, match="unknown dialect"):
        track_record("t", "a.mp4", "car", tracks, dialect="x")
