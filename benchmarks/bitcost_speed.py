"""What estimating bits costs: seconds of tokenizing with it over seconds without, taking turns.

    python -m benchmarks.bitcost_speed CLIP... [--rounds 5]

Without: the same preset with packet bytes shared out by residual (`scores="saliency"`).
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

from benchmarks._peers.tables import markdown
from ov2kit.codec import CodecTokenizer

VARIANTS = {"without": {"scores": "saliency"}, "with": {"scores": "bit-cost"}}


def measure(clip: Path, rounds: int, canvases: int, preset: str) -> dict[str, list[float]]:
    """Wall seconds of each variant, after one call of each that does not count."""
    made = {name: CodecTokenizer(canvases, preset=preset, **options) for name, options in VARIANTS.items()}
    taken: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(rounds + 1):
        for name in list(made) if turn % 2 else list(reversed(made)):
            start = time.perf_counter()
            made[name](clip)
            if turn:
                taken[name].append(time.perf_counter() - start)
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
        middle = {name: statistics.median(seconds) for name, seconds in taken.items()}
        least = {name: min(seconds) for name, seconds in taken.items()}
        ratios.append(middle["with"] / middle["without"])
        rows.append([clip.name, *(f"{s:.3f}" for s in middle.values()), f"{ratios[-1]:.2f}",
                     f"{least['with'] / least['without']:.2f}"])  # fmt: skip
    rows.append(["geometric mean", "", "", f"**{statistics.geometric_mean(ratios):.2f}**", ""])
    print(markdown(["clip", "without, s", "with, s", "ratio of medians", "ratio of the quickest"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
