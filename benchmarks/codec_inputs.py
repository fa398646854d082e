"""Clips and made-up inputs of the codec benchmarks; all drawn with fixed seeds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.clips import shared_clip
from tests.paths import SAMPLE

BUNDLED = "bundled"
CLIPS = (
    BUNDLED, "bbb_720p.mp4", "bbb_bframes.mp4", "bbb_cut.mp4", "bbb_mpeg4.mp4", "bbb_vp8.webm", "bbb_vp9.webm",
    "bottles.mp4", "camera_mjpeg.avi", "nasa_hevc10.mp4", "nasa_streams.mp4", "pattern_av1.mkv",
)  # fmt: skip

FRAMES, CANVAS, GRID = 32, (280, 504), (10, 18)  # one group of a 16:9 video
LUMA, HALF = (100, 180), (140, 252)  # 10 pixels per block edge, as the tokenizer scores, and 14


def clip_path(name: str) -> Path:
    """The bundled clip, or one of the shared folder; skips where it is absent."""
    return SAMPLE if name == BUNDLED else shared_clip(name)


def hour_of_packets() -> tuple[Tensor, Tensor, Tensor]:
    """Seconds, bytes and key flags of 90 000 packets at 25 a second: shots of 2 to 12 s, B-frames, keyframes."""
    rng = np.random.default_rng(0)
    count = 90_000
    seconds = np.arange(count) / 25.0
    starts = np.cumsum(rng.uniform(2, 12, size=1800))
    shot = np.searchsorted(starts, seconds)
    busy = rng.lognormal(7.5, 1.0, size=len(starts) + 1)[shot]
    nbytes = busy * rng.lognormal(0, 0.4, size=count) * np.where(np.arange(count) % 3 == 0, 3, 1)
    is_key = np.diff(shot, prepend=-1) > 0
    nbytes[is_key] *= 20
    return torch.from_numpy(seconds), torch.from_numpy(nbytes.astype(np.int64)), torch.from_numpy(is_key)


def block_scores(frames: int, device: str = "cpu") -> Tensor:
    """(frames, *GRID) float32 with a busy spot that wanders."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(frames, *GRID, generator=generator)
    spot = torch.arange(frames) % GRID[1]
    noise[torch.arange(frames), GRID[0] // 2, spot] += 5
    return noise.to(device)


def saliency_inputs(size: tuple[int, int], device: str) -> dict[str, Tensor]:
    """luma, reference, motion, nbytes, valid and distance of FRAMES frames whose picture shifts by (2, 1) pixels."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.randint(0, 256, (size[0] + 2 * FRAMES, size[1] + 2 * FRAMES), generator=generator, dtype=torch.uint8)
    cut = [wide[t : t + size[0], 2 * t : 2 * t + size[1]] for t in range(FRAMES)]
    luma = torch.stack(cut)
    motion = torch.zeros(FRAMES, 45, 80, 2) + torch.tensor([2.0, 1.0])  # 8-pixel cells of 360 x 640
    motion += 0.3 * torch.randn(motion.shape, generator=generator)
    made = {
        "luma": luma,
        "reference": torch.cat([luma[:1], luma[:-1]]),
        "motion": motion,
        "nbytes": torch.randint(500, 20_000, (FRAMES,), generator=generator).float(),
        "valid": torch.arange(FRAMES) > 0,
        "distance": torch.ones(FRAMES),
    }
    return {name: tensor.to(device) for name, tensor in made.items()}


@contextmanager
def opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """A container and its best video stream, vectors exported, slice threads."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        assert stream is not None
        stream.codec_context.options = {"flags2": "+export_mvs"}
        stream.thread_type = "SLICE"
        yield container, stream


def some_pictures(path: Path, count: int) -> list[av.VideoFrame]:
    """The first decoded pictures of a clip."""
    with opened(path) as (container, stream):
        return [frame for _, frame in zip(range(count), container.decode(stream), strict=False)]


def some_vectors(path: Path, count: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Vectors of the first `count` pictures that have any: structured array, frame of each, coded size."""
    arrays: list[np.ndarray] = []
    size = (0, 0)
    with opened(path) as (container, stream):
        for frame in container.decode(stream):
            side = frame.side_data.get("MOTION_VECTORS")
            if side is not None:
                arrays.append(side.to_ndarray())
                size = (frame.height, frame.width)
            if len(arrays) == count:
                break
    if not arrays:
        pytest.skip(f"{path.name}: its decoder exports no motion vectors")
    owner = np.repeat(np.arange(len(arrays)), [len(a) for a in arrays])
    return np.concatenate(arrays), owner, size
