"""What scores that know the color of the thing asked about find of its event, beside scores that do not.

    python -m benchmarks.query_scores --work DIR       # sets of events as `benchmarks.events` keeps them

Of the `test` split, events whose thing has a color that one would name: at least half of its pixels in a frame
of the event are of one color that is neither black, gray nor white. The question is "What happens to the COLOR
thing?". Budgets are small, so that not all events find room. Results under benchmarks/results/routing.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._tables.markdown import table
from ov2kit.files import write_text

RESULTS = Path(__file__).parent / "results" / "routing" / "query.json"
SEEDS = range(1, 6)
BUDGETS = (4, 8)
WEIGHTS = (0.0, 4.0, 16.0)


def named_color(clip: Any, event: Any, stream: Any) -> str | None:
    """The color of most pixels of an event's thing, where it has one."""
    from ov2kit.codec import ColorNames
    from ov2kit.codec.scoring.color_names import COLOR_NAMES

    middle = sorted(event.masks)[len(event.masks) // 2]
    (frame,) = stream.frames([middle], size=clip.size)
    pixels = frame.rgb[:, torch.from_numpy(event.masks[middle])].T.float() / 255
    shares = ColorNames()(pixels[..., None, None]).mean(0)
    best = int(shares.argmax())
    return COLOR_NAMES[best] if shares[best] >= 0.5 and COLOR_NAMES[best] not in ("black", "gray", "white") else None


def measure(clip: Any, seed: int) -> list[dict[str, Any]]:
    """One row per event with a color, budget and weight."""
    from ov2kit.codec import CodecTokenizer, EventSaliency, QuerySaliency, VideoStream
    from ov2kit.recipes import color_query
    from ov2kit.recipes.metrics import blocks_of_mask, event_shown, shown_blocks

    stream = VideoStream(clip.video, threads=1)
    seconds = stream.packets.frame_seconds
    rows = []
    for number, event in enumerate(clip.events):
        color = named_color(clip, event, stream)
        if color is None:
            continue
        query = color_query(f"What happens to the {color} thing?")
        for budget in BUDGETS:
            for weight in WEIGHTS:
                saliency = QuerySaliency(query, weight=weight) if weight else EventSaliency()
                canvases = CodecTokenizer(budget, preset="event", saliency=saliency, threads=1)(stream)
                grid = (canvases.images.shape[2] // 28, canvases.images.shape[3] // 28)
                blocks = {t: blocks_of_mask(mask, grid) for t, mask in event.masks.items()}
                shown = shown_blocks(canvases.positions, canvases.merge, grid)
                found = event_shown(shown, blocks, event.start, event.stop, seconds)
                rows.append({
                    "seed": seed, "clip": clip.id, "event": number, "color": color, "budget": budget, "weight": weight,
                    "once": int(found.once), "twice": int(found.twice), "recall": round(found.recall, 4),
                    "tokens": canvases.num_tokens,
                })  # fmt: skip
    return rows


def report(rows: list[dict[str, Any]]) -> str:
    """Means over events."""
    lines = []
    for budget in BUDGETS:
        for weight in WEIGHTS:
            own = [row for row in rows if (row["budget"], row["weight"]) == (budget, weight)]
            cells = [f"{statistics.fmean(row[name] for row in own):.3f}" for name in ("once", "twice", "recall")]
            tokens = f"{np.mean([row['tokens'] for row in own]):.0f}"
            lines.append([str(budget), f"{weight:g}" if weight else "none", str(len(own)), tokens, *cells])
    return table(["canvases", "weight of the query", "events", "tokens", "once", "twice", "recall"], lines)


def main() -> None:
    """Command line."""
    from ov2kit.recipes.evidence.films.eventset import make_eventset, read_events

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the sets are kept")
    parser.add_argument("--real", nargs="+", default=[], help="videos to use as background, for both splits")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), choices=SEEDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in options.seeds:
        data = options.work / f"set-{seed}"
        if not data.exists():
            make_eventset(data, 1, seed=seed, real=options.real)
        rows += [row for clip in read_events(data, "test") for row in measure(clip, seed)]
        print(f"seed {seed}: {len(rows)} rows", flush=True)
    write_text(RESULTS, "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(report(rows))


if __name__ == "__main__":
    main()
