"""Answers about where things are: points, boxes, counts, relative position and depth.

Plain functions on Python values, and torchmetrics classes that add them up; every state is a sum.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from ov2kit.errors import check_choice, check_number, check_type
from ov2kit.recipes.metrics.assignment import assign
from ov2kit.recipes.metrics.overlap import box_similarity
from ov2kit.recipes.metrics.point_tracks import PixelPoint, point_in_mask

Relation = Literal["left", "right", "above", "below", "front", "behind"]
Corners = tuple[float, float, float, float]
BOX_THRESHOLDS = (0.5, 0.75, 0.9)

_WORDS: Mapping[Relation, str] = {
    "left": r"left",
    "right": r"right(?!\s*(?:now|away|answer))",
    "above": r"above|over|on top of|higher",
    "below": r"below|under|underneath|beneath|lower",
    "front": r"in front of|front|closer|nearer",
    "behind": r"behind|farther|further",
}
_NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_NUMBER = re.compile(r"(?<![\w.])(\d{1,6})(?![\w]|\.\d)|\b(" + "|".join(_NAMES) + r"|no|none)\b", re.IGNORECASE)
_FINAL = re.compile(r"\banswer\b\s*(?:is)?\s*[:=]?\s*(.*)", re.IGNORECASE | re.DOTALL)


def parse_count(text: str) -> int | None:
    """The whole number that an answer gives, in digits or as a word up to twelve.

    Returns:
        None where there is no number, or where there are several and none follows "answer": a guess would be ours.
    """
    final = _FINAL.search(check_type("text", text, str, "a text"))
    for part in ([final[1]] if final else []) + [text]:
        found = [int(digits) if digits else _word(word) for digits, word in _NUMBER.findall(part)]
        if len(set(found)) == 1:
            return found[0]
    return None


def _word(word: str) -> int:
    return 0 if word.lower() in ("no", "none") else _NAMES.index(word.lower())


def parse_relation(text: str) -> Relation | None:
    """The one relation that an answer names; None for none, for several, and for a negated one."""
    check_type("text", text, str, "a text")
    found = [name for name in get_args(Relation) if re.search(rf"\b(?:{_WORDS[name]})\b", text, flags=re.IGNORECASE)]
    if len(found) != 1 or re.search(r"\bnot\b|n't\b", text, flags=re.IGNORECASE):
        return None
    return found[0]  # type: ignore[no-any-return] # get_args loses the type


def relation_between(one: Corners, other: Corners) -> Relation | None:
    """Where the first box lies from the second, by their centers on the axis that parts them more.

    Args:
        one: left, top, right, bottom; down is larger.
        other: in the same units.

    Returns:
        None where the centers are within half a box of each other on both axes.
    """
    across, down = ((one[k] + one[k + 2] - other[k] - other[k + 2]) / 2 for k in (0, 1))
    near = [max(one[k + 2] - one[k], other[k + 2] - other[k]) / 2 for k in (0, 1)]
    if abs(across) < near[0] and abs(down) < near[1]:
        return None
    if abs(across) / max(near[0], 1e-9) >= abs(down) / max(near[1], 1e-9):
        return "left" if across < 0 else "right"
    return "above" if down < 0 else "below"


def depth_between(one: float, other: float, *, least: float = 0.1) -> Relation | None:
    """ "front" where the first thing is nearer to the camera; None where depths differ by less than a share `least`."""
    check_number("one", one, above=0)
    check_number("other", other, above=0)
    check_number("least", least, low=0, high=1)
    if abs(one - other) < least * max(one, other):
        return None
    return "front" if one < other else "behind"


def points_in_masks(points: Sequence[PixelPoint], masks: Sequence[NDArray[np.bool_]]) -> tuple[int, int, int]:
    """Points matched to masks, one to one: (right, points, masks).

    Args:
        points: (x, y) in pixels.
        masks: (H, W) bool each, of the objects asked for.
    """
    table = np.array([[float(point_in_mask(point, mask)) for mask in masks] for point in points])
    table = table.reshape(len(points), len(masks))
    return int(sum(table[p, m] for p, m in assign(table))), len(points), len(masks)


def boxes_matched(predicted: Sequence[Corners], target: Sequence[Corners]) -> list[float]:
    """IoU of every target box with the predicted box that is its own, one to one; 0 for one that has none."""
    if not predicted or not target:
        return [0.0] * len(target)
    table = box_similarity(torch.tensor(list(predicted)), torch.tensor(list(target))).numpy()
    found = [0.0] * len(target)
    for p, t in assign(table):
        found[t] = float(table[p, t])
    return found


class PointsInMasks(Metric):
    """Precision, recall and F1 of pointing, over all points and masks."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, points: Sequence[PixelPoint], masks: Sequence[NDArray[np.bool_]]) -> None:
        """Add one picture; arguments as in `points_in_masks`."""
        self.counts += torch.tensor(points_in_masks(points, masks), device=self.counts.device)

    def compute(self) -> dict[str, Tensor]:
        """``precision``, ``recall``, ``f1``; () float64 each, 0 where there is nothing to divide by."""
        right, points, masks = self.counts.double()
        f1 = 2 * right / (points + masks).clamp(min=1)
        return {"precision": right / points.clamp(min=1), "recall": right / masks.clamp(min=1), "f1": f1}


class BoxAccuracy(Metric):
    """Mean IoU of target boxes, and the share that reaches each threshold."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2 + len(BOX_THRESHOLDS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Sequence[Corners], target: Sequence[Corners]) -> None:
        """Add one picture; arguments as in `boxes_matched`. Predictions too many cost nothing here."""
        found = boxes_matched(predicted, target)
        row = [len(found), sum(found), *(sum(iou >= least for iou in found) for least in BOX_THRESHOLDS)]
        self.sums += torch.tensor(row, dtype=torch.float64, device=self.sums.device)

    def compute(self) -> dict[str, Tensor]:
        """``miou`` and ``acc@0.5``, ``acc@0.75``, ``acc@0.9``; () float64 each."""
        means = self.sums[1:] / self.sums[0].clamp(min=1)
        return dict(zip(("miou", *(f"acc@{least}" for least in BOX_THRESHOLDS)), means.unbind(), strict=True))


class Counting(Metric):
    """Counts: share that is right, share within one, mean absolute error of those that gave a number."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(5, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, texts: Sequence[str], answers: Sequence[int]) -> None:
        """Add answers.

        Args:
            texts: what a model wrote.
            answers: true counts.
        """
        if len(texts) != len(answers):
            raise ValueError(f"texts and answers must be as many, got {len(texts)} and {len(answers)}")
        for text, answer in zip(texts, answers, strict=True):
            found = parse_count(text)
            off = None if found is None else abs(found - answer)
            row = [1, off == 0, off is not None and off <= 1, off is not None, 0 if off is None else off]
            self.sums += torch.tensor(row, dtype=torch.float64, device=self.sums.device)

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``, ``within_one``, ``answered``, ``mae``; () float64 each."""
        rows, right, near, answered, off = self.sums
        shares = {"accuracy": right, "within_one": near, "answered": answered}
        return {name: value / rows.clamp(min=1) for name, value in shares.items()} | {
            "mae": off / answered.clamp(min=1)
        }


class RelationAccuracy(Metric):
    """Relative position and depth: share of right answers, for each relation and for all."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("right", "rows"):
            self.add_state(name, torch.zeros(len(get_args(Relation)), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, texts: Sequence[str], answers: Sequence[Relation]) -> None:
        """Add answers.

        Args:
            texts: what a model wrote.
            answers: true relations.
        """
        if len(texts) != len(answers):
            raise ValueError(f"texts and answers must be as many, got {len(texts)} and {len(answers)}")
        known = get_args(Relation)
        for text, answer in zip(texts, answers, strict=True):
            check_choice("relation", answer, known)
            self.rows[known.index(answer)] += 1
            self.right[known.index(answer)] += parse_relation(text) == answer

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``, and that of each relation; () float64 each, 0 where it was never asked."""
        each = self.right.double() / self.rows.clamp(min=1)
        total = self.right.sum().double() / self.rows.sum().clamp(min=1)
        return {"accuracy": total, **dict(zip(get_args(Relation), each.unbind(), strict=True))}
