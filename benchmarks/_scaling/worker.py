"""One point in a process of its own: the module run with CLIP BUDGET THREADS ROUNDS prints JSON.

Three ways take turns: `CodecTokenizer`, its floor, and PyAV decoding every frame.
"""

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import av
import torch

from benchmarks._peers.worker import BareDecode, Floor, peak_memory
from ov2kit.codec import CodecTokenizer


def main(clip: str, budget: int, threads: int, rounds: int) -> None:
    """Print the medians of `rounds` calls."""
    warnings.simplefilter("ignore")
    av.logging.set_level(None)
    torch.set_num_threads(threads)
    imported = peak_memory()["peak_mb"]
    tokenizer = CodecTokenizer(budget_canvases=budget, threads=threads)
    tokenizer(clip)  # warms up, and is the call that memory is measured of
    peak = peak_memory()["peak_mb"]
    floor, bare = Floor(threads), BareDecode()
    decoded = floor.run(clip, budget)["frames"]
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: tokenizer(clip),
        "floor": lambda: floor.run(clip, budget),
        "bare": lambda: bare.run(clip, budget),
    }
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, call in ways.items():
            wall, core = time.perf_counter(), time.process_time()
            call()
            took[way].append((time.perf_counter() - wall, time.process_time() - core))
    start = time.perf_counter()
    came = [time.perf_counter() - start for _ in tokenizer.stream(clip)]
    medians = {
        way: {
            "seconds": round(statistics.median(wall for wall, _ in each), 4),
            "core_seconds": round(statistics.median(core for _, core in each), 4),
        }
        for way, each in took.items()
    }
    facts = {"frames": len(bare.times), "decoded": decoded, "peak_mb": round(peak - imported, 1)}
    print(
        json.dumps({**facts, "first_group_seconds": round(came[0], 4), "stream_seconds": round(came[-1], 4), **medians})
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
