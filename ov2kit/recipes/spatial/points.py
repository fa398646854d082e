"""Points as models write them: `(x, y)`, JSON `point_2d`, and Molmo's tags."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ov2kit.errors import DataError, check_choice, check_number
from ov2kit.recipes.spatial.json_text import each_list, json_objects, label_of, numbers
from ov2kit.recipes.spatial.space import PERCENT, THOUSANDTHS, Space
from ov2kit.recipes.spatial.track_text import read_tags, spoken

PointDialect = Literal["pairs", "json", "tag"]
_N = r"(-?\d{1,9}(?:\.\d*)?)"
_PAIR = re.compile(rf"[(\[]\s*{_N}\s*,\s*{_N}\s*[)\]]")
_TAG = re.compile(r"<points?\b([^<>]*)>([^<]*)", re.DOTALL)
_ATTRIBUTE = re.compile(rf"""\b([xy])(\d{{0,9}})\s*=\s*["']?\s*{_N}""")
_NOT_A_POINT = "a point_2d that is not [x, y]"
_Y_FIRST = "a JSON 'point', which has y first in some dialects and x in others; expected 'point_2d': [x, y]"


@dataclass(frozen=True)
class Point:
    """A place in a picture.

    Args:
        x: share of the width, 0 at the left edge.
        y: share of the height, 0 at the top edge.
        label: what is there; may be empty.
    """

    x: float
    y: float
    label: str = ""

    def __post_init__(self) -> None:
        check_number("x", self.x, low=0, high=1)
        check_number("y", self.y, low=0, high=1)


@dataclass(frozen=True)
class Points:
    """The points of one answer, in its order, and what was passed over in reading it."""

    points: tuple[Point, ...] = ()
    problems: tuple[str, ...] = field(default=(), compare=False)


def parse_points(text: str, space: Space = THOUSANDTHS, *, strict: bool = False) -> Points:
    """Read the points of an answer.

    The first of these that occurs is read: JSON objects with "point_2d" (one pair, or a list of them), tags
    `<point x= y=>` or `<points x1= y1= x2= ...>` (always in percent, as Molmo writes them), tags
    `<points coords="n id x y id x y ...">` (always whole numbers from 0 to 1000, as its successor writes them, whose n
    is the picture), pairs `(x, y)` or `[x, y]`.

    Args:
        text: the answer, with anything around the points.
        space: what written numbers refer to; for pixels the size of the picture that the model saw.
        strict: refuse an answer with any problem instead of leaving the odd points out.

    Raises:
        DataError: with `strict`, the first problem.
    """
    text = spoken(text)
    problems: list[str] = []
    found = list(_json(text, problems))
    if not found and not problems:
        found = list(_tags(text))
        space = PERCENT if found else space
    if not found and not problems:
        found, of_coords = _coords(text)
        space = THOUSANDTHS if found or of_coords else space
        problems += of_coords
    if not found and not problems:
        found = [((float(pair[1]), float(pair[2])), "") for pair in _PAIR.finditer(text)]
    points = []
    for (x, y), label in found:
        share = space.share(x, y)
        if space.is_in_shares(x, y):
            problems.append(f"({x:g}, {y:g}) looks like shares from 0 to 1, expected whole numbers")
        elif share is None:
            problems.append(f"({x:g}, {y:g}) is outside {space.width:g} x {space.height:g}")
        else:
            points.append(Point(*share, label))
    if strict and not points and not problems:
        problems.append("no points in the answer")
    if strict and problems:
        raise DataError(
            f"points cannot be read: {problems[0]}; expected (x, y) within {space.width:g} x {space.height:g}"
        )
    return Points(tuple(points), tuple(problems))


_Found = tuple[tuple[float, ...], str]


def _json(text: str, problems: list[str]) -> Iterator[_Found]:
    for entry in json_objects(text):
        for pair in each_list(entry["point_2d"]) if "point_2d" in entry else []:
            if (read := numbers(pair, 2)) is None:
                problems.append(_NOT_A_POINT)
            else:
                yield read, label_of(entry)
        if "point_2d" not in entry and numbers(entry.get("point"), 2) is not None:
            problems.append(_Y_FIRST)


def _coords(text: str) -> tuple[list[_Found], list[str]]:
    """Points of `coords` attributes of points, and what could not be read."""
    tags = [tag for tag in _TAG.finditer(text) if "coords" in tag[1]]
    read = [(read_tags(tag[0]), tag[2].strip()) for tag in tags]
    points: list[_Found] = [((x, y), label) for (raw, _), label in read for _, _, x, y, _ in raw]
    return points, [problem for (_, problems), _ in read for problem in problems]


def _tags(text: str) -> Iterator[_Found]:
    for tag in _TAG.finditer(text):
        read: dict[str, dict[str, float]] = {}
        for axis, number, value in _ATTRIBUTE.findall(tag[1]):
            read.setdefault(number, {})[axis] = float(value)
        for both in read.values():
            if len(both) == 2:
                yield (both["x"], both["y"]), tag[2].strip()


def write_points(points: Sequence[Point], dialect: PointDialect = "pairs", space: Space = THOUSANDTHS) -> str:
    """The answer text of points.

    Args:
        points: what to write.
        dialect: "pairs" is `(x, y), (x, y)` and leaves labels out, "json" is `point_2d`, "tag" is Molmo's, in percent.
        space: what the numbers refer to; "tag" has its own.

    Raises:
        ValueError: a dialect that is not known, or a label that would end the tag.
    """
    check_choice("dialect", dialect, get_args(PointDialect))
    if dialect == "pairs":
        return ", ".join(f"({x}, {y})" for x, y in (space.write(point.x, point.y) for point in points))
    if dialect == "json":
        return json.dumps([_entry(point, space) for point in points])
    if bad := [point.label for point in points if re.search(r'[<>"]', point.label)]:
        raise ValueError(f"a label cannot hold '<', '>' or '\"', got {bad[0]!r}")
    return "".join(
        f'<point x="{x}" y="{y}" alt="{point.label}">{point.label}</point>'
        for point, (x, y) in ((point, PERCENT.write(point.x, point.y)) for point in points)
    )


def _entry(point: Point, space: Space) -> dict[str, object]:
    pair = [json.loads(value) for value in space.write(point.x, point.y)]
    return {"point_2d": pair, "label": point.label}
