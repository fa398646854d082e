"""Clips of any size, codec and length, made from one that is there."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av

from benchmarks._peers.looping import loop_clip
from ov2kit.recipes.evidence.films.scheduling import kept_scheduling

#: name in the table -> encoder, pixel format, options
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "H.264": ("libx264", {"preset": "veryfast", "crf": "26"}),
    "HEVC": ("libx265", {"preset": "superfast", "crf": "30", "x265-params": "log-level=none"}),
    "VP9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "40", "b": "0"}),
    "AV1": ("libsvtav1", {"preset": "10", "crf": "40"}),
    "MPEG-4": ("mpeg4", {"q": "6"}),
}
_RATE = 25
_KEYFRAMES = 60  # frames from one to the next


def encoded(source: Path, folder: Path, *, height: int, codec: str = "H.264", seconds: float = 8.0) -> Path:
    """The clip scaled to `height` at 16:9 and encoded again, from its start as often as it takes.

    Raises:
        LookupError: this FFmpeg has no such encoder.
    """
    encoder, options = ENCODERS[codec]
    width = -(-height * 16 // 9 // 2) * 2
    suffix = "mkv" if codec in ("VP9", "AV1") else "mp4"
    path = folder / f"{codec.replace('.', '').lower()}-{height}-{seconds:g}.{suffix}"
    if path.exists():
        return path
    try:
        av.Codec(encoder, "w")
    except av.error.FFmpegError as error:  # UnknownCodecError
        raise LookupError(f"this FFmpeg has no encoder {encoder}") from error
    with kept_scheduling(), av.open(str(path), "w") as out:
        stream = out.add_stream(encoder, rate=_RATE, options={**options, "g": str(_KEYFRAMES)})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = _KEYFRAMES
        for place, frame in enumerate(islice(_pictures(source), round(seconds * _RATE))):
            picture = frame.reformat(width, height, "yuv420p")
            picture.pts, picture.time_base = place, Fraction(1, _RATE)
            picture.pict_type = 0
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def lengthened(clip: Path, folder: Path, seconds: float) -> Path:
    """Its packets again and again."""
    path = folder / f"{clip.stem}-{seconds:g}s{clip.suffix}"
    if not path.exists():
        loop_clip(clip, path, seconds)
    return path


def _pictures(source: Path) -> Iterator[av.VideoFrame]:
    while True:
        with av.open(str(source)) as container:
            yield from container.decode(video=0)
