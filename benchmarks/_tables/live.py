"""Streams that have not ended: from results/live/*.json."""

import json
from collections.abc import Callable
from typing import Any

from benchmarks._tables.markdown import RESULTS, table


def _rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / "live" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _made(name: str, columns: dict[str, Callable[[dict[str, Any]], str]]) -> str:
    rows = _rows(name)
    return table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _percent(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{100 * row[name]:.0f} %"


def truth() -> str:
    """What is shown of small events, over the delay."""
    return _made("truth", {
        "preset": lambda row: row["preset"],
        "delay": lambda row: "whole clips" if row["delay_seconds"] is None else f"{row['delay_seconds']:g} s",
        "shown once": lambda row: f"{row['once']:.3f}",
        "twice": lambda row: f"{row['twice']:.3f}",
        "recall": lambda row: f"{row['recall']:.3f}",
        "events": lambda row: f"{row['events']:.0f}",
        "tokens": lambda row: str(row["tokens"]),
        "groups": lambda row: str(row.get("groups", "")),
        "longest wait": lambda row: f"{row['worst_wait_seconds']:.2f} s" if "worst_wait_seconds" in row else "",
    })  # fmt: skip


def _gate(name: str) -> str:
    return _made(name, {
        "quantile": lambda row: f"{row['quantile']:g}",
        "calls saved": _percent("calls_saved"),
        "events missed": _percent("events_missed"),
        "by chance": lambda row: f"{100 * row['missed_by_chance']:.0f} %",
        "groups": lambda row: str(row["groups"]),
        "events": lambda row: str(row["events"]),
    })  # fmt: skip


def truth_gate() -> str:
    """The gate on small events."""
    return _gate("truth-gate")


def day() -> str:
    """A loop at full speed."""
    return _made("day", {
        "stream": lambda row: f"{row['stream_seconds'] / 3600:.2f} h",
        "frames": lambda row: str(row["packets"]),
        "groups": lambda row: str(row["groups"]),
        "memory": lambda row: f"{row['memory_mb']:.1f} MB",
        "handles": lambda row: str(row["handles"]),
        "drift": lambda row: f"{row['drift_seconds']:g} s",
        "jumps": lambda row: str(row["jumps"]),
        "CPU": lambda row: f"{row['cpu_seconds']:.0f} s",
    })  # fmt: skip


def sources() -> str:
    """Sources side by side."""
    return _made("sources", {
        "sources": lambda row: f"{row['sources']}, {'as filmed' if row['in_real_time'] else 'at full speed'}",
        "frames per second": lambda row: f"{row['frames_per_second']:g}",
        "cores needed": lambda row: f"{row['cores_needed']:.2f} of {row['cores']}",
        "head room": lambda row: f"{row['head_room']:.0f} times",
        "longest latency": lambda row: f"{row['worst_latency_seconds']:.2f} s" if row["in_real_time"] else "",
        "of that waited for": lambda row: f"{row['worst_wait_seconds']:.2f} s" if row["in_real_time"] else "",
        "load of the machine": lambda row: f"{row['load']:.0f}",
    })  # fmt: skip
