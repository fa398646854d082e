"""Which scores choose the blocks on which the encoder really spent its bits?

    python benchmarks/normalisation.py [FOLDER_OR_CLIP...] [--markdown table.md] [--out results.json]

Truth: bits of each H.264 macroblock, from the patched decoder of codec-video-prep (in its own
environment, see `peers.py`). Measured: the best 10 % of the canvas blocks of every 32 frames by each
option of `MotionResidualSaliency`, and how many of them are among the true best 10 %; chance gives
0.10. I-frames do not take part: there bits tell texture, and the pipeline shows them as anchors.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))

from _peers.environments import PeerUnavailableError, prepare
from _peers.tables import markdown
from _peers.truth import TruthError, block_bits, check_against_packets, load_truth, overlap_of_best

from ov2kit.codec import MotionResidualSaliency, VideoStream
from ov2kit.codec.signals import FrameSignals, collect_signals
from ov2kit.geometry import smart_resize

BLOCK = 28  # patch 14, merge 2
MOTION, RESIDUAL, BOTH = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)
SUFFIXES = {".mp4", ".mkv", ".mov", ".m4v", ".avi", ".ts", ".flv"}

Score = Callable[[FrameSignals, tuple[int, int]], np.ndarray]


def by_module(**options: Any) -> Score:
    """Scores of `MotionResidualSaliency` with these options."""

    def score(signals: FrameSignals, grid: tuple[int, int]) -> np.ndarray:
        saliency = MotionResidualSaliency(**options)
        # one group of frames after the other, as the tokenizer calls it; the whole clip for "clip"
        step = len(signals.luma) if options.get("normalize") == "clip" else WINDOW
        parts = []
        for s in range(0, len(signals.luma), step):
            e = s + step
            motion = None if signals.motion is None else signals.motion[s:e]
            parts.append(
                saliency(
                    signals.luma[s:e], signals.reference[s:e], motion, grid,
                    nbytes=signals.nbytes[s:e], valid=signals.valid[s:e],
                )
            )  # fmt: skip
        return torch.cat(parts).numpy()

    return score


WINDOW = 32


def times_bytes(score: Score) -> Score:
    """The limit of an endless prior: score x packet bytes."""
    return lambda signals, grid: score(signals, grid) * signals.nbytes.numpy()[:, None, None]


def shared_bytes(score: Score) -> Score:
    """Packet bytes dealt out to the frame's blocks in proportion to their scores."""

    def dealt(signals: FrameSignals, grid: tuple[int, int]) -> np.ndarray:
        raw = score(signals, grid)
        total = raw.sum((1, 2), keepdims=True)
        part = np.where(total > 0, raw / np.where(total > 0, total, 1), 1 / raw[0].size)
        return np.asarray(part * signals.nbytes.numpy()[:, None, None])

    return dealt


def only_bytes(signals: FrameSignals, grid: tuple[int, int]) -> np.ndarray:
    return np.broadcast_to(signals.nbytes.numpy()[:, None, None], (len(signals.nbytes), *grid)).copy()


def chance(signals: FrameSignals, grid: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).random((len(signals.nbytes), *grid))


def option_sets() -> dict[str, Score]:
    """Name in the table -> how to score."""
    sets: dict[str, Score] = {"chance": chance, "packet bytes alone": only_bytes}
    norms = ("frame", "group", "clip")
    for n in norms:
        sets[f"residual, {n}"] = by_module(normalize=n, weights=RESIDUAL)
        for c in ("none", "median", "affine"):
            sets[f"motion {c}, {n}"] = by_module(normalize=n, weights=MOTION, compensation=c)
            sets[f"both {c}, {n}"] = by_module(normalize=n, weights=BOTH, compensation=c)
    for n in norms:
        for weights, name in ((BOTH, "both median"), (RESIDUAL, "residual")):
            plain = by_module(normalize=n, weights=weights)
            for a in (1.0, 4.0):
                sets[f"{name}, {n}, prior {a:g}"] = by_module(normalize=n, weights=weights, prior=a)
            sets[f"{name}, {n}, x bytes"] = times_bytes(plain)
            sets[f"{name}, {n}, bytes shared out"] = shared_bytes(plain)
    return sets


def measure(clip: Path, python: Path, cache: Path, frames: int, sets: dict[str, Score]) -> dict[str, Any]:
    """Overlaps of every option set on one clip.

    Raises:
        TruthError: no truth for this clip.
    """
    truth = load_truth(python, clip, frames, cache)
    stream = VideoStream(clip)
    turn = stream.info.orientation
    canvas = smart_resize(*turn.size(*truth.size))
    grid = (canvas[0] // BLOCK, canvas[1] // BLOCK)
    count = min(len(truth.bits), stream.num_frames)
    decoded = list(stream.frames(range(count), rgb=False, luma_size=canvas, reference=True, motion=True))
    if len(decoded) != len(truth.bits):
        raise TruthError(f"{len(decoded)} frames decoded, but bits of {len(truth.bits)}")
    signals = collect_signals(decoded, turn)
    ratio = check_against_packets(truth, signals.nbytes.numpy())
    spent = block_bits(truth, turn.size(*canvas), turn.size(*grid))
    spent = turn.picture(spent.transpose(1, 2, 0)).transpose(2, 0, 1)
    counted = truth.kinds != "I"
    overlaps = {name: overlap_of_best(score(signals, grid), spent, counted, WINDOW) for name, score in sets.items()}
    return {"name": clip.name, "frames": count, "bits_told": ratio, "overlap": overlaps}


def report(results: list[dict[str, Any]], sets: dict[str, Score]) -> str:
    """One row per option set: mean, median, worst, then every clip."""
    names = [r["name"] for r in results]
    rows = []
    for option in sets:
        values = [r["overlap"][option] for r in results]
        known = [v for v in values if v == v]
        if not known:
            continue
        summary = (statistics.fmean(known), statistics.median(known), min(known))
        rows.append(
            [option, f"**{summary[0]:.3f}**", *(f"{v:.2f}" for v in summary[1:]), *(f"{v:.2f}" for v in values)]
        )
    told = ", ".join(f"{r['bits_told']:.3f}" for r in results)
    note = f"Part of the packets' bits that the macroblocks account for, clip by clip: {told}."
    return markdown(["scores", "mean", "median", "worst", *names], rows) + f"\n\n{note}\n"


def find_clips(inputs: list[Path]) -> list[Path]:
    clips = []
    for path in inputs:
        if path.is_dir():
            clips += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            clips.append(path)
        else:
            print(f"{path} is absent, skipped", file=sys.stderr)
    return clips


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", type=Path, default=[Path("../shared/clips")], help="folders or clips")
    parser.add_argument("--frames", type=int, default=256, help="frames from the start of each clip (default 256)")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / ".peers", help="environments and truth")
    parser.add_argument("--markdown", type=Path, help="write the table")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    args = parser.parse_args()
    clips = find_clips(args.inputs)
    if not clips:
        print("error: no clip found; give a folder with H.264 videos", file=sys.stderr)
        return 2
    try:
        python = prepare("codec-video-prep", args.cache.resolve())
    except PeerUnavailableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    sets = option_sets()
    results = []
    for clip in clips:
        try:
            results.append(measure(clip, python, args.cache.resolve() / "bits", args.frames, sets))
            print(clip.name, file=sys.stderr, flush=True)
        except TruthError as error:
            print(f"{clip.name}: skipped, {error}", file=sys.stderr, flush=True)
    if not results:
        print("error: no clip gave macroblock bits; they must be H.264", file=sys.stderr)
        return 2
    text = report(results, sets)
    print(text)
    if args.markdown:
        args.markdown.write_text(text)
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
