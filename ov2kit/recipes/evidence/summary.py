"""From runs to rows: means, intervals, paired differences.

Letters: S seeds, C test clips.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov2kit.files import check_format
from ov2kit.recipes.evidence.runs.variant import RUN, RUN_VERSION, SweepError, Variant
from ov2kit.recipes.evidence.sweep import Experiment

# Two-sided 95 % points of Student's t for 1 .. 9 degrees of freedom; close to the normal's beyond.
_COSTS = (
    "tokens", "encoder_gflops", "train_seconds", "score_seconds", "tokenize_seconds", "peak_mebibytes", "parameters",
)  # fmt: skip
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


#: what was run, by `Variant.run_key`
Runs = Mapping[str, dict[str, Any]]


def summarize(experiments: list[Experiment], runs: Runs) -> list[dict[str, Any]]:
    """One entry per experiment with the rows whose runs are there; see docs/evidence.md for the fields."""
    return [
        {
            "name": experiment.name,
            "title": experiment.title,
            "seeds": experiment.seeds,
            "rows": [
                {"label": row.label, "variant": row.variant.plain(), **_row(row.variant, row.rival, experiment, runs)}
                for row in experiment.rows
            ],
        }
        for experiment in experiments
    ]


def _row(variant: Variant, rival: Variant | None, experiment: Experiment, known: Runs) -> dict[str, Any]:
    runs = _of(variant, experiment.seeds, known)
    if not runs:
        return {"runs": 0}
    found = list(runs.values())
    maps = [run["scores"]["map"] for run in found]
    mean, half = mean_interval(maps)
    row: dict[str, Any] = {
        "runs": len(found),
        "seeds": list(runs),
        "map": mean,
        "interval": None if math.isnan(half) else [mean - half, mean + half],
        "map_per_seed": maps,
        "val_map_per_seed": [run["scores"]["val_map"] for run in found],
        **{
            name: float(np.mean([run["scores"][name] for run in found]))
            for name in ("ap@0.1", "ap@0.2", "ap@0.3", "val_map")
        },
        **{name: float(np.mean([run[name] for run in found])) for name in _COSTS if all(name in run for run in found)},
        "devices": sorted({run.get("device", "cpu") for run in found}),
    }
    others = _of(rival, experiment.seeds, known) if rival else {}
    if common := [seed for seed in runs if seed in others]:
        mine, theirs = (np.array([group[seed]["per_clip"] for seed in common]) for group in (runs, others))
        difference, low, high = paired_difference(theirs, mine)
        row["difference"] = {"seeds": len(common), "mean": difference, "interval": [low, high]}
    return row


def _of(variant: Variant, seeds: int, known: Runs) -> dict[int, dict[str, Any]]:
    keys = {seed: variant.run_key(seed) for seed in range(seeds)}
    return {seed: known[key] for seed, key in keys.items() if key in known}


def read_run(text: str, name: str | Path) -> tuple[str, dict[str, Any]]:
    """The key of a run, and the run, from its line of JSON.

    Raises:
        SweepError: the line is of a newer format, or no run.
    """
    try:
        run: dict[str, Any] = json.loads(text)
        check_format(run.get("format"), RUN, RUN_VERSION, name, SweepError)
        return Variant.of(run["variant"]).run_key(run["seed"]), run
    except (ValueError, LookupError, AttributeError) as error:
        raise SweepError(f"{name}: expected a run in a line of JSON ({error})") from error


def mean_interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t; NaN for one value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), math.nan
    point = _T95[n - 2] if n - 2 < len(_T95) else 1.96
    return float(np.mean(values)), point * float(np.std(values, ddof=1)) / math.sqrt(n)


def paired_difference(
    a: NDArray[np.float64], b: NDArray[np.float64], *, resamples: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of b - a, and its 95 % interval by a bootstrap over seeds and over clips.

    Both are resampled, because both are samples: `ov2kit.recipes.paired` draws the items alone, and so speaks of the
    trained models at hand and not of the recipe.

    Args:
        a: (S, C) scores of one variant.
        b: (S, C) scores of the other, seed for seed and clip for clip.
    """
    if a.shape != b.shape or a.ndim != 2 or a.size == 0:
        raise ValueError(f"a and b must be (seeds, clips) of equal shape, got {a.shape} and {b.shape}")
    gains = b - a
    rng = np.random.default_rng(seed)
    seeds, clips = gains.shape
    share = rng.multinomial(seeds, [1 / seeds] * seeds, size=resamples) / seeds
    weight = rng.multinomial(clips, [1 / clips] * clips, size=resamples) / clips
    drawn = np.einsum("rs,sc,rc->r", share, gains, weight, optimize=True)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(gains.mean()), float(low), float(high)
