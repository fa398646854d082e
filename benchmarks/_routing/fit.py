"""What the router expects of each source: means per kind of question, and slopes over facts of the stream."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ov2kit.recipes.routing.question_kind import KINDS
from ov2kit.recipes.routing.stream_facts import StreamFacts
from ov2kit.recipes.routing.values import FACTS, MEASURED, TIME_KINDS, Route, described

ROUTES = (Route("hybrid", 0.5), Route("hybrid", 0.375), Route("hybrid", 0.75), Route("codec"), Route("frames"))
#: with each seed of `tune` left out in turn, 30 to 3000 and no slopes at all differ by less than their noise
_RIDGE = 3000.0


def fitted(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of `routes.json` from rows of a set."""
    facts = np.array([_numbers(row) for row in rows], dtype=np.float64)
    center, scale = np.nanmean(facts, axis=0), np.nanstd(facts, axis=0).clip(1e-6)
    standard = np.nan_to_num((facts - center) / scale).clip(-3, 3)
    return {
        "format": "ov2kit.routes.2",
        "routes": [{"source": route.source, "frame_share": route.frame_share} for route in ROUTES],
        "facts": list(FACTS), "center": _rounded(center), "scale": _rounded(scale),
        "presets": {preset: _of_preset(rows, standard, preset) for preset in MEASURED},
    }  # fmt: skip


def measured_as(name: str, preset: str) -> str:
    """A route, as the benchmark names it with a preset."""
    return name if preset == "event" or name == "frames" else f"{name}, {preset}"


def _of_preset(rows: Sequence[Mapping[str, Any]], standard: np.ndarray, preset: str) -> dict[str, Any]:
    names = [route.name for route in ROUTES]
    shown = np.array([[row["shown"][measured_as(name, preset)] for name in names] for row in rows])
    kinds = np.array([row["kind"] for row in rows])
    means = {kind: shown[kinds == kind].mean(axis=0) for kind in KINDS}
    left = shown - np.stack([means[kind] for kind in kinds])
    slopes = {}
    for family in ("time", "detail"):
        mine = np.isin(kinds, TIME_KINDS) == (family == "time")
        x = standard[mine]
        found = np.linalg.solve(x.T @ x + _RIDGE * np.eye(len(FACTS)), x.T @ left[mine])
        slopes[family] = {name: _rounded(found[:, n]) for n, name in enumerate(names)}
    return {
        "means": {kind: dict(zip(names, _rounded(values), strict=True)) for kind, values in means.items()},
        "slopes": slopes,
    }  # fmt: skip


def _numbers(row: Mapping[str, Any]) -> list[float]:
    return [np.nan if value is None else value for value in described(StreamFacts(**row["facts"]))]


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]
