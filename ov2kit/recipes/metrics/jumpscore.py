"""JumpScore: average precision of start times at 0.1, 0.2 and 0.3 s, and their mean.

Source: the JumpScore task of lmms-eval (commit 75571cf), by its inputs and outputs.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from ov2kit.errors import OptionError, check_number, check_numbers, check_type
from ov2kit.recipes.metrics.plain import plain
from ov2kit.recipes.metrics.start_times import is_explicit_empty, parse_answer, parse_times

TOLERANCES = (0.1, 0.2, 0.3)


@dataclass(frozen=True)
class JumpScoreRow:
    """One scored question.

    Args:
        pred_starts: seconds the prediction names, increasing.
        gt_starts: seconds of the annotation, increasing.
        ap: tolerance in seconds -> average precision; empty where nothing can be measured.
        map: mean of `ap`; 0 where that is empty.
        explicit_empty: the annotation says that nothing happens.
    """

    pred_starts: tuple[float, ...]
    gt_starts: tuple[float, ...]
    ap: dict[float, float]
    map: float
    explicit_empty: bool


def _checked(tolerances: Sequence[float]) -> Sequence[float]:
    """Tolerances as plain numbers, one or more."""
    found: Sequence[float] = check_numbers("tolerances", plain(tolerances), low=0)
    if not found:
        raise OptionError("tolerances must be one or more numbers of seconds, got none")
    return found


def average_precision(
    predicted: Sequence[float],
    truth: Sequence[float],
    tolerance: float,
    confidence: Sequence[float] | None = None,
) -> float:
    """Average precision of start times: the sum of precision times recall step, not interpolated.

    Predictions are taken by falling confidence, then by time, and each takes the closest answer
    that is still free and no further than `tolerance` away.

    Args:
        predicted: seconds, in any order.
        truth: seconds, in any order.
        tolerance: seconds, inclusive in floating point.
        confidence: one number per prediction in the order given; the longer list is cut.

    Returns:
        A share in [0, 1]; 0 without truth.

    Raises:
        ValueError: a time, a confidence or the tolerance is not a number.
    """
    predicted, truth, confidence, tolerance = plain([predicted, truth, confidence, tolerance])
    check_number("tolerance", tolerance, low=0)
    check_type("confidence", confidence, list, "a list of numbers", optional=True)
    for name, numbers in (("predicted", predicted), ("truth", truth), ("confidence", confidence or [])):
        if any(math.isnan(number) for number in numbers):
            raise ValueError(f"{name} must be numbers, got nan in {numbers!r:.80}")
    if confidence is None:
        ranked = sorted(predicted)
    else:
        pairs = zip(predicted, confidence, strict=False)
        ranked = [time for time, _ in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))]
    free = sorted(truth)
    hits, precisions = 0, 0.0
    for rank, time in enumerate(ranked, start=1):
        if not free:
            break
        nearest = min(range(len(free)), key=lambda k: abs(free[k] - time))
        if abs(free[nearest] - time) <= tolerance:
            del free[nearest]
            hits += 1
            precisions += hits / rank
    return precisions / len(truth) if truth else 0.0


def jumpscore_row(
    prediction: str,
    answer: str | Sequence[float],
    confidence: Sequence[float] | None = None,
    tolerances: Sequence[float] = TOLERANCES,
) -> JumpScoreRow:
    """Score one prediction.

    Args:
        prediction: what the model wrote.
        answer: text with a JSON list of seconds, or the seconds.
        confidence: one number per predicted time, in the order of the text.
        tolerances: seconds.
    """
    check_type("prediction", prediction, str, "a text")
    tolerances = _checked(tolerances)
    times, truth = parse_times(prediction), parse_answer(answer)
    empty = is_explicit_empty(answer)
    if truth:
        ap = {tolerance: average_precision(times, truth, tolerance, confidence) for tolerance in tolerances}
    elif empty and not times:
        ap = dict.fromkeys(tolerances, 1.0)
    else:
        ap = {}
    mean = sum(ap.values()) / len(ap) if ap else 0.0
    return JumpScoreRow(tuple(sorted(times)), tuple(truth), ap, mean, empty)


def aggregate_jumpscore(rows: Iterable[JumpScoreRow], tolerances: Sequence[float] = TOLERANCES) -> dict[str, float]:
    """``map`` over all rows and ``ap@<seconds>`` over the rows that have one; 0 where there is no row."""
    rows, tolerances = list(rows), _checked(tolerances)
    means = {"map": sum(row.map for row in rows) / max(1, len(rows))}
    for tolerance in tolerances:
        values = [row.ap[tolerance] for row in rows if tolerance in row.ap]
        means[f"ap@{tolerance:g}"] = sum(values) / max(1, len(values))
    return means


class JumpScoreMAP(Metric):
    """Mean JumpScore over rows, and the mean AP per tolerance over the rows that have one.

    Args:
        tolerances: seconds.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    map_sum: Tensor
    rows: Tensor
    ap_sums: Tensor
    rows_with_ap: Tensor

    def __init__(self, *, tolerances: Sequence[float] = TOLERANCES) -> None:
        super().__init__()
        tolerances = _checked(tolerances)
        self.tolerances = tuple(tolerances)
        check_names("tolerances", self.tolerances)
        count = torch.zeros((), dtype=torch.int64)
        sums = torch.zeros(len(self.tolerances), dtype=torch.float64)
        self.add_state("map_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", count, dist_reduce_fx="sum")
        self.add_state("ap_sums", sums, dist_reduce_fx="sum")
        self.add_state("rows_with_ap", count.clone(), dist_reduce_fx="sum")

    def update(
        self,
        predictions: Sequence[str],
        answers: Sequence[str | Sequence[float]],
        confidences: Sequence[Sequence[float] | None] | None = None,
    ) -> None:
        """Add rows.

        Args:
            predictions: what the model wrote, one text per row.
            answers: text with a JSON list of seconds, or the seconds, per row.
            confidences: per row one number per predicted time, or None.

        Raises:
            ValueError: the lists have different lengths, or a text stands where a list should.
        """
        predictions, answers, confidences = plain([predictions, answers, confidences])
        check_rows(predictions, answers, confidences)
        ranks = [None] * len(predictions) if confidences is None else confidences
        for prediction, answer, confidence in zip(predictions, answers, ranks, strict=True):
            row = jumpscore_row(prediction, answer, confidence, self.tolerances)
            self.map_sum += row.map
            self.rows += 1
            if row.ap:
                self.ap_sums += torch.tensor(list(row.ap.values()), dtype=torch.float64, device=self.ap_sums.device)
                self.rows_with_ap += 1

    def compute(self) -> dict[str, Tensor]:
        """``map`` and one ``ap@<seconds>`` per tolerance, () float64 each; 0 where there is no row."""
        per_tolerance = self.ap_sums / self.rows_with_ap.clamp(min=1)
        return {
            "map": self.map_sum / self.rows.clamp(min=1),
            **{f"ap@{tolerance:g}": value for tolerance, value in zip(self.tolerances, per_tolerance, strict=True)},
        }


def check_names(name: str, values: Sequence[float]) -> None:
    """Refuse numbers that would share one name in the result, where one score would hide another."""
    if len({f"{value:g}" for value in values}) != len(values):
        raise OptionError(f"{name} must differ from each other in their first six digits, got {list(values)}")


def check_rows(predictions: object, answers: object, confidences: object = None) -> None:
    """Refuse a bare text or lists of different lengths; both would score letters or lose rows."""
    for name, rows in (("predictions", predictions), ("answers", answers)):
        if isinstance(rows, str) or not isinstance(rows, Sequence):
            raise ValueError(f"{name} must be a list with one entry per row, got {type(rows).__name__}: {rows!r:.60}")
    lengths = [len(rows) for rows in (predictions, answers, confidences) if isinstance(rows, Sequence)]
    if len(set(lengths)) > 1:
        raise ValueError(f"predictions, answers and confidences must have equal lengths, got {lengths}")
