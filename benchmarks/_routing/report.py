"""Tables of the routing benchmark: what each source shows of answers, and what the router takes."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks._questions import held_out
from benchmarks._routing.fit import measured_as
from benchmarks._tables.markdown import table
from benchmarks.question_kinds import filled
from ov2kit.codec.tokenizers.presets import Preset
from ov2kit.recipes.routing.question_kind import KINDS, QuestionClassifier
from ov2kit.recipes.routing.stream_facts import StreamFacts
from ov2kit.recipes.routing.values import TIME_KINDS, route_values

Row = Mapping[str, Any]
_T95 = {4: 2.776}  # Student's t for n - 1 = 4


def with_routes(rows: Sequence[Row], preset: Preset = "event") -> list[dict[str, Any]]:
    """Rows with what the router takes: by the wording of a held-out question, and by the kind itself.

    Of the codec canvases of one preset, without its name; beside those of "event", the ones of "paper" alone are kept.
    """
    classify, values = QuestionClassifier(), route_values(preset)
    beside = ["codec, paper"] if preset == "event" else []
    found = []
    for row in rows:
        facts = StreamFacts(**row["facts"])
        shares = classify(filled(held_out, row["kind"], row["wording"])).shares
        known = {kind: float(kind == row["kind"]) for kind in KINDS}
        taken = {name: values.routes[_best(values.expected(given, facts))].name
                 for name, given in (("routed", shares), ("routed, kind known", known))}  # fmt: skip
        names = ["frames", "codec", *(route.name for route in values.routes if route.source == "hybrid")]
        own = {name: row["shown"][measured_as(name, preset)] for name in sorted(names, key=_place)}
        own |= {name: row["shown"][name] for name in beside}
        shown = {**own, **{name: own[route] for name, route in taken.items()}}
        found.append({**row, "shown": shown, "taken": taken["routed"]})
    return found


def _place(name: str) -> tuple[int, str]:
    return {"frames": 0, "codec": 1}.get(name, 2), name


def tables(rows: Sequence[Row]) -> str:
    """All tables of a split."""
    if not rows:
        return "Not measured on this code yet.\n"
    routed = with_routes(rows)
    parts = ["Share of the answer that is shown, by kind of question:\n", by_kind(routed)]
    parts += ["\nWhat the router takes, by kind of question:\n", choices(routed)]
    for family, kinds in (("time", TIME_KINDS), ("detail", tuple(k for k in KINDS if k not in TIME_KINDS))):
        own = [row for row in routed if row["kind"] in kinds]
        parts += [f"\nQuestions that need {family}, by footage:\n", by_footage(own)]
    parts += ["\nWith codec canvases of preset paper, by kind of question:\n", by_kind(with_routes(rows, "paper"))]
    return "\n".join(parts) + "\n"


def by_kind(rows: Sequence[Row]) -> str:
    """Means per kind; the last column is routed over the better of frames and codec."""
    names = list(rows[0]["shown"])
    lines = []
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind]
        means = {name: _mean(own, name) for name in names}
        best = max(means["frames"], means["codec"])
        cells = [f"{means[name]:.3f}{_interval(own, name) if name == 'routed' else ''}" for name in names]
        lines.append([kind, str(len(own)), *cells, f"{means['routed'] / best:.3f}"])
    every = {name: statistics.fmean(_mean([r for r in rows if r["kind"] == k], name) for k in KINDS) for name in names}
    best = max(every["frames"], every["codec"])
    lines.append(["mean", str(len(rows)), *(f"{every[n]:.3f}" for n in names), f"{every['routed'] / best:.3f}"])
    return table(["kind", "questions", *names, "routed / better"], lines)


def choices(rows: Sequence[Row]) -> str:
    """How often which route is taken."""
    names = [route.name for route in route_values().routes]
    lines = []
    for kind in KINDS:
        taken = Counter(row["taken"] for row in rows if row["kind"] == kind)
        lines.append([kind, *(f"{taken[name] / taken.total():.2f}" for name in names)])
    return table(["kind", *names], lines)


def by_footage(rows: Sequence[Row]) -> str:
    """Means per kind of footage, and the best hybrid there."""
    names = list(rows[0]["shown"])
    hybrids = [name for name in names if name.startswith("hybrid")]
    lines = []
    for footage in dict.fromkeys(row["footage"] for row in rows):
        own = [row for row in rows if row["footage"] == footage]
        best = max(hybrids, key=lambda name: _mean(own, name))
        lines.append([footage, str(len(own)), *(f"{_mean(own, name):.3f}" for name in names), best])
    return table(["footage", "questions", *names, "best hybrid"], lines)


def _mean(rows: Sequence[Row], name: str) -> float:
    return statistics.fmean(row["shown"][name] for row in rows)


def _interval(rows: Sequence[Row], name: str) -> str:
    """Half of the 95 % interval over seeds."""
    seeds = sorted({row["seed"] for row in rows})
    means = [_mean([row for row in rows if row["seed"] == seed], name) for seed in seeds]
    t = _T95.get(len(seeds) - 1)
    return f" ± {t * statistics.stdev(means) / len(seeds) ** 0.5:.3f}" if t else ""


def _best(expected: Sequence[float]) -> int:
    return max(range(len(expected)), key=lambda n: expected[n])
