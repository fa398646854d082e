"""What canvases can answer at equal tokens: frames, codec, hybrids of them, and what the router takes.

    python -m benchmarks.routing --work DIR --real A.mp4 B.mp4 ...     # make what is missing, then write the tables
    python -m benchmarks.routing --work DIR --fit                      # and what the router expects, from `tune`
    python -m benchmarks.routing --work DIR --report-only              # the tables alone, from the rows that are stored

Sets of events as `benchmarks.events` makes them (the same DIR serves both), one clip of each kind of footage per seed
and split. A row is one question about a clip and what of its answer each source shows: see `_routing/oracle.py`.
The router was made by what `tune` says; `test` is reported. Its question texts are held out as well. Results under
benchmarks/results/routing.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._routing.fit import fitted
from benchmarks._routing.oracle import ask_all, measure
from benchmarks._routing.report import tables
from ov2kit.files import write_text
from ov2kit.recipes.routing.values import ROUTES, route_values

RESULTS = Path(__file__).parent / "results" / "routing"
SEEDS = range(1, 6)
BUDGET = 8
#: of the hybrids, in the order of the tables
SHARES = (0.375, 0.5, 0.75)


def sources() -> dict[str, Callable[[Any], Any]]:
    """Name -> a function from a video to canvases."""
    from ov2kit.codec import CodecTokenizer, FrameTokenizer

    event = CodecTokenizer(BUDGET, preset="event", threads=1)
    hybrids = {f"hybrid {share:g}": event.with_frame_share(share) for share in SHARES}
    paper = CodecTokenizer(BUDGET, threads=1)
    return {"frames": FrameTokenizer(BUDGET, threads=1), "codec": event, **hybrids, "codec, paper": paper}


def run(work: Path, real: Sequence[str], split: str, seeds: Sequence[int]) -> None:
    """Every seed that is not stored yet."""
    from ov2kit.recipes.evidence.films.eventset import make_eventset, read_events

    for seed in seeds:
        path, data = stored(split, seed), work / f"set-{seed}"
        if path.exists():
            continue
        if not data.exists():
            make_eventset(data, 1, seed=seed, real=real)
        rows = [row for clip in read_events(data, split) for row in measure(clip, ask_all(clip, seed), sources())]
        facts = {"seed": seed, "split": split, "budget": BUDGET}
        lines = ",\n".join(json.dumps(row) for row in rows)
        write_text(path, json.dumps(facts)[:-1] + f', "rows": [\n{lines}\n]}}\n')
        print(f"{split}, seed {seed}: {len(rows)} questions", flush=True)


def stored(split: str, seed: int) -> Path:
    return RESULTS / f"{split}-seed{seed}.json"


def read(split: str) -> list[dict[str, Any]]:
    """Stored rows of a split."""
    paths = [stored(split, seed) for seed in SEEDS]
    return [
        {**row, "seed": facts["seed"]}
        for path in paths
        if path.exists()
        for facts in [json.loads(path.read_text())]
        for row in facts["rows"]
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the sets are kept")
    parser.add_argument("--real", nargs="+", default=[], help="videos to use as background, for both splits")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--fit", action="store_true", help="make the values of the router again from the split tune")
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.report_only:
        options.work.mkdir(parents=True, exist_ok=True)
        RESULTS.mkdir(parents=True, exist_ok=True)
        for split in ("tune", "test"):
            run(options.work, options.real, split, options.seeds)
    if options.fit:
        write_text(ROUTES, json.dumps(fitted(read("tune")), indent=1) + "\n")
        route_values.cache_clear()
    for split in ("tune", "test"):
        text = tables(read(split))
        (RESULTS / f"{split}.md").write_text(text)
        print(f"{split}\n\n{text}")


if __name__ == "__main__":
    main()
