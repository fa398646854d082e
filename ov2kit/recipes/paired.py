"""Is one variant better than another on the same items? Paired bootstrap, and McNemar's exact test.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), sections 13.3 and 16.4;
McNemar (1947) with the exact binomial distribution.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ov2kit.errors import DataError, check_choice, check_number, check_type
from ov2kit.files import check_file
from ov2kit.recipes.evaluation.predictions import EXPECTED, PREDICTIONS, Line, by_id, read_lines

_CHUNK = 4_000_000  # drawn indices held at once


@dataclass(frozen=True)
class BootstrapResult:
    """What resampling the items says about a mean difference.

    Args:
        difference: mean of b - a.
        low: lower end of the interval.
        high: upper end.
        p: two-sided: how often resampled items without a difference would show one as large.
    """

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class McNemarResult:
    """Items that only one of two variants gets right.

    Args:
        only_a: how many.
        only_b: how many.
        p: two-sided, exact: both kinds would be equally likely without a difference.
    """

    only_a: int
    only_b: int
    p: float


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> BootstrapResult:
    """Bootstrap the mean of b - a over items.

    Args:
        a: (N,) scores of one variant.
        b: (N,) scores of the other, item for item.
        resamples: how many sets of N items are drawn, with replacement.
        seed: of the draws.
        level: of the (percentile) interval.

    Raises:
        ValueError: different or zero lengths, a score that is not finite, options out of range.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(f"a and b must hold one score per item, got shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a and b must be finite")
    check_number("resamples", resamples, low=1, integer=True)
    check_number("seed", seed, low=0, integer=True)
    check_number("level", level, above=0, below=1)
    gains = second - first
    n = len(gains)
    rng = np.random.default_rng(seed)
    per_draw = max(1, _CHUNK // n)
    means = np.concatenate(
        [gains[rng.integers(0, n, (min(per_draw, resamples - k), n))].mean(1) for k in range(0, resamples, per_draw)]
    )
    difference = float(gains.mean())
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    slack = 1e-12 * max(1.0, float(np.abs(gains).max()))  # equal but for the order of a sum is as large
    as_large = int((np.abs(means - difference) >= abs(difference) - slack).sum())
    return BootstrapResult(difference, float(low), float(high), (as_large + 1) / (resamples + 1))


def mcnemar(a: Sequence[bool], b: Sequence[bool]) -> McNemarResult:
    """McNemar's exact test of two variants that get items right or wrong.

    Args:
        a: right or wrong per item.
        b: the same items.
    """
    if len(a) != len(b):
        raise ValueError(f"a and b must hold one outcome per item, got {len(a)} and {len(b)}")
    only_a = sum(bool(x) and not y for x, y in zip(a, b, strict=True))
    only_b = sum(bool(y) and not x for x, y in zip(a, b, strict=True))
    n = only_a + only_b
    term = tail = 1  # binomial coefficients as whole numbers: exact at any n
    for k in range(min(only_a, only_b)):
        term = term * (n - k) // (k + 1)
        tail += term
    return McNemarResult(only_a, only_b, min(1.0, _ratio(2 * tail, n)))


def _ratio(number: int, halvings: int) -> float:
    """number / 2**halvings without overflow."""
    shift = max(0, number.bit_length() - 64)
    return math.ldexp(float(number >> shift), shift - halvings)


def compare_predictions(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    metric: str = "jumpscore",
    threshold: float | None = None,
    errors: Literal["zero", "skip"] = "zero",
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Test whether predictions b score differently from predictions a.

    Args:
        a: predictions file, or the folder it is in.
        b: another over the same items.
        metric: "jumpscore", "temporal_iou", "exact" (equal but for case and spaces), or the name
            of a number in every line.
        threshold: scores from here on are right, the others wrong; the test is of these then.
        errors: an item with an error counts 0, or is left out if either file has one.
        resamples: of `paired_bootstrap`.
        seed: of `paired_bootstrap`.

    Returns:
        JSON-able: means, difference (b - a), 95 % interval, p, who wins how often; "mcnemar" too
        where every score is 0 or 1.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of range.
        DataError: a file is missing or broken, the items differ, a line has no such number.
    """
    for name, path in (("a", a), ("b", b)):
        check_type(name, path, (str, os.PathLike), "a path")
    check_type("metric", metric, str, "a name")
    check_number("threshold", threshold, optional=True)
    check_choice("errors", errors, ("zero", "skip"))
    check_number("resamples", resamples, low=1, integer=True)
    check_number("seed", seed, low=0, integer=True)
    files = [predictions_file(path) for path in (a, b)]
    lines = [by_id(read_lines(path)) for path in files]
    for path, held in zip(files, lines, strict=True):
        if not held:
            raise DataError(f"{path}: {EXPECTED}, got none; name another file, or the folder of a finished evaluation")
    _check_items(files, lines)
    ids = [
        i for i in lines[0] if errors == "zero" or all(file[i].get("error") is None for file in lines)
    ]  # in the order of a
    if not ids:
        raise DataError(
            f"{files[0]} and {files[1]}: no item is left to compare: one of them has an error at each; errors='zero' "
            "counts those"
        )
    score = _scorer(metric)
    scores = [np.array([_score(score, file[i], path) for i in ids]) for file, path in zip(lines, files, strict=True)]
    if threshold is not None:
        scores = [(values >= threshold).astype(np.float64) for values in scores]
    result = paired_bootstrap(*scores, resamples=resamples, seed=seed)
    gains = scores[1] - scores[0]
    found: dict[str, Any] = {
        "metric": metric,
        "threshold": threshold,
        "items": len(ids),
        "left_out": len(lines[0]) - len(ids),
        "mean_a": float(scores[0].mean()),
        "mean_b": float(scores[1].mean()),
        "difference": result.difference,
        "interval_95": [result.low, result.high],
        "p": result.p,
        "b_better": int((gains > 0).sum()),
        "a_better": int((gains < 0).sum()),
        "equal": int((gains == 0).sum()),
        "resamples": resamples,
        "seed": seed,
    }
    if all(np.isin(values, (0.0, 1.0)).all() for values in scores):
        found["mcnemar"] = asdict(mcnemar(*[(values == 1).tolist() for values in scores]))
    return found


def predictions_file(path: str | os.PathLike[str]) -> Path:
    """The predictions that a file or folder stands for. Raises DataError when there are none."""
    file = Path(path)
    return check_file(
        file / PREDICTIONS if file.is_dir() else file, f"a predictions file or a folder with {PREDICTIONS}"
    )


def _check_items(files: Sequence[Path], lines: Sequence[Mapping[str, Line]]) -> None:
    for here, there in ((0, 1), (1, 0)):
        if missing := [i for i in lines[here] if i not in lines[there]]:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise DataError(
                f"{files[there]} lacks {len(missing)} items of {files[here]}: {shown}; both must hold the same"
            )
    for name in ("video", "question", "answer"):
        differ = [i for i, line in lines[0].items() if line.get(name) != lines[1][i].get(name)]
        if differ:
            shown = ", ".join(differ[:5]) + (", ..." if len(differ) > 5 else "")
            raise DataError(f"{files[0]} and {files[1]}: {len(differ)} items have another {name}: {shown}")


def _scorer(metric: str) -> Callable[[Line], float]:
    from ov2kit.recipes.metrics import jumpscore_row, temporal_row

    def exact(line: Line) -> float:
        said, true = (" ".join(str(line[name]).split()).casefold() for name in ("prediction", "answer"))
        return float(said == true)

    def field(line: Line) -> float:
        value = line[metric]
        if isinstance(value, bool | int | float) and math.isfinite(value):
            return float(value)
        raise ValueError(f"{metric!r} must be a number, got {value!r:.40}")

    known: dict[str, Callable[[Line], float]] = {
        "jumpscore": lambda line: jumpscore_row(line["prediction"], line["answer"], line.get("confidence")).map,
        "temporal_iou": lambda line: temporal_row(line["prediction"], line["answer"]),
        "exact": exact,
    }
    return known.get(metric, field)


def _score(score: Callable[[Line], float], line: Line, path: Path) -> float:
    if line.get("error") is not None:
        return 0.0
    try:
        return score(line)
    except KeyError as error:
        raise DataError(f"{path}, item {line['id']}: has no {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}, item {line['id']}: {error}") from error
