"""Where the time of a clip goes: processor milliseconds of each stage, and how much of what is scaled is shown.

    python -m benchmarks.stages CLIP...

Stages run alone, one after the other, in one process with one torch thread; the least of some rounds counts, so that
other work on the machine disturbs little. Writes results/stages.json; then `python -m benchmarks.tables`.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks._tables.markdown import RESULTS
from benchmarks.run_info import commit
from ov2kit.codec import CodecTokenizer, VideoStream
from ov2kit.codec.tokenizers.chosen import choose
from ov2kit.codec.tokenizers.groups import Clip, grouping_for, groups_of_packets
from ov2kit.codec.tokenizers.scored import frame_request, scored_groups
from ov2kit.files import write_text
from ov2kit.recipes.evidence.machine import machine_facts

_T = TypeVar("_T")


class Least:
    """The least milliseconds of each stage over the rounds."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}

    def __call__(self, stage: str, call: Callable[[], _T]) -> _T:
        start = time.process_time()
        found = call()
        self.ms[stage] = min(self.ms.get(stage, np.inf), round(1e3 * (time.process_time() - start), 1))
        return found


def measured(path: Path, tokenizer: CodecTokenizer, timed: Least) -> dict[str, Any]:
    """One round: its stages are timed; what is shown of the clip, which is the same in each."""
    settings = tokenizer.settings
    stream = timed("open", lambda: VideoStream(path))
    clip = Clip(stream, settings, settings.budget(stream.info.display_size), tokenizer.scorer)
    groups = timed("group", lambda: groups_of_packets(clip, grouping_for(clip)))
    indices = np.concatenate([plan.candidates for plan in groups.plans]).tolist()
    timed("decode", lambda: list(stream.frames(indices, rgb=False)))
    timed("and vectors", lambda: list(stream.frames(indices, rgb=False, motion=True)))
    timed("and what is scored", lambda: list(stream.requested(indices, frame_request(clip, groups.plans))))
    calls = list(scored_groups(clip, None)[1])
    scored = timed("score", lambda: [call() for call in calls])
    selector, packer = tokenizer.selector, tokenizer.packer
    chosen = timed("choose and pack", lambda: [choose(clip, selector, packer, one) for one in scored])
    pictures = [frame.picture for one in scored for frame in one.frames if frame.picture is not None]
    timed("of which RGB of whole frames", lambda: [int(picture.rgb()[0, 0, 0]) for picture in pictures])
    timed("all", lambda: tokenizer(path))
    shown = [each.positions[~each.is_anchor][..., :2].reshape(-1, 2).numpy() for each in chosen]
    rows = np.concatenate([np.unique(each[each[:, 0] >= 0] // (1, settings.merge), axis=0) for each in shown])
    frames = len(np.unique(rows[:, 0]))
    share = round(len(rows) / (frames * clip.grid[0]), 3)
    return {"size": list(stream.info.coded_size), "scored": len(indices), "shown": frames, "rows_of_shown": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--canvases", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "stages.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    facts = {"commit": commit(), **machine_facts(("torch", "numpy", "av"))}
    tokenizer, clips = CodecTokenizer(args.canvases), []
    for path in args.clips:
        timed = Least()
        seen = [measured(path, tokenizer, timed) for _ in range(args.rounds)]
        clips.append({"name": path.name, **seen[-1], "ms": timed.ms})
    write_text(args.out, json.dumps({"machine": facts, "canvases": args.canvases, "clips": clips}, indent=1) + "\n")


if __name__ == "__main__":
    main()
