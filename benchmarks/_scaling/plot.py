"""The plot of `benchmarks.scaling`: seconds of each way over what varies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

AXES = {"duration": "length of the video", "resolution": "height", "canvases": "canvases", "codec": "codec",
        "threads": "threads"}  # fmt: skip
WAYS = {"ours": ("tokenizing", "o-"), "floor": ("its floor", "s--"), "bare": ("decoding every frame", "^:")}


def draw(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a PNG with one panel for each thing that varies."""
    figure, panels = plt.subplots(1, len(AXES), figsize=(15, 3.2), constrained_layout=True)
    for panel, (axis, title) in zip(panels, AXES.items(), strict=True):
        mine = [point for point in points if point["axis"] == axis]
        for way, (label, line) in WAYS.items():
            panel.plot([p["value"] for p in mine], [p[way]["seconds"] for p in mine], line, label=label, markersize=4)
        panel.set_title(title)
        if axis in ("duration", "resolution"):
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
    panels[0].set_ylabel("seconds")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=100)
    plt.close(figure)
