"""Boxes as the Qwen-VL line writes them: JSON `bbox_2d`, and pairs of corners between tags."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ov2kit.errors import DataError, check_choice
from ov2kit.recipes.spatial.json_text import each_list, json_objects, label_of, numbers
from ov2kit.recipes.spatial.space import THOUSANDTHS, Space
from ov2kit.recipes.spatial.track_text import spoken

BoxDialect = Literal["json", "tag"]
_N = r"(-?\d{1,9}(?:\.\d*)?)"
_CORNERS = re.compile(
    rf"(?:<\|object_ref_start\|>([^<]*)<\|object_ref_end\|>|<ref>([^<]*)</ref>)?\s*(?:<\|box_start\|>|<box>)?\s*"
    rf"\(\s*{_N}\s*,\s*{_N}\s*\)\s*,\s*\(\s*{_N}\s*,\s*{_N}\s*\)"
)
_FOUR = re.compile(rf"[\[(]\s*{_N}\s*,\s*{_N}\s*,\s*{_N}\s*,\s*{_N}\s*[\])]")
_NOT_A_BOX = "a bbox_2d that is not [left, top, right, bottom]"
_Y_FIRST = "a JSON 'box_2d', which has y first; expected 'bbox_2d': [left, top, right, bottom]"


@dataclass(frozen=True)
class Box:
    """A rectangle with area in a picture.

    Args:
        left, right: shares of the width, left < right.
        top, bottom: shares of the height, top < bottom.
        label: what is in it; may be empty.
    """

    left: float
    top: float
    right: float
    bottom: float
    label: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ValueError(f"a box needs 0 <= left < right <= 1 and 0 <= top < bottom <= 1, got {self.corners}")

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom


@dataclass(frozen=True)
class Boxes:
    """The boxes of one answer, in its order, and what was passed over in reading it."""

    boxes: tuple[Box, ...] = ()
    problems: tuple[str, ...] = field(default=(), compare=False)


def parse_boxes(text: str, space: Space = THOUSANDTHS, *, strict: bool = False) -> Boxes:
    """Read the boxes of an answer.

    The first of these that occurs is read: JSON objects with "bbox_2d" or "bbox" (four numbers, or a list of such),
    corners `(x, y),(x, y)` with or without the tags of Qwen-VL and Qwen2-VL, lists `[x, y, x, y]`. Qwen2-VL and
    Qwen3-VL count from 0 to 1000; Qwen2.5-VL counts pixels of the picture after its resizing, which is then the
    `space`.

    A box whose corners are the wrong way round is left out: it may hold a width and a height instead.

    Args:
        text: the answer, with anything around the boxes.
        space: what the numbers refer to.
        strict: refuse an answer with any problem instead of leaving the odd boxes out.

    Raises:
        DataError: with `strict`, the first problem.
    """
    text = spoken(text)
    problems: list[str] = []
    found = list(_json(text, problems))
    if not found and not problems:
        found = list(_corners(text))
    boxes = []
    for four, label in found:
        first, second = space.share(four[0], four[1]), space.share(four[2], four[3])
        if space.is_in_shares(*four):
            problems.append(f"{_shown(four)} looks like shares from 0 to 1, expected whole numbers")
        elif first is None or second is None:
            problems.append(f"{_shown(four)} is not within {space.width:g} x {space.height:g}")
        elif not (first[0] < second[0] and first[1] < second[1]):
            problems.append(f"{_shown(four)} has its corners the wrong way round, or no area")
        else:
            boxes.append(Box(*first, *second, label))
    if strict and not boxes and not problems:
        problems.append("no boxes in the answer")
    if strict and problems:
        raise DataError(
            f"boxes cannot be read: {problems[0]}; expected [left, top, right, bottom] within "
            f"{space.width:g} x {space.height:g}"
        )
    return Boxes(tuple(boxes), tuple(problems))


def _shown(four: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in four) + "]"


_Found = Iterator[tuple[tuple[float, ...], str]]


def _json(text: str, problems: list[str]) -> _Found:
    for entry in json_objects(text):
        key = next((key for key in ("bbox_2d", "bbox") if key in entry), None)
        if key is None:
            if numbers(entry.get("box_2d"), 4) is not None:
                problems.append(_Y_FIRST)
            continue
        for four in each_list(entry[key]):
            if (read := numbers(four, 4)) is None:
                problems.append(_NOT_A_BOX)
            else:
                yield read, label_of(entry)


def _corners(text: str) -> _Found:
    tagged = [(match.groups()[2:], (match[1] or match[2] or "").strip()) for match in _CORNERS.finditer(text)]
    plain = tagged or [(match.groups(), "") for match in _FOUR.finditer(text)]
    yield from ((tuple(float(value) for value in four), label) for four, label in plain)


def write_boxes(boxes: Sequence[Box], dialect: BoxDialect = "json", space: Space = THOUSANDTHS) -> str:
    """The answer text of boxes.

    Args:
        boxes: what to write.
        dialect: "json" is a list of {"bbox_2d", "label"}, "tag" the special tokens of Qwen2-VL.
        space: what the numbers refer to.

    Raises:
        ValueError: a dialect that is not known, a label that would end the tag, or a box that is smaller than what the
            space can say.
    """
    check_choice("dialect", dialect, get_args(BoxDialect))
    written = [(*space.write(box.left, box.top), *space.write(box.right, box.bottom)) for box in boxes]
    for box, four in zip(boxes, written, strict=True):
        if four[0] == four[2] or four[1] == four[3]:
            raise ValueError(f"{box.corners} has no area when written in {space.width:g} x {space.height:g}")
    if dialect == "json":
        return json.dumps(
            [{"bbox_2d": [json.loads(v) for v in four], "label": box.label}
             for box, four in zip(boxes, written, strict=True)]
        )  # fmt: skip
    if bad := [box.label for box in boxes if "<" in box.label]:
        raise ValueError(f"a label cannot hold '<', got {bad[0]!r}")
    return "".join(
        f"<|object_ref_start|>{box.label}<|object_ref_end|><|box_start|>({a},{b}),({c},{d})<|box_end|>"
        for box, (a, b, c, d) in zip(boxes, written, strict=True)
    )
