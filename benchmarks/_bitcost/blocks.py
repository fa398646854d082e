"""Blocks of `preset="release"` against those of the released front end, on the same groups."""

import subprocess
from pathlib import Path

import numpy as np

from benchmarks._bitcost.samples import NoTruthError
from benchmarks._peers.environments import clean_environment
from ov2kit.codec import BitCostMap, CodecTokenizer, VideoStream
from ov2kit.codec.selection.blocks import TopKBlockSelector
from ov2kit.codec.signals.macroblock_inputs import macroblock_luma_size

SCRIPT = Path(__file__).with_name("released_choice.py")
SAMPLED = 128  # frames, as for 16 canvases


def released_choice(python: Path, clip: Path, cache: Path) -> dict[str, np.ndarray]:
    """What `released_choice.py` writes, made once.

    Raises:
        NoTruthError: the tool failed or did not score by bits.
    """
    about = clip.stat()
    path = cache / "choices" / f"{clip.name}.{about.st_size}.{SAMPLED}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [str(python), str(SCRIPT), str(clip.resolve()), str(path), str(SAMPLED)]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
        if done.returncode or not path.is_file():
            words = [line for line in done.stderr.splitlines() if line.strip()]
            raise NoTruthError(words[-1] if words else f"the tool ended with status {done.returncode}")
    with np.load(path) as data:
        return dict(data)


def agreement(choice: dict[str, np.ndarray], clip: Path, model: BitCostMap | None) -> tuple[float, float]:
    """Share of the tool's blocks that ours also chooses, and what chance gives; means over its groups.

    Args:
        choice: of the tool.
        clip: the same.
        model: coefficients; None shares packet bytes out by log(1 + residual / 2) instead.
    """
    options = {"scores": "saliency"} if model is None else {}
    scorer = CodecTokenizer(preset="release", **options).scorer
    if model is not None:
        scorer.models["vectors"] = model
    stream = VideoStream(clip)
    info, grid = stream.info, (int(choice["grid"][0]), int(choice["grid"][1]))
    luma = (grid[0] * 10, grid[1] * 10) if model is None else macroblock_luma_size(info.coded_size)
    shared, chance = [], []
    for number in range(sum(name.startswith("frames_") for name in choice)):
        wanted = choice[f"frames_{number}"]
        how = {"luma_size": luma, "reference": True, "motion": True, "quantizer": True, "as_coded": model is not None}
        frames = list(stream.frames(wanted.tolist(), rgb=False, **how))
        if len(frames) != len(wanted):
            raise NoTruthError(f"{len(frames)} of {len(wanted)} frames decoded")
        scores = scorer.scores(frames, info, grid).values
        theirs = choice[f"blocks_{number}"]
        blocks = TopKBlockSelector(1)(scores, len(theirs), anchor=0)
        mine = np.stack([wanted[blocks[:, 0].numpy()], blocks[:, 1].numpy(), blocks[:, 2].numpy()], axis=1)
        both = {tuple(row) for row in mine.tolist()} & {tuple(row) for row in theirs.tolist()}
        shared.append(len(both) / max(1, len(theirs)))
        chance.append(len(theirs) / ((len(wanted) - 1) * grid[0] * grid[1]))
    return float(np.mean(shared)), float(np.mean(chance))
