"""How cost grows: from results/scaling.json."""

import json
from typing import Any

from benchmarks._tables.markdown import RESULTS, table

_WHAT = {
    "duration": "320x180, {value}, 32 canvases",
    "resolution": "{value}, 8 s, 32 canvases",
    "canvases": "360p, 1 min, {value} canvases",
    "codec": "{value}, 360p, 8 s, 32 canvases",
    "threads": "360p, 1 min, 32 canvases, {value} thread(s)",
}


def growth() -> str:
    """Seconds, core seconds and memory over length, size, budget, codec and threads."""
    result = RESULTS / "scaling.json"
    if not result.is_file():
        return "Not measured on this code yet."
    points = json.loads(result.read_text(encoding="utf-8"))["points"]
    head = ["clip", "frames decoded", "seconds", "core seconds", "MB", "floor", "bare", "of floor", "of bare"]
    made = table(head, [_row(point) for point in points])
    return f"{made}\n\n![Seconds over what varies](benchmarks/results/scaling.png)"


def _row(point: dict[str, Any]) -> list[str]:
    ours, floor, bare = (point[way]["seconds"] for way in ("ours", "floor", "bare"))
    return [
        _WHAT[point["axis"]].format(value=point["value"]),
        f"{point['decoded']} of {point['frames']}",
        f"{ours:.2f}",
        f"{point['ours']['core_seconds']:.2f}",
        f"{point['peak_mb']:.0f}",
        f"{floor:.2f}",
        f"{bare:.2f}",
        f"{ours / floor:.2f}",
        f"{ours / bare:.2f}",
    ]
