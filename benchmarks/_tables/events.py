"""What canvases show of small events: results/events, written by `benchmarks.events`, and results/event-models."""

import json

from benchmarks._tables.markdown import RESULTS, by, read_tables, table
from benchmarks._tables.small_models import difference

_NAMES = {
    "frames": "whole frames",
    "random": "random blocks",
    "paper": '`preset="paper"`',
    "release": '`preset="release"`',
    "event": '`preset="event"`',
    "truth": "the true blocks",
}
_PARTS = ("habit", "camera", "echo", "light", "frame level", "tolerance", "memory", "quantile", "spread")


def overall(split: str = "test") -> str:
    """Every choice of the main table: means over kinds of footage."""
    if not (RESULTS / "events" / f"{split}.md").exists():
        return f"Not measured on this code yet: `python -m benchmarks.events --split {split}` does."
    found = by(read_tables(f"events/{split}.md")[0], "choice")
    columns = ["once", "twice", "mean of both", "recall", "delay, s", "background", "CPU, ms"]
    rows = [[_NAMES[name], *(found[name][column] for column in columns)] for name in _NAMES if name in found]
    return table(["choice", *columns], rows)


def footage(split: str = "test") -> str:
    """once / twice by kind of footage, in the main choices that can be taken."""
    if not (RESULTS / "events" / f"{split}.md").exists():
        return "Its rows by footage come with it."
    found = read_tables(f"events/{split}.md")[1]
    names = ["frames", "random", "paper", "release", "event"]
    cut = [[" / ".join(row[name].split(" / ")[:2]) for name in names] for row in found]
    rows = [[row["footage"], row["events"], *cells] for row, cells in zip(found, cut, strict=True)]
    return table(["footage", "events", "whole frames", "random blocks", "`paper`", "`release`", "`event`"], rows)


def parts() -> str:
    """The event preset with one part taken away at a time."""
    found = by(read_tables("events/test.md")[0], "choice")
    known = [part for part in _PARTS if f"no {part}" in found]
    rows = [("nothing", found["event"]), *((part, found[f"no {part}"]) for part in known)]
    cells = [[name, row["mean of both"], f"{row['once']} / {row['twice']}"] for name, row in rows]
    return table(["without", "mean of both", "once / twice"], cells)


def times() -> str:
    """CPU milliseconds against the preset of the paper."""
    head = ["footage", "canvases", "paper, ms", "event, ms", "ratio"]
    return table(head, [[row[name] for name in head] for row in read_tables("events/time.md")[0]])


def models() -> str:
    """What small models learn from canvases by the event preset."""
    found = json.loads((RESULTS / "event-models" / "results.json").read_text(encoding="utf-8"))["experiments"]
    rows = []
    for experiment in found:
        for row in experiment["rows"]:
            label = ", ".join(f"{name} {value}" for name, value in row["label"].items())
            if not row["runs"]:
                rows.append([experiment["title"], label, "not run", "", ""])
                continue
            low, high = row["interval"] or (row["map"], row["map"])
            spread = f" ± {50 * (high - low):.1f}" if row["interval"] else ""
            score = f"{100 * row['map']:.1f}{spread}"
            rows.append([experiment["title"], label, score, difference(row), str(row["runs"])])
    return table(["comparison", "row", "mAP", "difference", "seeds"], rows)
