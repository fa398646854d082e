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
SPLITS = ("tune", "test", "held")
BUDGET = 8
#: of the hybrids, in the order of the tables
SHARES = (0.375, 0.5, 0.75)


def sources() -> dict[str, Callable[[Any], Any]]:
    """Name -> a function from a video to canvases."""
    from ov2kit.codec import CodecTokenizer, FrameTokenizer

    event = CodecTokenizer(BUDGET, preset="event", threads=1)
    hybrids = {f"hybrid {share:g}": event.with_frame_share(share) for share in SHARES}
    paper = CodecTokenizer(BUDGET, threads=1)
    others = {f"hybrid {share:g}, paper": paper.with_frame_share(share) for share in SHARES}
    return {"frames": FrameTokenizer(BUDGET, threads=1), "codec": event, **hybrids, "codec, paper": paper, **others}


def run(work: Path, real: Sequence[str], split: str, seeds: Sequence[int], names: Sequence[str]) -> None:
    """Of every seed, the sources that are not stored yet."""
    from ov2kit.recipes.evidence.films.eventset import make_eventset, read_events

    for seed in seeds:
        path, data = stored(split, seed), work / f"set-{seed}"
        known = json.loads(path.read_text())["rows"] if path.exists() else []
        missing = {name: made for name, made in sources().items() if name in names and not _has(known, name)}
        if not missing:
            continue
        if not data.exists():
            make_eventset(data, 1, seed=seed, real=real)
        rows = [row for clip in read_events(data, split) for row in measure(clip, ask_all(clip, seed), missing)]
        rows = _joined(known, rows)
        facts = {"seed": seed, "split": split, "budget": BUDGET}
        lines = ",\n".join(json.dumps(row) for row in rows)
        write_text(path, json.dumps(facts)[:-1] + f', "rows": [\n{lines}\n]}}\n')
        print(f"{split}, seed {seed}: {len(rows)} questions", flush=True)


def _has(rows: Sequence[dict[str, Any]], name: str) -> bool:
    return bool(rows) and all(name in row["shown"] for row in rows)


def _joined(known: Sequence[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the same questions with what more sources show, in the order of the tables.

    Raises:
        ValueError: the questions or their clips are others.
    """
    rows = [{**a, "shown": {**a["shown"], **b["shown"]}} for a, b in zip(known, new, strict=True)] if known else new
    differ = [b for a, b in zip(rows, new, strict=True) if {**a, "shown": None} != {**b, "shown": None}]
    if differ:
        raise ValueError(f"{differ[0]['clip']}: stored for another set; remove what is stored of this seed")
    return [{**row, "shown": {name: row["shown"][name] for name in sources() if name in row["shown"]}} for row in rows]


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
    parser.add_argument("--sources", nargs="+", default=list(sources()), help="measure these alone")
    parser.add_argument("--splits", nargs="+", default=["tune", "test"], choices=SPLITS)
    parser.add_argument("--fit", action="store_true", help="make the values of the router again from the split tune")
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.report_only:
        options.work.mkdir(parents=True, exist_ok=True)
        RESULTS.mkdir(parents=True, exist_ok=True)
        for split in options.splits:
            run(options.work, options.real, split, options.seeds, options.sources)
    if options.fit:
        write_text(ROUTES, json.dumps(fitted(read("tune")), indent=1) + "\n")
        route_values.cache_clear()
    for split in SPLITS:
        text = tables(read(split))
        (RESULTS / f"{split}.md").write_text(text)
        print(f"{split}\n\n{text}")


if __name__ == "__main__":
    main()
