"""Frames to a video file by a real encoder, with settings that have a name."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov2kit.errors import OptionError, check_choice
from ov2kit.files import write_file
from ov2kit.recipes.evidence.films.scheduling import kept_scheduling

_HRD = {"x264-params": "mbtree=0:nal-hrd=cbr"}  # a constant rate to the byte, with filler
#: name -> (encoder, file suffix, options). One thread each, so that the same frames give the same bytes.
ENCODINGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "x264-veryfast": ("libx264", ".mp4", {"preset": "veryfast", "crf": "23"}),
    "x264-medium": ("libx264", ".mp4", {"preset": "medium", "crf": "23"}),
    "x264-slow": ("libx264", ".mp4", {"preset": "slow", "crf": "23"}),
    "x264-ultrafast": ("libx264", ".mp4", {"preset": "ultrafast", "crf": "23"}),
    "x264-cbr": ("libx264", ".mp4", {"preset": "medium", "b": "50k", "maxrate": "50k", "bufsize": "25k"}),
    "x264-lowrate": ("libx264", ".mp4", {"preset": "medium", "crf": "36"}),
    "x264-intra": ("libx264", ".mp4", {"preset": "medium", "crf": "23", "g": "1"}),
    "x264-rate": ("libx264", ".mp4", {"preset": "medium", "b": "300k", "maxrate": "300k", "bufsize": "150k"}),
    "x264-longgop": ("libx264", ".mp4", {"preset": "medium", "crf": "26", "g": "1000", "bf": "5"}),
    "x264-pyramid": ("libx264", ".mp4", {"preset": "slow", "crf": "24", "bf": "8", "b_strategy": "2", "refs": "4"}),
    "x264-vbr": ("libx264", ".mp4", {"preset": "medium", "b": "250k", "maxrate": "750k", "bufsize": "750k"}),
    "x264-hrd": ("libx264", ".mp4", {"preset": "medium", "b": "400k", "maxrate": "400k", "bufsize": "200k", **_HRD}),
    "x264-nobframes": ("libx264", ".mp4", {"preset": "medium", "crf": "23", "bf": "0"}),
    "hevc": ("libx265", ".mp4", {"preset": "veryfast", "crf": "25"}),
    "vp9": ("libvpx-vp9", ".webm", {"deadline": "realtime", "cpu-used": "6", "crf": "32", "b": "0"}),
    "av1": ("libsvtav1", ".mp4", {"preset": "10", "crf": "35"}),
}
# Macroblock trees are off: with them equal frames became different files. x265 does that whatever is turned off.
_PARAMS = {
    "libx264": {"x264-params": "mbtree=0"},
    "libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"},
    "libsvtav1": {"svtav1-params": "lp=1"},
}
#: what a clip of the default set is encoded by, drawn per clip
H264_MIX = ("x264-veryfast", "x264-medium", "x264-slow")
_GOP_SECONDS = 2


class EncoderError(OptionError):
    """A video cannot be written."""


def write_video(
    path: Path, frames: NDArray[np.uint8], fps: int, encoding: str, *, seconds: NDArray[np.float64] | None = None
) -> None:
    """Encode (T, H, W, 3) uint8 RGB frames; the file appears whole or not at all.

    Args:
        path: of the file; the suffix is that of the encoding.
        frames: of one size.
        fps: frames per second.
        encoding: a name of `ENCODINGS`.
        seconds: (T,) time of each frame, in whole milliseconds, where their distance varies.

    Raises:
        EncoderError: unknown encoding, or an encoder that this PyAV lacks.
        OutputError: it cannot be written.
    """
    import av

    check_choice("encoding", encoding, ENCODINGS, EncoderError)
    name, suffix, options = ENCODINGS[encoding]
    bitexact = {"fflags": "+bitexact"}
    with write_file(path) as file, av.open(file.name, "w", suffix[1:], container_options=bitexact) as container:
        try:
            stream: Any = container.add_stream(name, rate=fps)
        except (ValueError, av.FFmpegError) as error:
            raise EncoderError(f"{encoding} needs the encoder {name}, which this PyAV lacks ({error})") from error
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        base = Fraction(1, fps if seconds is None else 1000)
        stream.time_base = stream.codec_context.time_base = base
        stream.thread_count = 1
        stream.options = {"g": str(_GOP_SECONDS * fps), **_PARAMS.get(name, {}), **options}
        with kept_scheduling():
            stream.codec_context.open()
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index if seconds is None else round(seconds[index] * 1000), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
