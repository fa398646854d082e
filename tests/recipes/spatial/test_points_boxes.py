"""Points and boxes: every dialect back and forth, units that are stated and never guessed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov2kit.errors import DataError
from ov2kit.recipes.spatial.boxes import Box, parse_boxes, write_boxes
from ov2kit.recipes.spatial.points import Point, parse_points, write_points
from ov2kit.recipes.spatial.space import THOUSANDTHS, Space, seen_space

PIXELS = Space(1288, 728)
_SPACES = st.sampled_from([THOUSANDTHS, PIXELS, Space(1000, 1000, whole=False)])
_LABELS = st.text("ab Zé日-_,;:.!?()[]{}0159/")


@given(st.data(), _SPACES, st.sampled_from(["pairs", "json"]))
def test_points_come_back_as_they_were(data, space, dialect):
    def place(side):
        return st.integers(0, int(side)).map(lambda k: k / side)

    labels = _LABELS if dialect == "json" else st.just("")
    points = data.draw(st.lists(st.builds(Point, place(space.width), place(space.height), labels), max_size=6))
    assert list(parse_points(write_points(points, dialect, space), space).points) == points


@given(
    st.lists(st.builds(Point, *[st.integers(0, 1000).map(lambda k: k / 1000)] * 2, _LABELS.map(str.strip)), max_size=6)
)
def test_tags_come_back_as_they_were_in_percent(points):
    read = parse_points(write_points(points, "tag"), PIXELS).points
    assert [(round(p.x, 3), round(p.y, 3), p.label) for p in read] == [(p.x, p.y, p.label) for p in points]


@st.composite
def boxes_of(draw, space):
    xs = sorted(draw(st.sets(st.integers(0, int(space.width)), min_size=2, max_size=2)))
    ys = sorted(draw(st.sets(st.integers(0, int(space.height)), min_size=2, max_size=2)))
    w, h = space.width, space.height
    return Box(xs[0] / w, ys[0] / h, xs[1] / w, ys[1] / h, draw(_LABELS).strip())


@given(st.data(), _SPACES, st.sampled_from(["json", "tag"]))
def test_boxes_come_back_as_they_were(data, space, dialect):
    boxes = data.draw(st.lists(boxes_of(space), max_size=5))
    assert list(parse_boxes(write_boxes(boxes, dialect, space), space).boxes) == boxes


@given(st.text())
def test_no_text_breaks_the_readers(text):
    parse_points(text)
    parse_boxes(text)
    parse_points('[{"point_2d": ' + text)
    parse_boxes('[{"bbox_2d": ' + text + "}]")


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("(100, 200)", [(100, 200, "")]),
        ("The cups are at (100,200) and [300, 400].", [(100, 200, ""), (300, 400, "")]),
        ('```json\n[{"point_2d": [100, 200], "label": "cup"}, {"point_2d": [3, 4]}]\n```',
         [(100, 200, "cup"), (3, 4, "")]),
        ('[{"point_2d": [100, 200], "label": "cup"}, {"point_2d": [3, ', [(100, 200, "cup")]),
        ('<point x="10.0" y="20.0" alt="cup">cup</point>', [(100, 200, "cup")]),
        ('<points x1="10" y1="20" x2="30.5" y2="40" alt="cups">cups</points>',
         [(100, 200, "cups"), (305, 400, "cups")]),
        ("[{'point_2d': [100, 200], 'label': 'cup'},]", [(100, 200, "cup")]),
        ('{"point_2d": [[100, 200], [3, 4]], "label": null}', [(100, 200, ""), (3, 4, "")]),
        ('<points coords="1 1 100 200 2 3 4">cups</points>', [(100, 200, "cups"), (3, 4, "cups")]),
        ("none", []),
    ],
)  # fmt: skip
def test_points_that_models_write_are_read(text, points):
    read = parse_points(text)
    assert [(round(p.x * 1000), round(p.y * 1000), p.label) for p in read.points] == points
    assert read.problems == ()


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ('{"bbox_2d": [135, 114, 616, 672], "label": "house"}', [(135, 114, 616, 672, "house")]),
        ('```json\n[\n\t{"bbox_2d": [1, 2, 3, 4], "label": "a"},\n\t{"bbox_2d": [5, 6, 7, 8]}\n]\n```',
         [(1, 2, 3, 4, "a"), (5, 6, 7, 8, "")]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6', [(1, 2, 3, 4, "a")]),
        ("<|object_ref_start|>the bus<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>",
         [(1, 2, 3, 4, "the bus")]),
        ("<ref>bus</ref><box>(1,2),(3,4)</box>", [(1, 2, 3, 4, "bus")]),
        ("It is at [1, 2, 3, 4].", [(1, 2, 3, 4, "")]),
        ("[{'bbox_2d': [1, 2, 3, 4], 'label': 'a'}]", [(1, 2, 3, 4, "a")]),
        ('{"bbox_2d": [[1, 2, 3, 4], [5, 6, 7, 8]], "label": "a"}', [(1, 2, 3, 4, "a"), (5, 6, 7, 8, "a")]),
        ("(1, 2, 3, 4)", [(1, 2, 3, 4, "")]),
        ('{"objects": 2}', []),
    ],
)  # fmt: skip
def test_boxes_that_models_write_are_read(text, boxes):
    read = parse_boxes(text)
    assert [(*(round(v * 1000) for v in box.corners), box.label) for box in read.boxes] == boxes
    assert read.problems == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"bbox_2d": [1, 2, 3], "label": "a"}]', "not [left, top, right, bottom]"),
        ('[{"bbox_2d": [30, 2, 3, 4]}]', "[30, 2, 3, 4] has its corners the wrong way round"),
        ('[{"bbox_2d": [1, 2, 1, 4]}]', "no area"),
        ('[{"bbox_2d": [1, 2, 1001, 4]}]', "not within 1000 x 1000"),
        ("[0.1, 0.2, 0.3, 0.4]", "[0.1, 0.2, 0.3, 0.4] looks like shares from 0 to 1"),
        ('{"box_2d": [1, 2, 3, 4]}', "which has y first"),
        ('[{"bbox_2d": [true, 2, 3, 4]}]', "not [left, top, right, bottom]"),
        ("nothing", "no boxes in the answer"),
    ],
)
def test_odd_boxes_are_refused_with_their_reason(text, problem):
    assert parse_boxes(text).boxes == ()
    with pytest.raises(DataError, match=re.escape(problem)):
        parse_boxes(text, strict=True)


def test_points_outside_what_the_numbers_refer_to_are_refused():
    text = "(1200, 700)"
    assert parse_points(text).points == ()
    assert parse_points(text, PIXELS).points == (Point(1200 / 1288, 700 / 728),)
    with pytest.raises(DataError, match=re.escape("(1200, 700) is outside 1000 x 1000")):
        parse_points(text, strict=True)
    with pytest.raises(DataError, match="no points"):
        parse_points("none", strict=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(0.5, 0.3)", "(0.5, 0.3) looks like shares from 0 to 1"),
        ('{"point_2d": [0.5, 1]}', "looks like shares from 0 to 1"),
        ('{"point": [100, 200]}', "which has y first in some dialects"),
        ('<points coords="1 1 0.51 0.3">cup</points>', "look like shares from 0 to 1"),
    ],
)
def test_points_of_another_unit_or_order_are_refused(text, problem):
    assert parse_points(text).points == ()
    assert problem in parse_points(text).problems[0]
    with pytest.raises(DataError, match=re.escape(problem)):
        parse_points(text, strict=True)


def test_shares_are_read_where_they_are_given_as_the_unit():
    assert parse_points("(0.5, 0.3)", Space(1, 1)).points == (Point(0.5, 0.3),)
    assert parse_boxes("[0.1, 0.2, 0.3, 0.4]", Space(1, 1, whole=False)).boxes == (Box(0.1, 0.2, 0.3, 0.4),)


def test_a_box_too_small_to_be_written_is_refused():
    with pytest.raises(ValueError, match="no area when written in 1000 x 1000"):
        write_boxes([Box(0.1, 0.1, 0.1001, 0.5)])


def test_pixels_of_a_resized_picture_are_those_of_what_the_model_saw():
    space = seen_space(1080, 1920)
    assert space == Space(1932, 1092)  # multiples of 28
    assert parse_points("(966, 546)", space).points == (Point(0.5, 0.5),)
    assert seen_space(1080, 1920, max_pixels=1_003_520) == Space(1316, 728)
