"""Small clips made by FFmpeg's own encoders: a textured square over a drifting background.

Frame count, times, keyframes and the motion follow by arithmetic; pixels are lossy.
"""

import io
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter

from ov2kit.recipes.evidence.films.scheduling import kept_scheduling
from tests.paths import ROOT

SHARED = Path(os.environ.get("OV2KIT_CLIPS", ROOT.parent / "shared" / "clips"))

TIME_BASE = Fraction(1, 1000)


def shared_clip(name: str) -> Path:
    """A clip that is not part of the project; the test is skipped where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not in {SHARED}; set OV2KIT_CLIPS to the folder that has it")
    return path


def picture(index: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: each frame differs from every other one."""
    y, x = np.mgrid[0:height, 0:width]
    wave = 90 + 50 * np.sin((x + 2 * index) / 9.0) + 40 * np.cos((y - index) / 7.0)
    frame = np.stack([wave, wave[::-1], 255 - wave], axis=-1).clip(0, 255).astype(np.uint8)
    side = max(4, min(height, width) // 4)
    top = (3 * index) % max(1, height - side)
    left = (5 * index) % max(1, width - side)
    frame[top : top + side, left : left + side] = (250, 30 + 5 * (index % 40), 20)
    return frame


def encode(
    path: Path | io.BytesIO,
    *,
    codec: str = "libx264",
    frames: int = 30,
    size: tuple[int, int] = (96, 128),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    gop: int = 12,
    bframes: int = 2,
    times_ms: Sequence[int] | None = None,
    container: str | None = None,
    fps: int = 25,
    interlaced: bool = False,
) -> Path | io.BytesIO:
    """Encode `frames` pictures; `times_ms` gives their times, 1/fps apart by default."""
    target = path if isinstance(path, io.BytesIO) else str(path)
    with kept_scheduling(), av.open(target, "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = TIME_BASE if times_ms is not None else Fraction(1, fps)
        if codec not in ("mjpeg", "gif", "rawvideo", "ffv1", "png"):
            stream.codec_context.gop_size = gop
        if codec in ("libx264", "libx265", "mpeg4", "mpeg2video", "mpeg1video"):
            stream.codec_context.max_b_frames = bframes
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24").reformat(format=pix_fmt)
            frame.pts = times_ms[index] if times_ms is not None else index
            frame.time_base = stream.codec_context.time_base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def decoded(path: Path | bytes | io.BytesIO, size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Independent decode: every frame of the best video stream as RGB, one thread, no ov2kit."""
    source = io.BytesIO(path) if isinstance(path, bytes) else str(path) if isinstance(path, Path) else path
    pictures = []
    with av.open(source, metadata_errors="replace") as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, EOFError):
                continue
            for frame in frames:
                height, width = size or (frame.height, frame.width)
                flags = Interpolation.BILINEAR
                if (height, width) == (frame.height, frame.width):
                    flags |= Interpolation.ACCURATE_RND  # without it gbrp misses the last columns of odd widths
                planes = VideoReformatter().reformat(frame, width, height, "gbrp", interpolation=flags, threads=1)
                pictures.append(planes.to_ndarray())  # (H, W, 3) of red, green, blue
    return pictures
