"""Training records of points, boxes and tracks, in both dialects of conversations."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from ov2kit.errors import check_choice
from ov2kit.recipes.spatial.boxes import Box, write_boxes
from ov2kit.recipes.spatial.points import Point, write_points
from ov2kit.recipes.spatial.prompts import QUESTIONS, track_prompt
from ov2kit.recipes.spatial.space import THOUSANDTHS, Space
from ov2kit.recipes.spatial.tracks import Tracks, write_tracks

RecordDialect = Literal["messages", "conversations"]


def track_record(
    name: str, video: str, expression: str, tracks: Tracks, *, dialect: RecordDialect = "messages"
) -> dict[str, Any]:
    """A video, "Track the ..." and the tracks, as the public evaluation asks and reads them.

    Args:
        name: id of the record.
        video: path, relative to the file of records.
        expression: what is to be tracked.
        tracks: the answer; at least one point.
        dialect: "messages" with role and content, or the older "conversations" with from and value.

    Raises:
        ValueError: tracks without a point, or an unknown dialect.
    """
    if not tracks.points:
        raise ValueError(f"{name}: tracks without a point are no answer to learn from")
    return _record(name, "video", video, track_prompt(expression), write_tracks(tracks), dialect)


def point_record(
    name: str,
    image: str,
    expression: str,
    points: Sequence[Point],
    *,
    space: Space = THOUSANDTHS,
    dialect: RecordDialect = "messages",
) -> dict[str, Any]:
    """A picture, "Point to the ..." and pairs (x, y)."""
    question = QUESTIONS["points"].format(expression=expression)
    return _record(name, "image", image, question, write_points(points, "pairs", space), dialect)


def box_record(
    name: str,
    image: str,
    expression: str,
    boxes: Sequence[Box],
    *,
    space: Space = THOUSANDTHS,
    dialect: RecordDialect = "messages",
) -> dict[str, Any]:
    """A picture, "Locate the ..." and JSON boxes."""
    question = QUESTIONS["boxes"].format(expression=expression)
    return _record(name, "image", image, question, write_boxes(boxes, "json", space), dialect)


def _record(name: str, kind: str, path: str, question: str, answer: str, dialect: str) -> dict[str, Any]:
    check_choice("dialect", dialect, get_args(RecordDialect))
    turns = (("user", f"<{kind}>\n{question}"), ("assistant", answer))
    if dialect == "messages":
        return {
            "id": name,
            f"{kind}s": [path],
            "messages": [{"role": role, "content": text} for role, text in turns],
        }
    older = {"user": "human", "assistant": "gpt"}
    return {
        "id": name,
        kind: path,
        "conversations": [{"from": older[role], "value": text} for role, text in turns],
    }
