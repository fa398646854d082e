"""Do estimated bits find the canvas blocks on which the encoder really spent its bits?

    python -m benchmarks.bitcost_canvas [FOLDER_OR_CLIP...] [--markdown table.md]

The measure of normalization.py: of every 32 frames without I-frames, the best 10 % of the 28-pixel canvas blocks
by a score, and their share among the true best 10 %. Each clip is scored by the coefficients of the fold that left
its footage out; calibrate_bitcost.py has to have run with the same --cache.
"""

import argparse
import json
import statistics
import sys
from math import log
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from benchmarks._bitcost.samples import footage
from benchmarks._peers.environments import prepare
from benchmarks._peers.tables import markdown
from benchmarks._peers.truth import TruthError, block_bits, load_truth, overlap_of_best
from benchmarks.normalization import BLOCK, SCORING, WINDOW, find_clips, module_scores
from ov2kit.codec import BitCostMap, VideoStream
from ov2kit.codec.scoring.maps import normalized
from ov2kit.codec.signals.bit_cost import bits_on_grid, mean_on_grid
from ov2kit.codec.signals.collect import collect_signals
from ov2kit.codec.signals.macroblock_inputs import macroblock_luma_size
from ov2kit.codec.tokenizers.presets import PRESETS
from ov2kit.geometry import smart_resize
from tests.clips import SHARED


def fold_of(name: str, folder: Path) -> Path:
    """Coefficients that did not see a clip's footage.

    Raises:
        FileNotFoundError: no fold left it out.
    """
    for path in sorted(folder.glob("vectors.*.safetensors")):
        with safe_open(str(path), "pt") as file:
            if footage(name) in json.loads(file.metadata()["left_out"]):
                return path
    raise FileNotFoundError(f"no coefficients in {folder} that were fitted without {footage(name)}")


def as_release(bits: Tensor, size: tuple[int, int], grid: tuple[int, int], least: float = 1e-6) -> Tensor:
    """Scores that the release makes of bits: log1p over the 99th percentile of each frame."""
    return mean_on_grid(normalized(bits.log1p(), 99.0, least)[0], size, grid)


def with_prior(scores: Tensor, bits: Tensor, weight: float) -> Tensor:
    """Times 1 + weight * a block's bits over their 99th percentile in the group."""
    out = scores.clone()
    for start in range(0, len(scores), WINDOW):
        own = slice(start, start + WINDOW)
        out[own] *= 1 + weight * bits[own] / bits[own].flatten().quantile(0.99).clamp(min=1)
    return out


def measure(clip: Path, python: Path, cache: Path, frames: int) -> dict[str, float]:
    """Overlap of every score."""
    truth = load_truth(python, clip, frames, cache / "bits")
    stream = VideoStream(clip)
    info, turn = stream.info, stream.info.orientation
    canvas = smart_resize(*turn.size(*truth.size))
    grid = (canvas[0] // BLOCK, canvas[1] // BLOCK)
    coded = turn.size(*grid)
    count = min(len(truth.bits), stream.num_frames)
    spent = turn.picture(block_bits(truth, turn.size(*canvas), coded))[:count]
    told = torch.from_numpy(truth.bits[:count]).float()
    options = {"rgb": False, "reference": True, "motion": True}
    size = (grid[0] * SCORING, grid[1] * SCORING)
    signals = collect_signals(list(stream.frames(range(count), luma_size=size, **options)), turn)
    luma = macroblock_luma_size(info.coded_size)
    decoded = stream.frames(range(count), luma_size=luma, as_coded=True, quantizer=True, **options)
    model = BitCostMap(path=fold_of(clip.name, cache / "folds"))
    bits = model.of_frames(list(decoded), info.coded_size)

    def shown(maps: Tensor) -> Tensor:
        return torch.from_numpy(turn.picture(maps.numpy()))

    paper = module_scores(signals, grid, **PRESETS["paper"]["saliency"])
    plain = module_scores(signals, grid, **(PRESETS["paper"]["saliency"] | {"bit_cost_weight": 0.0}))
    dealt = shown(bits_on_grid(bits, info.coded_size, coded))
    scores = {
        "preset paper, prior by packet": paper,
        **{f"preset paper, prior by estimated bits, {w:g}": with_prior(plain, dealt, w) for w in (1.0, 4.0, 16.0)},
        "preset release before: bytes shared out by residual": module_scores(
            signals, grid, **PRESETS["release"]["saliency"]
        ),
        "estimated bits": dealt,
        "preset release: estimated bits, log, per frame": shown(as_release(bits, info.coded_size, coded, log(9))),
        "true bits, log, per frame": shown(as_release(told, info.coded_size, coded)),
    }
    counted = truth.kinds[:count] != "I"
    return {name: overlap_of_best(x.numpy(), spent, counted, WINDOW) for name, x in scores.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", type=Path, default=[SHARED])
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--cache", type=Path, default=Path(__file__).parent / ".peers")
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    cache = args.cache.resolve()
    python = prepare("codec-video-prep", cache)
    results: dict[str, dict[str, float]] = {}
    for clip in find_clips(args.inputs):
        try:
            results[clip.name] = measure(clip, python, cache, args.frames)
            print(clip.name, {k: round(v, 3) for k, v in results[clip.name].items()}, file=sys.stderr, flush=True)
        except TruthError as error:
            print(f"{clip.name}: skipped, {error}", file=sys.stderr, flush=True)
    rows = []
    for name in next(iter(results.values())):
        values = [r[name] for r in results.values()]
        known = [v for v in values if not np.isnan(v)]
        rows.append([name, f"**{statistics.fmean(known):.3f}**", f"{min(known):.2f}", *(f"{v:.2f}" for v in values)])
    text = markdown(["scores", "mean", "worst", *results], rows)
    print(text)
    if args.markdown:
        args.markdown.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
