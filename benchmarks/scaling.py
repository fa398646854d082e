"""How the cost of tokenizing grows with the length of a video, its size, its codec, the budget and the threads.

    python -m benchmarks.scaling [--clip CLIP] [--quick]

Clips are made from one (the bundled one by default), at 25 frames a second. Each point has a process of its own;
three ways take turns there, see `_scaling/worker.py`. Writes results/scaling.json and the plot beside it; then
`python -m benchmarks.tables` puts the table into the README. Some minutes on two idle cores, `--quick` one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._scaling.clips import ENCODERS, encoded, lengthened
from benchmarks._scaling.plot import draw
from benchmarks._tables.markdown import RESULTS
from benchmarks.run_info import commit
from ov2kit.files import write_text
from ov2kit.recipes.evidence.machine import machine_facts

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "ov2kit" / "codec" / "sample" / "bbb_360p.mp4"
SECONDS = {"10 s": 10, "1 min": 60, "10 min": 600, "1 h": 3600, "3 h": 10800}
HEIGHTS = (240, 360, 720, 1080, 2160)
BUDGETS = (8, 32, 128, 512)
_BUDGET, _HEIGHT, _LONG_HEIGHT = 32, 360, 180


def measured(clip: Path, budget: int, threads: int, rounds: int) -> dict[str, Any]:
    """One point."""
    command = [sys.executable, "-m", "benchmarks._scaling.worker", str(clip), str(budget), str(threads), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{clip.name}, {budget} canvases: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    print(f"{clip.name}, {budget} canvases, {threads} thread(s): {found}", file=sys.stderr, flush=True)
    return found


def points(source: Path, folder: Path, *, quick: bool) -> list[dict[str, Any]]:
    """Every point: what varies, its value, and what was measured."""
    rows: list[dict[str, Any]] = []

    def add(axis: str, value: str, clip: Path, budget: int = _BUDGET, threads: int = 2, rounds: int = 3) -> None:
        rows.append({"axis": axis, "value": value, **measured(clip, budget, threads, 1 if quick else rounds)})

    small = encoded(source, folder, height=_LONG_HEIGHT, seconds=10)
    for name, seconds in list(SECONDS.items())[: 2 if quick else None]:
        add("duration", name, lengthened(small, folder, seconds), rounds=3 if seconds <= 600 else 1)
    for height in HEIGHTS[: 2 if quick else None]:
        add(
            "resolution",
            f"{height}p",
            encoded(source, folder, height=height, seconds=8),
            rounds=3 if height < 2160 else 1,
        )
    minute = lengthened(encoded(source, folder, height=_HEIGHT), folder, 60)
    for budget in BUDGETS[: 2 if quick else None]:
        add("canvases", str(budget), minute, budget)
    for codec in list(ENCODERS)[: 2 if quick else None]:
        try:
            add("codec", codec, encoded(source, folder, height=_HEIGHT, codec=codec))
        except LookupError as error:
            print(error, file=sys.stderr)
    for threads in (1, 2):
        add("threads", str(threads), minute, threads=threads)
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="video to make the clips from (default: the bundled one)")
    parser.add_argument("--quick", action="store_true", help="two points of each axis, one round")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "scaling.json", help="result (default: results/scaling.json)"
    )
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        rows = points(args.clip or SAMPLE, Path(folder), quick=args.quick)
    facts = {"commit": commit(), **machine_facts(("torch", "numpy", "av"))}
    write_text(args.out, json.dumps({"machine": facts, "points": rows}, indent=1) + "\n")
    draw(rows, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
