"""Which scores choose the blocks on which the encoder really spent its bits?

    python -m benchmarks.normalization [FOLDER_OR_CLIP...] [--markdown table.md] [--out results.json]

Truth: bits of each H.264 macroblock, from the patched decoder of codec-video-prep (in its own
environment, see `peers.py`). Measured: the best 10 % of the canvas blocks of every 32 frames by each
option of `MotionResidualSaliency` and by `ByteShareSaliency`, and how many of them are among the true
best 10 %; chance gives 0.10. I-frames do not take part: there bits show texture, and the pipeline
shows them as anchors.
"""

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._peers.environments import PeerUnavailableError, prepare
from benchmarks._peers.tables import markdown
from benchmarks._peers.truth import TruthError, block_bits, check_against_packets, load_truth, overlap_of_best
from ov2kit.codec.scoring.byte_share import ByteShareSaliency
from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.codec.signals.collect import FrameSignals, collect_signals
from ov2kit.codec.stream import VideoStream
from ov2kit.geometry import smart_resize
from tests.clips import SHARED

BLOCK = 28  # patch 14, merge 2
SCORING = 10  # pixels per block edge that the tokenizer scores on
MOTION, RESIDUAL = (1.0, 0.0), (0.0, 1.0)
LOG_GRAY = 2.0  # gray levels that an encoder hardly codes
SUFFIXES = {".mp4", ".mkv", ".mov", ".m4v", ".avi", ".ts", ".flv"}

WINDOW = 32  # frames of a group
NORMS = ("frame", "group", "clip")
COMPENSATIONS = ("none", "mean", "median", "affine")


def module_scores(signals: FrameSignals, grid: tuple[int, int], *, use_motion: bool = True, **options: Any) -> Tensor:
    """(T, rows, cols) of `MotionResidualSaliency`, called group by group as the tokenizer does."""
    saliency = MotionResidualSaliency(**options)
    motion = signals.motion if use_motion else None
    scale = None
    if options["normalize"] == "clip":
        scale = saliency.scales(signals.luma, signals.reference, motion, signals.valid, distance=signals.distance)
    parts = []
    for s in range(0, len(signals.luma), WINDOW):
        own = slice(s, s + WINDOW)
        pictures = (signals.luma[own], signals.reference[own], None if motion is None else motion[own])
        more = {"distance": signals.distance[own], "scale": scale}
        parts.append(saliency(*pictures, grid, signals.nbytes[own], signals.valid[own], **more))
    return torch.cat(parts)


def gray_levels(signals: FrameSignals, grid: tuple[int, int], *, use_motion: bool) -> Tensor:
    """(T, rows, cols) mean |residual| per pixel of each block, neither scaled nor cut."""
    saliency = MotionResidualSaliency(weights=RESIDUAL, normalize="group")
    motion = signals.motion if use_motion else None
    args = (signals.luma, signals.reference, motion, grid, signals.nbytes, signals.valid)
    return saliency(*args, scale=torch.tensor([1.0, 255.0])) * (255 / BLOCK**2)


def with_prior(scores: Tensor, signals: FrameSignals, weight: float) -> Tensor:
    """Times 1 + weight * bytes / their 99th percentile over each group, as `bit_cost_weight` does."""
    factor = torch.ones(len(scores))
    for s in range(0, len(scores), WINDOW):
        own = slice(s, s + WINDOW)
        spent = signals.nbytes[own]
        if signals.valid[own].any():
            factor[own] += weight * spent / spent[signals.valid[own]].quantile(0.99).clamp(min=1)
    return scores * factor[:, None, None]


def times_bytes(scores: Tensor, signals: FrameSignals) -> Tensor:
    """The limit of an endless prior."""
    return scores * signals.nbytes[:, None, None]


def shared_bytes(scores: Tensor, signals: FrameSignals) -> Tensor:
    """Packet bytes dealt out to the frame's blocks in proportion to their scores; evenly if all are 0."""
    total = scores.sum((1, 2), keepdim=True)
    part = torch.where(total > 0, scores / total.clamp(min=1e-12), 1 / scores[0].numel())
    return part * signals.nbytes[:, None, None]


def all_scores(signals: FrameSignals, grid: tuple[int, int]) -> dict[str, Tensor]:
    """Row of the table -> (T, rows, cols). The weighted mean of maps is that of their block sums."""
    noise = torch.rand(len(signals.nbytes), *grid, generator=torch.Generator().manual_seed(0))
    found = {"chance": noise, "packet bytes alone": times_bytes(torch.ones_like(noise), signals)}
    residual = {n: module_scores(signals, grid, normalize=n, weights=RESIDUAL) for n in NORMS}
    for n in NORMS:
        found[f"residual, {n}"] = residual[n]
    moving = {}
    for c in COMPENSATIONS:
        for n in NORMS:
            moving[c, n] = module_scores(signals, grid, normalize=n, weights=MOTION, compensation=c)
            found[f"motion {c}, {n}"] = moving[c, n]
            found[f"both {c}, {n}"] = (moving[c, n] + residual[n]) / 2
    for n in NORMS:
        found[f"motion median x 0.1 + residual, {n}"] = (0.1 * moving["median", n] + residual[n]) / 1.1
    for fusion in ("max", "geomean"):
        found[f"{fusion} of both median, group"] = module_scores(signals, grid, normalize="group", fusion=fusion)
    gray = {"residual": gray_levels(signals, grid, use_motion=True)}
    gray["luma difference"] = gray_levels(signals, grid, use_motion=False)
    found |= {f"{name}, gray levels": x for name, x in gray.items()}
    bases = {f"residual, {n}": residual[n] for n in NORMS}
    bases |= {f"both median, {n}": found[f"both median, {n}"] for n in NORMS}
    bases |= {f"{name}, gray levels": x for name, x in gray.items()}
    bases |= {f"{name}, log gray levels": (x / LOG_GRAY).log1p() for name, x in gray.items()}
    for name, base in bases.items():
        for weight in (1.0, 4.0):
            found[f"{name}, prior {weight:g}"] = with_prior(base, signals, weight)
        found[f"{name}, x bytes"] = times_bytes(base, signals)
        found[f"{name}, bytes shared out"] = shared_bytes(base, signals)
    return found


def pipeline_scores(signals: FrameSignals, grid: tuple[int, int]) -> dict[str, Tensor]:
    """As the tokenizer runs: 10 pixels per block edge, and the nearest pixel of the reference or four of them."""
    presets = {
        "equal weights": {"normalize": "group"},
        "equal weights, per frame": {"normalize": "frame"},
        **{
            f"motion x {weight:g} + residual, prior {prior:g}": {
                "normalize": "group", "weights": (weight, 1.0), "bit_cost_weight": prior,
            }
            for weight in (0.1, 0.25, 0.5, 1.0) for prior in (1.0, 4.0)
        },
    }  # fmt: skip
    found = {}
    for sampling in ("nearest", "bilinear"):
        for name, options in presets.items():
            found[f"scoring size, {sampling}: {name}"] = module_scores(signals, grid, sampling=sampling, **options)
        shared = ByteShareSaliency(sampling).of_signals(signals, signals.motion, grid)
        found[f"scoring size, {sampling}: bytes shared out"] = shared
    found["scoring size, luma difference: bytes shared out"] = ByteShareSaliency().of_signals(signals, None, grid)
    return found


def measure(clip: Path, python: Path, cache: Path, frames: int) -> dict[str, Any]:
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
    scoring = (grid[0] * SCORING, grid[1] * SCORING)
    scaled = stream.frames(range(count), rgb=False, luma_size=scoring, reference=True, motion=True)
    reduced = collect_signals(list(scaled), turn)
    ratio = check_against_packets(truth, signals.nbytes.numpy())
    spent = block_bits(truth, turn.size(*canvas), turn.size(*grid))
    spent = turn.picture(spent)
    counted = truth.kinds != "I"
    overlaps = {
        name: overlap_of_best(scores.numpy(), spent, counted, WINDOW)
        for name, scores in (all_scores(signals, grid) | pipeline_scores(reduced, grid)).items()
    }
    return {"name": clip.name, "frames": count, "bits_told": ratio, "overlap": overlaps}


def report(results: list[dict[str, Any]]) -> str:
    """One row per option set: mean, median, worst, then every clip."""
    names = [r["name"] for r in results]
    rows = []
    for option in results[0]["overlap"]:
        values = [r["overlap"][option] for r in results]
        known = [v for v in values if not math.isnan(v)]
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
    parser.add_argument("inputs", nargs="*", type=Path, default=[SHARED], help="folders or clips")
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
    results = []
    for clip in clips:
        try:
            results.append(measure(clip, python, args.cache.resolve() / "bits", args.frames))
            print(clip.name, file=sys.stderr, flush=True)
        except TruthError as error:
            print(f"{clip.name}: skipped, {error}", file=sys.stderr, flush=True)
    if not results:
        print("error: no clip gave macroblock bits; they must be H.264", file=sys.stderr)
        return 2
    text = report(results)
    print(text)
    if args.markdown:
        args.markdown.write_text(text, encoding="utf-8")
    if args.out:
        args.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
