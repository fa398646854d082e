"""What the tasks for lmms-eval in `tasks/` call: questions in its terms, scores in ours.

Rows are those that `lmms_eval_tasks` writes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ov2kit.recipes.metrics.jumpscore import TOLERANCES, JumpScoreRow, aggregate_jumpscore, jumpscore_row
from ov2kit.recipes.metrics.temporal_iou import THRESHOLDS, temporal_row

Row = Mapping[str, Any]


def to_messages(row: Row, lmms_eval_specific_kwargs: Any = None) -> list[dict[str, Any]]:
    """The video, then the question."""
    content = [{"type": "video", "url": row["video"]}, {"type": "text", "text": row["question"]}]
    return [{"role": "user", "content": content}]


def to_visual(row: Row, lmms_eval_specific_kwargs: Any = None) -> list[str]:
    """The video, for models of the older interface."""
    return [row["video"]]


def to_text(row: Row, lmms_eval_specific_kwargs: Any = None) -> str:
    """The question."""
    return str(row["question"])


def to_target(row: Row) -> str:
    """The answer as text."""
    return str(row["answer"])


def score_jumpscore(row: Row, results: Sequence[str]) -> dict[str, Any]:
    """One answer's average precisions, under the name of every mean."""
    scored = jumpscore_row(results[0], row["answer"], row.get("confidence"))
    return {name: {"map": scored.map, "ap": scored.ap} for name in _JUMPSCORE}


def score_grounding(row: Row, results: Sequence[str]) -> dict[str, float]:
    """One answer's IoU, under the name of every mean."""
    return dict.fromkeys(_GROUNDING, temporal_row(results[0], row["answer"]))


_JUMPSCORE = ("map", *(f"ap@{tolerance:g}" for tolerance in TOLERANCES))
_GROUNDING = ("miou", *(f"r1@{threshold:g}" for threshold in THRESHOLDS))


def _jumpscore(rows: Sequence[Row], name: str) -> float:
    return aggregate_jumpscore([JumpScoreRow((), (), row["ap"], row["map"], False) for row in rows])[name]


def jumpscore_map(rows: Sequence[Row]) -> float:
    """Mean over all rows."""
    return _jumpscore(rows, "map")


def jumpscore_ap_01(rows: Sequence[Row]) -> float:
    """Mean average precision at 0.1 s."""
    return _jumpscore(rows, "ap@0.1")


def jumpscore_ap_02(rows: Sequence[Row]) -> float:
    """Mean average precision at 0.2 s."""
    return _jumpscore(rows, "ap@0.2")


def jumpscore_ap_03(rows: Sequence[Row]) -> float:
    """Mean average precision at 0.3 s."""
    return _jumpscore(rows, "ap@0.3")


def grounding_miou(ious: Sequence[float]) -> float:
    """Mean IoU, added up in the order of the rows as `TemporalIoU` does."""
    total = 0.0
    for iou in ious:
        total += iou
    return total / max(1, len(ious))


def _reached(ious: Sequence[float], threshold: float) -> float:
    return sum(iou >= threshold for iou in ious) / max(1, len(ious))


def grounding_r1_03(ious: Sequence[float]) -> float:
    """Share of rows whose IoU is 0.3 or more."""
    return _reached(ious, 0.3)


def grounding_r1_05(ious: Sequence[float]) -> float:
    """Share of rows whose IoU is 0.5 or more."""
    return _reached(ious, 0.5)


def grounding_r1_07(ious: Sequence[float]) -> float:
    """Share of rows whose IoU is 0.7 or more."""
    return _reached(ious, 0.7)
