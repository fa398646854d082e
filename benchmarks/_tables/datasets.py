"""Tables of what datasets cost, and what a million videos would: arithmetic over benchmarks/results/datasets.json."""

import json
from typing import Any

from benchmarks._tables.markdown import RESULTS, table

#: what is not measured here but paid elsewhere; the page says so
CORE_HOUR, GIGABYTE_MONTH = 0.015, 0.023
VIDEOS, SECONDS = 1_000_000, 120.0


def found() -> dict[str, Any]:
    """The results."""
    made: dict[str, Any] = json.loads((RESULTS / "datasets.json").read_text(encoding="utf-8"))
    return made


def runs() -> str:
    """A row per run, then the peers over their files."""
    facts = found()
    length = facts["video_seconds"] / facts["videos"]
    each = [(f"{run['engine']}, {run['workers']}", facts, run) for run in facts["runs"]]
    for name, peer in facts["peers"].items():
        each += [(f"{name}, {run['workers']}", peer, run) for run in peer.get("runs", [])]
    rows = []
    for name, files, run in each:
        videos, hours = files["videos"], files["video_seconds"] / 3600
        cores = run["cpu_seconds"] / 3600
        rows.append(
            [name, f"{videos}", f"{run['wall_seconds']:.0f}", f"{run['cpu_seconds']:.0f}",
             f"{3600 * videos / run['wall_seconds']:.0f}", f"{videos / cores:.0f}",
             f"{hours / cores:.1f}", f"{run['peak_mb']:.0f} MB"]
        )  # fmt: skip
    rows += [[name, "did not run", *[""] * 6] for name, peer in facts["peers"].items() if "error" in peer]
    head = [
        "run, workers", "videos", "seconds", "processor seconds", "videos per hour", "videos per core-hour",
        "video-hours per core-hour", "memory of all",
    ]  # fmt: skip
    made = table(head, rows)
    machine = facts["machine"]
    load = f"{machine['load'][0]:.0f}" if machine["load"] else "not known"
    return (
        f"{made}\n\n{facts['videos']} videos of {length:.1f} seconds on average; {machine['processor']}, "
        f"{machine['cores']} cores, load {load}, {machine['date']}, commit {machine['commit']}."
    )


def million() -> str:
    """What a million videos of two minutes would take, from a run over a few without its start."""
    facts = found()
    run = facts["long"]
    scale = VIDEOS * SECONDS / run["video_seconds"]
    core_hours = (run["cpu_seconds"] - facts["nothing_to_do"]["cpu_seconds"]) / 3600 * scale
    out, read = run["bytes_written"] / run["videos"] * VIDEOS / 1e12, run["bytes_read"] * scale / 1e12
    parent = facts["assembly"]["cpu_seconds"] / facts["assembly"]["videos"] * VIDEOS / 3600
    rows = [
        ["core-hours", f"{core_hours:.0f}"],
        ["hours on 1000 cores", f"{core_hours / 1000:.1f}"],
        ["spot machines", f"{core_hours * CORE_HOUR:.0f} dollars"],
        ["read", f"{read:.1f} TB"],
        ["shards", f"{out:.1f} TB, {out * 1000 * GIGABYTE_MONTH:.0f} dollars a month"],
        ["one process that puts shards together", f"{parent:.0f} hours"],
    ]
    return table(["a million videos of two minutes", ""], rows)
