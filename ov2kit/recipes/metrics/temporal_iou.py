"""Temporal grounding: mean IoU and recall at IoU thresholds of the span a model names.

Source: the usual protocol of Charades-STA and ActivityNet Captions; of several annotated windows
the closest counts, as in QVHighlights (arXiv 2107.09609, R1@IoU).
"""

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor
from torchmetrics import Metric

from ov2kit.errors import check_choice, check_numbers, check_type
from ov2kit.recipes.metrics.jumpscore import check_names, check_rows
from ov2kit.recipes.metrics.plain import plain
from ov2kit.recipes.metrics.spans import Span, ordered, parse_spans

Target = str | Sequence[float] | Sequence[Sequence[float]]
THRESHOLDS = (0.3, 0.5, 0.7)


def span_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Length shared by two spans over the length they cover; 0 if that is 0.

    Args:
        a: (start, end) in seconds.
        b: (start, end) in seconds.
    """
    a, b = plain([a, b])
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    covered = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / covered if covered > 0 else 0.0


def target_spans(answer: Target) -> list[Span]:
    """Annotated spans: text, one (start, end), or a list of them, also as an array or a tensor.

    Raises:
        ValueError: there is no span in it, or a time is not finite.
    """
    answer = plain(answer)
    if isinstance(answer, str):
        spans = parse_spans(answer)
    else:
        pairs = [answer] if len(answer) == 2 and not isinstance(answer[0], Sequence) else answer
        try:
            spans = [ordered(float(start), float(end)) for start, end in cast(Sequence[Sequence[float]], pairs)]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"an answer must be text, (start, end) or a list of (start, end), got {answer!r:.80}"
            ) from error
    if not all(math.isfinite(time) for span in spans for time in span):
        raise ValueError(f"the times of an answer must be finite, got {answer!r:.80}")
    if not spans:
        raise ValueError(f"no time span in the answer {answer!r:.80}; expected text like 'from 3.2 to 5.8 seconds'")
    return spans


def temporal_row(prediction: str, answer: Target, spans: Literal["first", "best"] = "first") -> float:
    """IoU of one prediction with the closest annotated span; 0 if it names no span.

    Args:
        prediction: what the model wrote.
        answer: text, one (start, end) in seconds, or a list of them.
        spans: which span of a prediction with several counts: its first, or whichever fits best.

    Raises:
        ValueError: the answer holds no span, or `spans` is neither.
    """
    check_choice("spans", spans, ("first", "best"))
    named = parse_spans(check_type("prediction", prediction, str, "a text"))
    truth = target_spans(answer)
    if spans == "first":
        named = named[:1]
    return max((span_iou(mine, true) for mine in named for true in truth), default=0.0)


class TemporalIoU(Metric):
    """Mean IoU, and the share of rows whose IoU reaches each threshold (R@1).

    Args:
        thresholds: IoU, inclusive.
        spans: which span of a prediction with several counts: its first, or whichever fits best.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    iou_sum: Tensor
    reached: Tensor
    rows: Tensor

    def __init__(self, *, thresholds: Sequence[float] = THRESHOLDS, spans: Literal["first", "best"] = "first") -> None:
        super().__init__()
        check_choice("spans", spans, ("first", "best"))
        self.thresholds = tuple(check_numbers("thresholds", plain(thresholds), low=0, high=1))
        check_names("thresholds", self.thresholds)
        self.spans: Literal["first", "best"] = spans
        self.add_state("iou_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("reached", torch.zeros(len(self.thresholds), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[str], answers: Sequence[Target]) -> None:
        """Add rows.

        Args:
            predictions: what the model wrote, one text per row.
            answers: text, one (start, end) in seconds, or a list of them, per row.

        Raises:
            ValueError: the lists have different lengths, or an answer holds no span; nothing is added then.
        """
        predictions, answers = plain([predictions, answers])
        check_rows(predictions, answers)
        rows = zip(predictions, answers, strict=True)
        ious = [temporal_row(prediction, answer, self.spans) for prediction, answer in rows]
        for iou in ious:
            self.iou_sum += iou
            passed = [iou >= threshold for threshold in self.thresholds]
            self.reached += torch.tensor(passed, device=self.reached.device)
            self.rows += 1

    def compute(self) -> dict[str, Tensor]:
        """``miou`` and one ``r1@<threshold>`` each, () float64; 0 where there is no row."""
        rows = self.rows.clamp(min=1)
        shares = self.reached.double() / rows
        return {
            "miou": self.iou_sum / rows,
            **{f"r1@{threshold:g}": share for threshold, share in zip(self.thresholds, shares, strict=True)},
        }
