"""What an encoder really spent on each block, as a yardstick for scores that only estimate it."""

import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks._peers.environments import clean_environment

EXPORT = Path(__file__).with_name("export_bits.py")
# Slice headers, parameter sets and SEI are in the packet but in no macroblock; much less than that
# means that the table was misread.
LEAST_RATIO = 0.9


class Truth(NamedTuple):
    """Bits of a clip's first frames.

    Attributes:
        bits: (T, rows, columns) int32 per macroblock of 16 pixels, as coded.
        kinds: (T,) "I", "P" or "B".
        size: coded height and width in pixels, cropped to what is shown.
    """

    bits: np.ndarray
    kinds: np.ndarray
    size: tuple[int, int]


class TruthError(RuntimeError):
    """There is no usable truth for a clip; the message says why."""


def load_truth(python: Path, clip: Path, frames: int, cache: Path) -> Truth:
    """Export (once) and read the truth of a clip.

    Args:
        python: of the environment of codec-video-prep.
        clip: H.264 video.
        frames: how many from the start.
        cache: folder for the exported arrays.

    Raises:
        TruthError: not H.264, or the decoder failed.
    """
    about = clip.stat()
    path = cache / f"{clip.name}.{about.st_size}.{about.st_mtime_ns}.{frames}.npz"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        command = [str(python), str(EXPORT), str(clip), str(path), str(frames)]
        done = subprocess.run(
            command, env=clean_environment(), capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode or not path.is_file():
            words = [line for line in done.stderr.splitlines() if line.strip()]
            raise TruthError(words[-1] if words else f"the export ended with status {done.returncode}")
    with np.load(path) as data:
        size = (int(data["size"][0]), int(data["size"][1]))
        if not np.array_equal(data["frame"], np.arange(len(data["frame"]))):
            raise TruthError("frames are missing from the export")
        return Truth(data["bits"], data["type"], size)


def check_against_packets(truth: Truth, nbytes: np.ndarray) -> float:
    """Macroblock bits / packet bits of the same frames.

    Raises:
        TruthError: more than the packets hold, or much less.
    """
    ratio = float(truth.bits.sum() / (8 * nbytes.sum()))
    if not LEAST_RATIO <= ratio <= 1.001:
        raise TruthError(f"macroblocks hold {ratio:.3f} of the packets' bits, expected {LEAST_RATIO} to 1")
    return ratio


def block_bits(truth: Truth, canvas: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """(T, rows, cols) bits per canvas block; a macroblock's bits are spread evenly over its area.

    Args:
        truth: of the clip.
        canvas: height and width in pixels to which the picture is scaled.
        grid: blocks per column and row of the canvas.
    """
    down = _shares(truth.bits.shape[1], truth.size[0], canvas[0], grid[0])
    across = _shares(truth.bits.shape[2], truth.size[1], canvas[1], grid[1])
    spread: np.ndarray = down @ truth.bits.astype(np.float64) @ across.T
    return spread


def _shares(macroblocks: int, source: int, target: int, blocks: int) -> np.ndarray:
    """(blocks, macroblocks): part of each macroblock that falls into each block, along one axis."""
    edges = np.minimum(np.arange(macroblocks + 1) * 16, source) * (target / source)
    side = target / blocks
    starts = np.arange(blocks)[:, None] * side
    overlap = np.minimum(edges[None, 1:], starts + side) - np.maximum(edges[None, :-1], starts)
    shares: np.ndarray = np.clip(overlap, 0, None) / np.maximum(edges[1:] - edges[:-1], 1e-9)
    return shares


def overlap_of_best(
    score: np.ndarray, truth: np.ndarray, counted: np.ndarray, window: int = 32, share: float = 0.1
) -> float:
    """Mean over windows of |best of score & best of truth| / |best|; `share` is what chance gives.

    Ties go to the earlier frame, then to raster order, as in the selector.

    Args:
        score: (T, rows, cols).
        truth: (T, rows, cols).
        counted: (T,) bool, frames that take part.
        window: frames that compete with each other.
        share: part of a window's blocks that is chosen.
    """
    found = []
    for start in range(0, len(truth), window):
        take = counted[start : start + window]
        if take.sum() < window // 4:  # the rest of a clip
            continue
        a, b = score[start : start + window][take].ravel(), truth[start : start + window][take].ravel()
        best = max(1, round(share * len(a)))
        chosen = [np.argsort(-x, kind="stable")[:best] for x in (a, b)]
        found.append(len(np.intersect1d(*chosen, assume_unique=True)) / best)
    return float(np.mean(found)) if found else float("nan")
