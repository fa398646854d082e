"""Tables of docs/routing.md, from results/routing."""

import json
from collections import Counter
from functools import cache
from typing import Any

from benchmarks import query_scores, question_kinds, routing
from benchmarks._routing import report
from ov2kit.recipes.routing.values import TIME_KINDS


@cache
def _routed() -> list[dict[str, Any]]:
    return report.with_routes(routing.read("test"))


def by_kind() -> str:
    """Share of the answer that is shown, by kind of question."""
    return report.by_kind(_routed())


def taken() -> str:
    """What the router takes."""
    return report.choices(_routed())


def of_time() -> str:
    """Questions that need time, by footage."""
    return report.by_footage([row for row in _routed() if row["kind"] in TIME_KINDS])


def of_detail() -> str:
    """Questions that need detail, by footage."""
    return report.by_footage([row for row in _routed() if row["kind"] not in TIME_KINDS])


def questions() -> str:
    """Accuracy of the classifier."""
    stored = json.loads((question_kinds.RESULTS / "questions.json").read_text())
    return question_kinds.table({kind: Counter(found) for kind, found in stored.items()}).rstrip("\n")


def voices() -> str:
    """The classifier on questions in other voices and languages."""
    stored = json.loads((question_kinds.RESULTS / "voices.json").read_text())
    return question_kinds.voices_table(stored).rstrip("\n")


def embedding() -> str:
    """The same of an embedding of a sentence encoder."""
    path = question_kinds.RESULTS / "embedding.json"
    if not path.exists():
        return "Not measured on this code yet."
    stored = json.loads(path.read_text())
    held = [found.get(kind, 0) / sum(found.values()) for kind, found in stored["held out"].items()]
    said = f"{stored['encoder']}, held-out templates: {sum(held) / len(held):.3f} right, the mean of the kinds."
    return f"{said}\n\n{question_kinds.voices_table(stored).rstrip()}"


def of_paper() -> str:
    """As `by_kind`, with codec canvases of preset paper."""
    return report.by_kind(report.with_routes(routing.read("test"), "paper"))


def held() -> str:
    """As `by_kind`, of the split held."""
    return report.by_kind(report.with_routes(routing.read("held")))


def held_footage() -> str:
    """The same by footage, kinds that need time and kinds that need detail together."""
    return report.by_footage(report.with_routes(routing.read("held")))


def query_scores_table() -> str:
    """Events found with and without a query."""
    path = query_scores.RESULTS
    return query_scores.report(json.loads(path.read_text())) if path.exists() else "Not measured on this code yet."
