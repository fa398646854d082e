"""Markdown of what `peers.py` measured."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

# (numerator, denominator, what the ratio says, value to reach, larger is better)
RATIOS = (
    ("codec-video-prep", "ours", "x the speed of codec-video-prep", 4.3, True),
    ("lmms-video-utils", "ours", "x the speed of lmms-video-utils", 28.0, True),
    ("ours", "decode", "x the time of bare decoding", 1.05, False),
    ("plain", "decode", "x the time of bare decoding without numba", 1.05, False),
    ("ours", "floor", "x the time of its floor", 1.3, False),
)
HOUR_RATIOS = (
    ("codec-video-prep", "ours", "x the speed of codec-video-prep", 1.5, True),
    ("ours", "decode", "x the time of bare decoding", 0.4, False),
)
NAMES = {
    "ours": "ov2kit",
    "plain": "ov2kit without numba",
    "floor": "floor",
    "decode": "bare decode",
    "codec-video-prep": "codec-video-prep",
    "lmms-video-utils": "lmms-video-utils",
}


def geometric_mean(values: Iterable[float]) -> float:
    """Of positive numbers; nan for none."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def seconds(clip: dict[str, Any], method: str) -> float | None:
    """Median seconds of a method on a clip, None where it did not run."""
    value = clip["methods"].get(method, {}).get("median_seconds")
    return None if value is None else float(value)


def ratio(clip: dict[str, Any], over: str, under: str) -> float | None:
    top, bottom = seconds(clip, over), seconds(clip, under)
    return None if top is None or bottom is None else top / bottom


def speed_table(clips: Sequence[dict[str, Any]], methods: Sequence[str]) -> str:
    """Seconds and peak memory of each method on each clip, and the ratios that matter."""
    shown = [(o, u) for o, u, *_ in RATIOS if o in methods and u in methods]
    header = ["clip", "stream", *(f"{NAMES[m]}, s (MB)" for m in methods)]
    header += [f"{NAMES[o]} / {NAMES[u]}" for o, u in shown]
    rows = []
    for clip in clips:
        row = [clip["name"], clip.get("stream", "?")]
        for m in methods:
            cell = clip["methods"].get(m, {})
            took = seconds(clip, m)
            row.append("failed" if took is None else f"{took:.2f} ({cell['peak_mb']:.0f})")
        values = [ratio(clip, o, u) for o, u in shown]
        rows.append([*row, *("-" if v is None else f"{v:.2f}" for v in values)])
    means = [geometric_mean(v for c in clips if (v := ratio(c, o, u)) is not None) for o, u in shown]
    if len(clips) > 1 and any(math.isfinite(v) for v in means):
        rows.append(
            ["geometric mean", "", *[""] * len(methods), *(f"**{v:.2f}**" if math.isfinite(v) else "-" for v in means)]
        )
    return markdown(header, rows)


def off_budget(clips: Sequence[dict[str, Any]], asked: int) -> str:
    """Who made another number of canvases than asked, so that the seconds can be read rightly."""
    found = [
        f"{NAMES[m]} {cell['canvases']} on {clip['name']}"
        for clip in clips
        for m, cell in clip["methods"].items()
        if cell.get("canvases", asked) != asked
    ]
    return f"Canvases made, where not {asked}: {'; '.join(found)}." if found else ""


def verdicts(clips: Sequence[dict[str, Any]], ratios: Sequence[tuple[str, str, str, float, bool]] = RATIOS) -> str:
    """One line per ratio: mean, worst, wins and losses, and whether the aim is reached."""
    lines = []
    for over, under, words, aim, larger in ratios:
        found = {c["name"]: v for c in clips if (v := ratio(c, over, under)) is not None}
        if not found:
            continue
        mean = geometric_mean(found.values())
        worst = min(found, key=found.__getitem__) if larger else max(found, key=found.__getitem__)
        won = sum(v > 1 if larger else v < 1 for v in found.values())
        reached = mean >= aim if larger else mean <= aim
        lines.append(
            f"- {mean:.2f} {words} (geometric mean of {len(found)}; worst {found[worst]:.2f} on {worst}; "
            f"{won} won, {len(found) - won} lost); aim {'>=' if larger else '<='} {aim:g}: "
            f"{'reached' if reached else 'not reached'}"
        )
    return "\n".join(lines)


def agreement_table(clips: Sequence[dict[str, Any]]) -> str:
    """One row per clip and pair; every share is followed by what chance gives."""
    rows = []
    for clip in clips:
        for pair, a in clip.get("agreement", {}).items():
            rows.append([
                clip["name"],
                pair,
                f"{a['recall']:.2f} ({a['recall_timed']:.2f}, {a['recall_random']:.2f})",
                f"{a['jaccard']:.2f} ({a['jaccard_timed']:.2f}, {a['jaccard_random']:.2f})",
                f"{a['time']:.2f} ({a['time_random']:.2f})",
                f"{a['space']:.2f} ({a['space_random']:.2f})",
                f"{a['cells_a']} / {a['cells_b']}",
            ])  # fmt: skip
    if not rows:
        return ""
    header = [
        "clip", "A / B", "share of B's blocks in A (chance given time, chance)", "Jaccard (the same two)",
        "in time (chance)", "in space given time (chance)", "cells of A / B",
    ]  # fmt: skip
    return markdown(header, rows)


def hour_table(hour: dict[str, Any]) -> str:
    rows = []
    for m, cell in hour["methods"].items():
        took = seconds(hour, m)
        minute = hour["minute"].get(m, {}).get("peak_mb")
        grown = "-" if took is None or minute is None else f"{cell['peak_mb'] / minute:.2f}"
        rows.append([
            NAMES[m],
            "failed" if took is None else f"{took:.2f}",
            "-" if took is None else f"{cell['peak_mb']:.0f}",
            "-" if minute is None else f"{minute:.0f}",
            grown,
        ])  # fmt: skip
    return markdown(["one hour", "seconds", "peak MB", "peak MB of one minute", "hour / minute"], rows)
