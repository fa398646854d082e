"""Tracks: where objects are at which times, as a model writes them.

Two dialects. The public one, which the evaluation asks for:

    <tracks coords="0.0 0 512 300 1 40 77; 0.5 0 520 310">the two dogs</tracks>

time in seconds, then object id, x and y of each object, whole numbers from 0 to 1000. And the older one, in percent:

    time 0.0
    {0: [51.2, 30.0], 1: [4.0, 7.7, 'yes']}

where a third entry says whether the object is hidden.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ov2kit.errors import DataError, check_choice, check_number
from ov2kit.recipes.spatial.space import PERCENT, THOUSANDTHS
from ov2kit.recipes.spatial.track_text import RawPoint, read_tags, read_time_dicts, tag_labels

Dialect = Literal["tracks", "time"]


@dataclass(frozen=True, order=True)
class TrackPoint:
    """One object at one moment.

    Args:
        seconds: from the start of the video.
        object_id: from 0; the same object has the same id at all times.
        x: share of the width, 0 at the left edge.
        y: share of the height, 0 at the top edge.
        occluded: whether something hides it there. Only the older dialect can say so.
    """

    seconds: float
    object_id: int
    x: float
    y: float
    occluded: bool = False

    def __post_init__(self) -> None:
        check_number("seconds", self.seconds, low=0)
        check_number("object_id", self.object_id, low=0, integer=True)
        check_number("x", self.x, low=0, high=1)
        check_number("y", self.y, low=0, high=1)


@dataclass(frozen=True)
class Tracks:
    """The tracks of one answer.

    Args:
        points: by time; at one time as they were written. At most one per time and object.
        label: what the objects are.
        problems: what was passed over in reading, and why; not part of equality.
    """

    points: tuple[TrackPoint, ...] = ()
    label: str = ""
    problems: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        seen = {(point.seconds, point.object_id) for point in self.points}
        if len(seen) != len(self.points):
            raise ValueError("tracks hold at most one point per time and object")
        if any(a.seconds > b.seconds for a, b in zip(self.points, self.points[1:], strict=False)):
            raise ValueError("the points of tracks must be ordered by time")

    @classmethod
    def of(cls, points: Iterable[TrackPoint], label: str = "") -> "Tracks":
        """Tracks from points in any order."""
        return cls(tuple(sorted(points, key=lambda point: point.seconds)), label)

    def object_ids(self) -> tuple[int, ...]:
        """Ids, increasing."""
        return tuple(sorted({point.object_id for point in self.points}))

    def by_time(self) -> dict[float, dict[int, TrackPoint]]:
        """Seconds -> object id -> point; times increase."""
        found: dict[float, dict[int, TrackPoint]] = {}
        for point in self.points:
            found.setdefault(point.seconds, {})[point.object_id] = point
        return found


def parse_tracks(text: str, *, strict: bool = False) -> Tracks:
    """Read the tracks of an answer, in the dialect that it is written in.

    Around the tracks there may be anything: reasoning, code fences, other tags. An answer that breaks off keeps what
    was complete. Times may be written as on a clock (1:05 is 65 s), and numbers may be parted by commas or brackets.
    Decimals of coordinates from 0 to 1000 are cut off, and of two points of one object at one time the first one
    counts, both as in the public evaluation.

    Args:
        text: the answer.
        strict: refuse an answer with any problem instead of leaving the odd points out.

    Returns:
        Tracks without points where the answer has none.

    Raises:
        DataError: with `strict`, the first problem.
    """
    raw, problems = read_tags(text)
    label = "; ".join(tag_labels(text)) if raw else ""
    space = THOUSANDTHS
    if not raw:
        older, of_older = read_time_dicts(text)
        raw, problems, space = older, problems + of_older, PERCENT
    points = _unique(raw, space.width, problems)
    if strict and not points:
        problems.append("no tracks in the answer")
    if strict and problems:
        raise DataError(f'tracks cannot be read: {problems[0]}; expected <tracks coords="t id x y ...; ...">')
    return Tracks(tuple(points), label, tuple(problems))


def _unique(raw: Sequence[RawPoint], scale: float, problems: list[str]) -> list[TrackPoint]:
    points: dict[tuple[float, int], TrackPoint] = {}
    for seconds, number, x, y, occluded in raw:
        if not (0 <= x <= scale and 0 <= y <= scale):
            problems.append(f"({x:g}, {y:g}) of object {number} at {seconds:g} s is outside 0 to {scale:g}")
        elif (seconds, number) in points:
            problems.append(f"object {number} has two points at {seconds:g} s; the first one counts")
        else:
            points[seconds, number] = TrackPoint(seconds, number, x / scale, y / scale, occluded)
    return sorted(points.values(), key=lambda point: point.seconds)


def write_tracks(tracks: Tracks, dialect: Dialect = "tracks", *, decimals: int = 2) -> str:
    """The answer text of tracks.

    Args:
        tracks: what to write.
        dialect: "tracks" is the public one, "time" the older one in percent.
        decimals: most digits of a time after the point; zeros at the end are left out.

    Raises:
        ValueError: an unknown dialect, a label that would end the tag, or times that become equal when rounded.
    """
    check_choice("dialect", dialect, get_args(Dialect))
    check_number("decimals", decimals, low=0, high=9, integer=True)
    moments = {_seconds(at, decimals): points for at, points in tracks.by_time().items()}
    if len(moments) != len(tracks.by_time()):
        raise ValueError(f"two times are equal with {decimals} decimals; give more")
    if dialect == "time":
        return "\n".join(f"time {at}\n{_older(points.values())}" for at, points in moments.items())
    if "<" in tracks.label:
        raise ValueError(f"a label cannot hold '<', got {tracks.label!r}")
    coords = "; ".join(f"{at} " + " ".join(map(_triple, points.values())) for at, points in moments.items())
    return f'<tracks coords="{coords}">{tracks.label}</tracks>'


def _triple(point: TrackPoint) -> str:
    return " ".join([str(point.object_id), *THOUSANDTHS.write(point.x, point.y)])


def _older(points: Iterable[TrackPoint]) -> str:
    entries = []
    for point in points:
        x, y = PERCENT.write(point.x, point.y)
        entries.append(f"{point.object_id}: [{x}, {y}{', ' + repr('yes') if point.occluded else ''}]")
    return "{" + ", ".join(entries) + "}"


def _seconds(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
