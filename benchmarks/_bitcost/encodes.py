"""Clips to calibrate with: sources encoded again at settings drawn at random, from a seed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

FRAMES = 48
PROCEDURAL = ("drift", "noise", "shapes")
_HEIGHTS = (144, 240, 288, 360, 480)


@dataclass(frozen=True)
class Encode:
    """One clip to make.

    Args:
        source: name of the source clip, or of a procedural one.
        path: of the source; None for a procedural one.
        encoder: FFmpeg's name.
        height: of the picture; the width keeps the aspect.
        gop: frames between keyframes.
        bframes: most B-frames in a row.
        options: of the encoder.
    """

    source: str
    path: Path | None
    encoder: str
    height: int
    gop: int
    bframes: int
    options: dict[str, str] = field(default_factory=dict)

    def name(self, index: int) -> str:
        suffix = "webm" if "vpx" in self.encoder else "mp4"
        return f"{index:03d}.{self.source.rsplit('.', 1)[0]}.{self.encoder}.{suffix}"

    def describe(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "path"}


def plan_encodes(sources: list[Path], seed: int, per_source: int = 3) -> list[Encode]:
    """H.264 `per_source` times, HEVC once for each source, VP9 once for every other one."""
    draw = np.random.default_rng(seed)
    inputs: list[tuple[str, Path | None]] = [(path.name, path) for path in sources] + [(n, None) for n in PROCEDURAL]
    plan = []
    for place, (name, path) in enumerate(inputs):
        for _ in range(per_source if path else 1):
            plan.append(_h264(name, path, draw))
        plan.append(_hevc(name, path, draw))
        if place % 2 == 0:
            plan.append(_vp9(name, path, draw))
    return plan


def _h264(name: str, path: Path | None, draw: np.random.Generator) -> Encode:
    preset = str(draw.choice(["ultrafast", "veryfast", "fast", "medium", "medium", "slow"]))
    options = {"preset": preset, "aq-mode": str(draw.choice([0, 1, 1, 1, 2, 3])), "threads": "1"}
    bframes = int(draw.choice([0, 0, 2, 3, 5]))
    if draw.random() < 0.25:
        options["profile"], bframes = "baseline", 0
    if draw.random() < 0.2:
        options["tune"], bframes = "zerolatency", 0
    height = int(draw.choice(_HEIGHTS))
    if draw.random() < 0.6:
        options["crf"] = str(draw.choice([18, 22, 26, 30, 34]))
    else:
        kilobits = int(float(draw.choice([0.03, 0.08, 0.15])) * height * height * 16 / 9 * 25 / 1000)
        options |= {"b": f"{kilobits}k", "maxrate": f"{2 * kilobits}k", "bufsize": f"{2 * kilobits}k"}
    return Encode(name, path, "libx264", height, int(draw.choice([12, 30, 60, 250])), bframes, options)


def _hevc(name: str, path: Path | None, draw: np.random.Generator) -> Encode:
    size = int(draw.choice([16, 32, 64, 64]))
    options = {
        "preset": str(draw.choice(["ultrafast", "veryfast", "medium"])),
        "crf": str(draw.choice([22, 26, 30, 34])),
        "x265-params": f"ctu={size}:pools=1:frame-threads=1:log-level=none",
    }
    return Encode(name, path, "libx265", int(draw.choice(_HEIGHTS[1:])), int(draw.choice([30, 60, 250])),
                  int(draw.choice([0, 3, 4])), options)  # fmt: skip


def _vp9(name: str, path: Path | None, draw: np.random.Generator) -> Encode:
    options = {"deadline": "realtime", "cpu-used": str(draw.choice([4, 6, 8])), "crf": str(draw.choice([24, 32, 40])),
               "b": "0", "auto-alt-ref": "0", "threads": "1"}  # fmt: skip
    return Encode(name, path, "libvpx-vp9", int(draw.choice(_HEIGHTS[1:])), int(draw.choice([60, 250])), 0, options)


def make(encode: Encode, target: Path) -> None:
    """Write the clip, unless it is there."""
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name("part-" + target.name)
    pictures = _procedural(encode) if encode.path is None else _decoded(encode.path, encode.height)
    with av.open(str(part), "w") as out:
        stream = None
        for index, frame in enumerate(pictures):
            if stream is None:
                stream = out.add_stream(encode.encoder, rate=25, options=dict(encode.options))
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                stream.codec_context.gop_size = encode.gop
                stream.codec_context.max_b_frames = encode.bframes
                stream.codec_context.thread_count = 1
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        assert stream is not None, encode
        out.mux(stream.encode(None))
    part.rename(target)


def _decoded(path: Path, height: int) -> Iterator[av.VideoFrame]:
    """`FRAMES` frames from a quarter into the clip, scaled down to `height` at most."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.best("video")
        skip = max(0, min((stream.frames or 0) // 4, (stream.frames or 0) - FRAMES))
        given = 0
        for index, frame in enumerate(container.decode(stream)):
            if index < skip:
                continue
            scale = min(1.0, height / min(frame.height, frame.width))
            width, tall = (max(2, round(side * scale / 2) * 2) for side in (frame.width, frame.height))
            yield av.VideoFrame.from_ndarray(
                frame.reformat(width, tall, "yuv420p", interpolation="AREA").to_ndarray(), format="yuv420p"
            )
            given += 1
            if given == FRAMES:
                return


def _procedural(encode: Encode) -> Iterator[av.VideoFrame]:
    """Texture that drifts, texture with noise on it, or shapes that move over a still background."""
    height, width = encode.height, encode.height * 16 // 9 // 2 * 2
    draw = np.random.default_rng(len(encode.source))
    coarse = draw.normal(size=(height // 4 + 40, width // 4 + 40))
    texture = coarse.repeat(4, 0).repeat(4, 1)
    for _ in range(2):
        texture = (texture + np.roll(texture, 1, 0) + np.roll(texture, 1, 1) + np.roll(texture, 2, 1)) / 2
    texture = 120 + 40 * texture / texture.std()
    y, x = np.mgrid[0:height, 0:width]
    for t in range(FRAMES):
        if encode.source == "shapes":
            picture = 110 + 30 * np.sin(x / 40.0) + 20 * np.cos(y / 25.0)
            for n in range(6):
                middle = (height * (0.5 + 0.4 * np.sin(t / 9 + n)), width * (0.5 + 0.4 * np.cos(t / 13 + 2 * n)))
                inside = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < (height / (8 + n)) ** 2
                picture = np.where(inside, texture[n : n + height, 9 * n : 9 * n + width], picture)
        else:
            down, across = t // 2 % 90, t % 120
            picture = texture[down : down + height, across : across + width]
            if encode.source == "noise":
                picture = picture + draw.normal(scale=4, size=picture.shape)
        gray = np.full((height * 3 // 2, width), 128, dtype=np.uint8)
        gray[:height] = picture.clip(16, 235)
        yield av.VideoFrame.from_ndarray(gray, format="yuv420p")
