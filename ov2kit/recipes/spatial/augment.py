"""Mirror and crop: pixels and coordinates move together, or the record is refused.

A record is refused where its text says something that the change would make untrue and that cannot be rewritten: sides
in words for a mirror, counts and places in words for a crop, coordinates in a form that is not known.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ov2kit.errors import DataError, OptionError, check_number
from ov2kit.recipes.spatial.frames import Picture
from ov2kit.recipes.spatial.prompts import TRACK_INSTRUCTION
from ov2kit.recipes.spatial.space import THOUSANDTHS, Space
from ov2kit.recipes.spatial.tracks import TrackPoint, Tracks, parse_tracks, write_tracks

_SIDES = re.compile(
    r"\b(left|right|leftmost|rightmost|clockwise|counterclockwise|east|west|text|letters?|reads?)\b", re.I
)
_PLACES = re.compile(
    r"\b(how many|count|leftmost|rightmost|topmost|corner|edge|center|middle|top|bottom|left|right|largest|smallest)\b",
    re.I,
)
_N = r"(\d{1,9}(?:\.\d+)?)"
_TAG = re.compile(r"<tracks\b[^>]*>[^<]*</tracks>")
_LISTS = re.compile(rf'("(?:bbox_2d|point_2d)"\s*:\s*)\[\s*{_N}\s*,\s*{_N}\s*(?:,\s*{_N}\s*,\s*{_N}\s*)?\]')
_PAIRS = re.compile(rf"\(\s*{_N}\s*,\s*{_N}\s*\)")
_LEFT_OVER = re.compile(r"\d+\s*,\s*\d+|coords\s*=|\btime\s+\d")


class Change(Protocol):
    """What happens to a picture."""

    def pixels(self, picture: Picture) -> Picture:
        """(H, W, 3) -> the changed picture."""

    def place(self, x: float, y: float) -> tuple[float, float] | None:
        """Where a place goes, in shares; None where it leaves the picture."""

    def untrue(self, text: str) -> str | None:
        """A word of the text that the change would make untrue."""


@dataclass(frozen=True)
class Mirror:
    """Left becomes right."""

    def pixels(self, picture: Picture) -> Picture:
        """(H, W, 3) -> the same size."""
        return np.ascontiguousarray(picture[:, ::-1])

    def place(self, x: float, y: float) -> tuple[float, float] | None:
        """Shares -> shares."""
        return 1 - x, y

    def untrue(self, text: str) -> str | None:
        """A side, or something to read."""
        found = _SIDES.search(text)
        return found[0] if found else None


@dataclass(frozen=True)
class Crop:
    """A part of the picture, its edges as shares.

    Raises:
        ValueError: a part without area, or outside.
    """

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        for name in ("left", "top", "right", "bottom"):
            check_number(name, getattr(self, name), low=0, high=1)
        if not (self.left < self.right and self.top < self.bottom):
            raise OptionError(f"a crop needs 0 <= left < right <= 1 and 0 <= top < bottom <= 1, got {self}")

    def pixels(self, picture: Picture) -> Picture:
        """(H, W, 3) -> the pixels whose edges are nearest to those of the part."""
        height, width = picture.shape[:2]
        rows = slice(round(self.top * height), round(self.bottom * height))
        return picture[rows, round(self.left * width) : round(self.right * width)].copy()

    def place(self, x: float, y: float) -> tuple[float, float] | None:
        """Shares of the whole -> shares of the part."""
        x, y = (x - self.left) / (self.right - self.left), (y - self.top) / (self.bottom - self.top)
        return (x, y) if 0 <= x <= 1 and 0 <= y <= 1 else None

    def untrue(self, text: str) -> str | None:
        """A count, or a place in words."""
        found = _PLACES.search(text)
        return found[0] if found else None


def move_tracks(tracks: Tracks, change: Change) -> Tracks:
    """Tracks in the changed video; points that leave it are gone."""
    moved = [
        TrackPoint(p.seconds, p.object_id, *place, p.occluded)
        for p in tracks.points
        if (place := change.place(p.x, p.y)) is not None
    ]
    return Tracks(tuple(moved), tracks.label)


def move_text(text: str, change: Change, space: Space = THOUSANDTHS) -> str:
    """A text with its coordinates moved: tracks, JSON boxes and points, pairs (x, y).

    Args:
        text: a question or an answer.
        change: what happens to the pixels.
        space: what the numbers of boxes and points refer to.

    Raises:
        DataError: the text cannot be kept true.
    """
    if word := change.untrue(text.replace(TRACK_INSTRUCTION, "")):
        raise DataError(f"the text says {word!r}, which {type(change).__name__} may make untrue: {text[:60]!r}")
    kept: list[str] = []

    def put(new: str) -> str:
        kept.append(new)
        return f"\0{len(kept) - 1}\0"

    def tag(found: re.Match[str]) -> str:
        moved = move_tracks(parse_tracks(found[0], strict=True), change)
        if not moved.points:
            raise DataError("no point of the tracks is left in the picture")
        return put(write_tracks(moved))

    def numbers(found: re.Match[str]) -> str:
        given = [float(value) for value in found.groups()[1:] if value is not None]
        corners = [_moved(change, space, given[k], given[k + 1]) for k in range(0, len(given), 2)]
        if len(corners) == 2:  # a mirror swaps the sides of a box
            xs, ys = zip(*corners, strict=True)
            corners = [(min(xs), min(ys)), (max(xs), max(ys))]
        return put(f"{found[1]}[{', '.join(word for corner in corners for word in space.write(*corner))}]")

    def pair(found: re.Match[str]) -> str:
        x, y = space.write(*_moved(change, space, float(found[1]), float(found[2])))
        return put(f"({x}, {y})")

    text = text.replace(TRACK_INSTRUCTION, put(TRACK_INSTRUCTION))  # its examples are no coordinates
    for pattern, new in ((_TAG, tag), (_LISTS, numbers), (_PAIRS, pair)):
        text = pattern.sub(new, text)
    if left := _LEFT_OVER.search(text):
        raise DataError(f"coordinates in a form that cannot be moved: {left[0]!r}")
    return re.sub(r"\0(\d+)\0", lambda found: kept[int(found[1])], text)


def _moved(change: Change, space: Space, x: float, y: float) -> tuple[float, float]:
    share = space.share(x, y)
    if share is None:
        raise DataError(f"({x:g}, {y:g}) is outside {space.width:g} x {space.height:g}")
    place = change.place(*share)
    if place is None:
        raise DataError(f"({x:g}, {y:g}) leaves the picture")
    return place


def move_record(record: Mapping[str, Any], change: Change, space: Space = THOUSANDTHS) -> dict[str, Any]:
    """A conversation about the changed pictures; media paths stay, their pixels are the caller's to change.

    Args:
        record: of either dialect.
        change: what happens to the pixels.
        space: what the numbers of boxes and points refer to.

    Raises:
        DataError: a turn that cannot be kept true.
    """
    key, text_key = ("messages", "content") if "messages" in record else ("conversations", "value")
    turns = record.get(key)
    if not isinstance(turns, list) or not all(isinstance(turn.get(text_key), str) for turn in turns):
        raise DataError(f"expected turns of text under {key!r}")
    moved = [{**turn, text_key: move_text(turn[text_key], change, space)} for turn in turns]
    return {**record, key: moved}
