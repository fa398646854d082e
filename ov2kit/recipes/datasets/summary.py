"""A dataset on one page: how it went over time, what failed and why, how long and large videos are, which were slow.

One file without scripts, fonts or network. Names and reasons come from files and are escaped.
"""

import heapq
import time
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ov2kit.recipes.datasets.shards import ShardFolder

_NAME = "summary.html"
_EXAMPLES = 5
_SLOWEST = 20
_BARS = 40
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right } td { overflow-wrap: anywhere }
svg { width: 100%; height: auto; fill: currentColor } svg rect { fill: #3b82c4 }
"""


def write_summary(shards: ShardFolder) -> str:
    """Write summary.html.

    Args:
        shards: all finished.

    Returns:
        Its path or URL.

    Raises:
        OutputError: it cannot be written.
    """
    statuses: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    examples: dict[str, list[tuple[str, str]]] = {}
    tokens: list[int] = []
    durations: list[float] = []
    finished: list[float] = []
    slowest: list[tuple[float, str, str]] = []
    for number in shards.numbers():
        state = shards.load(number)
        if state is None:
            continue
        finished += [when for when in state.finished if when]
        for row, seconds in zip(state.rows, state.seconds, strict=True):
            statuses[row["status"]] += 1
            if row["status"] == "failed":
                kinds[row["kind"]] += 1
                shown = examples.setdefault(row["kind"], [])
                if len(shown) < _EXAMPLES:
                    shown.append((row["name"], row["reason"]))
            elif row["status"] == "ok":
                tokens.append(row["tokens"])
                durations.append(row["duration"] or 0.0)
                stages = ", ".join(f"{stage} {taken:.2f}" for stage, taken in seconds.items())
                heapq.heappush(slowest, (sum(seconds.values()), row["name"], stages))
                if len(slowest) > _SLOWEST:
                    heapq.heappop(slowest)
    parts = [
        _table(["", "videos"], [[status, str(count)] for status, count in sorted(statuses.items())]),
        f"<p>{sum(durations) / 3600:.4g} hours of video, {sum(tokens)} tokens.</p>",
        "<h2>Videos finished over time</h2>", _over_time(finished),
        "<h2>Failures</h2>",
        _table(
            ["kind", "videos", "for example"],
            [[kind, str(count), [": ".join(each) for each in examples[kind]]] for kind, count in kinds.most_common()],
        ) if kinds else "<p>None.</p>",
        "<h2>Tokens of a video</h2>", _histogram(tokens, "tokens"),
        "<h2>Duration of a video</h2>", _histogram(durations, "seconds"),
        "<h2>Slowest videos</h2>",
        _table(
            ["seconds", "video", "of these"],
            [[f"{taken:.2f}", name, stages] for taken, name, stages in sorted(slowest, reverse=True)],
        ),
    ]  # fmt: skip
    title = escape(shards.storage.root)
    page = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style>\n<h1>{title}</h1>\n" + "\n".join(parts) + "\n</html>\n"
    )
    with shards.storage.write(_NAME) as file:
        file.write(page.encode("utf-8", "replace"))
    return shards.storage.place(_NAME)


def _table(names: Sequence[str], rows: Sequence[Sequence[str | list[str]]]) -> str:
    """Cells of text, or of several lines of it."""

    def cell(value: str | list[str]) -> str:
        if isinstance(value, list):
            return f"<td>{'<br>'.join(escape(line) for line in value)}</td>"
        is_number = value.replace(".", "").isdigit()
        return f"<td class=n>{escape(value)}</td>" if is_number else f"<td>{escape(value)}</td>"

    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [f"<tr>{''.join(map(cell, row))}</tr>" for row in rows]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _over_time(finished: Sequence[float]) -> str:
    if not finished:
        return "<p>Nothing was recorded.</p>"
    first, last = min(finished), max(finished)
    counts, edges = np.histogram(finished, bins=_BARS, range=(first, max(last, first + 1)))
    hours = (edges[1] - edges[0]) / 3600
    labels = [f"{_clock(left)}: {count / hours:.0f} videos an hour" for left, count in zip(edges, counts, strict=False)]
    return _bars(counts, labels, _clock(first), _clock(edges[-1]))


def _histogram(values: Sequence[float], unit: str) -> str:
    if not values:
        return "<p>There is no video to count.</p>"
    low, high = min(values), max(values)
    counts, edges = np.histogram(values, bins=_BARS, range=(low, max(high, low + 1)))
    labels = [
        f"{left:.4g} to {right:.4g} {unit}: {count} videos"
        for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    median = f"median {np.median(values):.4g} {unit}"
    return _bars(counts, labels, f"{edges[0]:.4g}", f"{edges[-1]:.4g} {unit}; {median}")


def _bars(counts: Any, labels: Sequence[str], left: str, right: str) -> str:
    most = max(1, int(max(counts)))
    bars = "".join(
        f'<rect x="{20 * place}" y="{120 - 110 * count / most:.1f}" width="18" height="{110 * count / most:.1f}">'
        f"<title>{escape(label)}</title></rect>"
        for place, (count, label) in enumerate(zip(counts, labels, strict=True))
    )
    width = 20 * len(counts)
    return (
        f'<svg viewBox="0 0 {width} 140" role="img" aria-label="from {escape(left)} to {escape(right)}">{bars}'
        f'<text x="0" y="136" font-size="13">{escape(left)}</text>'
        f'<text x="{width}" y="136" font-size="13" text-anchor="end">{escape(right)}</text>'
        f'<text x="0" y="12" font-size="13">{most}</text></svg>'
    )


def _clock(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when))
