"""What estimating bits costs: seconds of tokenizing with it over seconds without, taking turns.

    python -m benchmarks.bitcost_speed CLIP... [--rounds 5]

Without: the same preset with packet bytes shared out by residual (`scores="saliency"`). Processor time, the
least of all rounds, says what it costs where the machine has other work too.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

from benchmarks._peers.tables import markdown
from ov2kit.codec import CodecTokenizer

VARIANTS = {"without": {"scores": "saliency"}, "with": {"scores": "bit-cost"}}


def measure(clip: Path, rounds: int, canvases: int, preset: str) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each variant, after one call of each that does not count."""
    made = {name: CodecTokenizer(canvases, preset=preset, **options) for name, options in VARIANTS.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
    for turn in range(rounds + 1):
        for name in list(made) if turn % 2 else list(reversed(made)):
            start, busy = time.perf_counter(), time.process_time()
            made[name](clip)
            if turn:
                taken[name].append((time.perf_counter() - start, time.process_time() - busy))
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--canvases", type=int, default=32)
    parser.add_argument("--preset", default="release")
    args = parser.parse_args()
    rows, ratios = [], []
    for clip in args.clips:
        taken = measure(clip, args.rounds, args.canvases, args.preset)
        middle = {name: statistics.median(wall for wall, _ in both) for name, both in taken.items()}
        wall, busy = ({name: min(both[i] for both in found) for name, found in taken.items()} for i in (0, 1))
        ratios.append(tuple(seconds["with"] / seconds["without"] for seconds in (middle, wall, busy)))
        rows.append([clip.name, *(f"{s:.3f}" for s in middle.values()), *(f"{ratio:.2f}" for ratio in ratios[-1])])
    means = [statistics.geometric_mean(column) for column in zip(*ratios, strict=True)]
    rows.append(["geometric mean", "", "", *(f"**{mean:.2f}**" for mean in means)])
    head = ["clip", "without, s", "with, s", "ratio of medians", "ratio of the quickest", "of processor time"]
    print(markdown(head, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
