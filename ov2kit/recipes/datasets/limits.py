"""What a video may take: hostile or broken files meet a bound, and each bound has its own error."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from av.container import InputContainer

from ov2kit.codec.video.playlists import ReferencesError
from ov2kit.codec.video.source import OPEN_ERRORS, Source, choose_stream, demux_packets
from ov2kit.errors import VideoError, check_number


class LimitError(VideoError):
    """A video exceeds a limit; `kind` names it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Limits:
    """Bounds per video.

    Args:
        bytes: of the file.
        streams: in the container.
        pixels: of one picture as it is coded.
        packets: of the video stream.
        frames: of it, as the container declares them.
        duration: seconds from its first to its last picture.
        seconds: of wall time that one attempt may take.
        memory: bytes that a worker may take beyond what it holds when it starts; on Linux.
    """

    bytes: int = 2**36
    streams: int = 64
    pixels: int = 2**26
    packets: int = 2_000_000
    frames: int = 2_000_000
    duration: float = 24 * 3600.0
    seconds: float = 1800.0
    memory: int = 2**32

    def __post_init__(self) -> None:
        for each in fields(self):
            whole = each.type in (int, "int")
            check_number(f"limits.{each.name}", getattr(self, each.name), above=0, integer=whole)

    def of_content(self) -> dict[str, float]:
        """Those that decide by the file alone: part of what a result is known by."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("seconds", "memory")}


def check_limits(path: Path, limits: Limits) -> None:
    """Refuse a file by what its container says, before a picture is decoded.

    Raises:
        LimitError: it exceeds a limit, or would open other files.
        VideoError: it is no video that can be opened.
    """
    size = path.stat().st_size
    if size > limits.bytes:
        raise LimitError("bytes", f"{size} bytes are more than limits.bytes={limits.bytes}")
    source = Source(path, limits.pixels)
    with _opened(source) as container:
        if len(container.streams) > limits.streams:
            raise LimitError(
                "streams", f"{len(container.streams)} streams are more than limits.streams={limits.streams}"
            )
        for video in container.streams.video:
            context = video.codec_context
            if context is not None and context.width * context.height > limits.pixels:
                raise LimitError(
                    "pixels",
                    f"pictures of {context.width} x {context.height} are more than limits.pixels={limits.pixels}",
                )
        stream = choose_stream(container, source.label, None, limits.pixels)
        if stream.frames > limits.frames:
            raise LimitError("frames", f"{stream.frames} frames are more than limits.frames={limits.frames}")
        base = float(stream.time_base or 0)
        first, last = np.inf, -np.inf
        try:
            for count, packet in enumerate(demux_packets(container, stream), start=1):
                if count > limits.packets:
                    raise LimitError("packets", f"more packets than limits.packets={limits.packets}")
                if packet.pts is not None:
                    first, last = min(first, packet.pts * base), max(last, packet.pts * base)
                if last - first > limits.duration:
                    raise LimitError("duration", f"more seconds than limits.duration={limits.duration:g}")
        except OPEN_ERRORS as error:
            if isinstance(error, LimitError):
                raise  # of ours: it is a ValueError too
            # what lies before the damage may be worth having: the tokenizer decides


@contextmanager
def _opened(source: Source) -> Iterator[InputContainer]:
    try:
        with source.open() as container:
            yield container
    except ReferencesError as error:
        raise LimitError("references", "names other files to open, which is not allowed") from error
