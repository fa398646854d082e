"""What canvases show of small events at equal tokens: frames, random blocks, presets and their parts, and the truth.

    python -m benchmarks.events --work DIR --real A.mp4 B.mp4 ...      # make what is missing, then write the table
    python -m benchmarks.events --work DIR --report-only               # the table alone, from the rows that are stored
    python -m benchmarks.events --work DIR --choices frames paper event    # some of the rows
    python -m benchmarks.events --work DIR --split held --real FILES   # footage, events, encodings that are in no other
    python -m benchmarks.events --work DIR --split tune                # to tune by; never reported
    python -m benchmarks.events --work DIR --time --real FILES         # CPU time against preset="paper", nothing else

A set per seed, one clip of each kind of footage in each; every row is one event. What is stored of a seed stays, what
is missing is added: remove the file of a seed to measure it again. Results under benchmarks/results/events.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results" / "events"
SEEDS = range(1, 6)
BUDGET = 8
_T95 = {4: 2.776}  # Student's t for n - 1 = 4
#: in the table by footage and by event; the others are parts taken away or added
MAIN = ("frames", "random", "paper", "release", "event", "truth")
#: of `--time`: a camera that stands, ones that move, and weather
TIMED = ("still", "pan", "shake", "zoom", "rain", "real-shake")
TIMED_BUDGETS = (8, 32)
REPEATS = 5


def choices() -> dict[str, Callable[[Any], Any]]:
    """Name -> function from a clip of the set to canvases."""
    from ov2kit.codec import CodecTokenizer, EventSaliency, FrameTokenizer, RandomSaliency

    def codec(**options: Any) -> Callable[[Any], Any]:
        return lambda clip: CodecTokenizer(BUDGET, threads=1, **options)(clip.video)

    def event(**options: Any) -> Callable[[Any], Any]:
        return codec(preset="event", saliency=EventSaliency(**options))

    return {
        "frames": lambda clip: FrameTokenizer(BUDGET, threads=1)(clip.video),
        "random": codec(saliency=RandomSaliency()),
        "paper": codec(),
        "paper, all frames": codec(candidates="all"),
        "paper, even frames": codec(candidates="uniform"),
        "release": codec(preset="release"),
        "event": codec(preset="event"),
        "no camera": event(camera="none"),
        "no light": event(light="none"),
        "no habit": event(habit=None),
        "no tolerance": event(tolerance=0.0),
        "no frame level": event(frame_level=None),
        "no memory": event(memory=None),
        "no quantile": event(habit_quantile=0.5),
        "no echo": event(echo=0.0),
        "no spread": event(spread=0.0),
        "lasting 0.5": event(lasting=0.5),
        "frames by bytes": codec(preset="event", candidates="bitcost"),
        "12 frames a canvas": codec(preset="event", candidates_per_canvas=12),
        "top-k": codec(preset="event", selection="topk"),
        "damping 2": codec(preset="event", rank_damping=2.0),
        "equal groups": codec(preset="event", grouping="fixed"),
        "truth": truth,
    }


def truth(clip: Any) -> Any:
    """The blocks of the events themselves as scores, every frame a candidate: the ceiling."""
    from ov2kit.codec import CodecTokenizer, VideoStream
    from ov2kit.recipes.metrics import blocks_of_mask

    tokenizer = CodecTokenizer(BUDGET, threads=1, map_kind="scores", candidates="all")
    budget = tokenizer.settings.budget(VideoStream(clip.video).info.display_size)
    maps = np.zeros((clip.frames, budget.height // 28, budget.width // 28), dtype=np.float32)
    for event in clip.events:
        for frame, mask in event.masks.items():
            maps[frame] = np.maximum(maps[frame], blocks_of_mask(mask, maps.shape[1:]))
    return tokenizer(clip.video, score_maps=list(maps))


def measure(clips: Sequence[Any], seed: int, names: Iterable[str]) -> list[dict[str, Any]]:
    """One row per choice and event."""
    from ov2kit.codec import VideoStream
    from ov2kit.recipes.metrics import background_share, blocks_of_mask, event_shown, shown_blocks

    rows = []
    for clip in clips:
        times = VideoStream(clip.video).packets.frame_seconds
        for name in names:
            began = time.process_time()
            canvases = choices()[name](clip)
            spent = time.process_time() - began
            grid = (canvases.images.shape[2] // 28, canvases.images.shape[3] // 28)
            shown = shown_blocks(canvases.positions, canvases.merge, grid)
            bearing = [{t: blocks_of_mask(m, grid) for t, m in event.masks.items()} for event in clip.events]
            useless = background_share(shown, bearing)
            for event, blocks in zip(clip.events, bearing, strict=True):
                found = event_shown(shown, blocks, event.start, event.stop, times)
                rows.append({
                    "choice": name, "seed": seed, "clip": clip.id, "footage": clip.footage, "kind": event.kind,
                    "encoding": clip.encoding, "rate": "variable" if clip.variable else f"{clip.fps:.0f}",
                    "once": int(found.once), "twice": int(found.twice),
                    "recall": round(found.recall, 4), "delay": None if found.delay is None else round(found.delay, 3),
                    "background": round(useless, 4), "tokens": canvases.num_tokens, "seconds": round(spent, 4),
                })  # fmt: skip
    return rows


def mean_of(rows: Sequence[Mapping[str, Any]], measure_name: str) -> float:
    """Mean over kinds of footage of the mean over their events, so that none counts more by having more events."""
    kinds = sorted({row["footage"] for row in rows})
    return statistics.fmean(
        statistics.fmean(row[measure_name] for row in rows if row["footage"] == kind) for kind in kinds
    )


def overall(rows: Sequence[Mapping[str, Any]]) -> str:
    """All choices: means over footage, with the 95 % interval over seeds."""
    lines = [
        "| choice | seeds | once | twice | mean of both | recall | seen | delay, s | background | tokens | CPU, ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    there = {row["choice"] for row in rows}
    for name in [name for name in choices() if name in there]:
        own = [dict(row, both=(row["once"] + row["twice"]) / 2) for row in rows if row["choice"] == name]
        seeds = sorted({row["seed"] for row in own})
        per_seed = [mean_of([row for row in own if row["seed"] == seed], "both") for seed in seeds]
        t = _T95.get(len(seeds) - 1)
        spread = f" ± {t * statistics.stdev(per_seed) / len(seeds) ** 0.5:.3f}" if t else ""
        seen = [row["delay"] for row in own if row["delay"] is not None]
        clips = _clips(own)
        cells = [
            str(len(seeds)),
            f"{mean_of(own, 'once'):.3f}", f"{mean_of(own, 'twice'):.3f}", f"{mean_of(own, 'both'):.3f}{spread}",
            f"{mean_of(own, 'recall'):.3f}", f"{len(seen) / len(own):.3f}", f"{statistics.fmean(seen):.2f}",
            f"{statistics.fmean(row['background'] for row in clips):.2f}",
            f"{statistics.fmean(row['tokens'] for row in clips):.0f}",
            f"{1000 * statistics.fmean(row['seconds'] for row in clips):.0f}",
        ]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _clips(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row of each clip, for what is measured per clip."""
    return list({(row["seed"], row["clip"]): row for row in rows}.values())


def by(rows: Sequence[Mapping[str, Any]], column: str) -> str:
    """once / twice / delay / background of the main choices, per kind of footage, event, encoding or frame rate."""
    values = list(dict.fromkeys(row[column] for row in rows))
    names = [name for name in MAIN if any(row["choice"] == name for row in rows)]
    lines = [f"| {column} | events | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for value in values:
        cells = []
        for name in names:
            own = [row for row in rows if row["choice"] == name and row[column] == value]
            seen = [row["delay"] for row in own if row["delay"] is not None]
            means = [f"{statistics.fmean(row[m] for row in own):.2f}" for m in ("once", "twice")]
            means += [f"{statistics.fmean(seen):.2f}" if seen else "never"]
            cells.append(" / ".join([*means, f"{statistics.fmean(row['background'] for row in _clips(own)):.2f}"]))
        lines.append(f"| {value} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def run_seed(work: Path, real: Sequence[str], split: str, names: Sequence[str], seed: int) -> None:
    """Every choice of a seed that is not stored yet."""
    from ov2kit.files import write_text
    from ov2kit.recipes.evidence.films.eventset import read_events

    torch.set_num_threads(1)
    path = _stored(split, seed)
    stored = json.loads(path.read_text())["rows"] if path.exists() else []
    missing = [name for name in names if not any(row["choice"] == name for row in stored)]
    if not missing:
        return
    data = made_set(work, real, seed)
    rows = stored + measure(read_events(data, split), seed, missing)
    facts = {"seed": seed, "split": split, "budget": BUDGET, "set": json.loads((data / "eventset.json").read_text())}
    lines = ",\n".join(json.dumps(row) for row in rows)
    write_text(path, json.dumps(facts)[:-1] + f', "rows": [\n{lines}\n]}}\n')
    print(f"seed {seed}: {', '.join(missing)}", flush=True)


def made_set(work: Path, real: Sequence[str], seed: int) -> Path:
    """The set of a seed, made where it is missing."""
    from ov2kit.recipes.evidence.films.eventset import make_eventset

    data = work / f"set-{seed}"
    return data if data.exists() else make_eventset(data, 1, seed=seed, real=real)


def timed(clips: Iterable[Any]) -> str:
    """CPU seconds of one thread, the least of several in turn, per footage and budget."""
    from ov2kit.codec import CodecTokenizer

    lines = ["| footage | canvases | paper, ms | event, ms | ratio |", "|---|---|---|---|---|"]
    for clip in (clip for clip in clips if clip.footage in TIMED):
        for budget in TIMED_BUDGETS:
            paper, event = CodecTokenizer(budget, threads=1), CodecTokenizer(budget, preset="event", threads=1)
            spent = [(_seconds(paper, clip), _seconds(event, clip)) for _ in range(REPEATS)]
            one, two = (min(column) for column in zip(*spent, strict=True))
            cells = [clip.footage, str(budget), f"{1000 * one:.0f}", f"{1000 * two:.0f}", f"{two / one:.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _seconds(tokenizer: Callable[[Any], Any], clip: Any) -> float:
    began = time.process_time()
    tokenizer(clip.video)
    return time.process_time() - began


def _stored(split: str, seed: int) -> Path:
    return RESULTS / f"{split}-seed{seed}.json"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the sets are kept")
    parser.add_argument("--real", nargs="+", default=[], help="videos to use as background, for both splits")
    parser.add_argument("--choices", nargs="+", default=list(choices()), choices=list(choices()), help="rows to make")
    parser.add_argument("--split", default="test", choices=("tune", "test", "held"))
    parser.add_argument("--processes", type=int, default=1, help="seeds side by side")
    parser.add_argument("--time", action="store_true", help="time presets, and nothing else")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    if options.time:
        from ov2kit.recipes.evidence.films.eventset import read_events

        text = timed(read_events(made_set(options.work, options.real, SEEDS[0]), "test"))
        (RESULTS / "time.md").write_text(text)
        print(text)
        return
    if not options.report_only:
        job = partial(run_seed, options.work, options.real, options.split, options.choices)
        with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
            list(pool.map(job, SEEDS))
    stored = [_stored(options.split, seed) for seed in SEEDS]
    rows = [row for path in stored if path.exists() for row in json.loads(path.read_text())["rows"]]
    columns = ("footage", "kind", "encoding", "rate")
    text = overall(rows) + "".join(
        f"\nonce / twice / delay in seconds / background by {column}:\n\n{by(rows, column)}" for column in columns
    )
    (RESULTS / f"{options.split}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
