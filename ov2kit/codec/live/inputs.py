"""What a stream can be read from: an address, a pipe, a file that grows, an object with `read`.

Everything that may block waits in a way that `Stop` ends: a pipe on its descriptor, a file on a clock. FFmpeg's own
network protocols end by their timeout.
"""

import os
import select
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

import av

from ov2kit.codec.live.mp4_index import BoxWalk
from ov2kit.codec.video.source import OPEN_ERRORS
from ov2kit.errors import VideoError, shorten

#: schemes that FFmpeg reads from a network
SCHEMES = ("http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
# What an address may lead on to: never a local file.
_ALLOWED = "crypto,hls,http,httpproxy,https,rtmp,rtmps,rtp,rtsp,rtsps,srt,srtp,tcp,tls,udp"
# Whoever sends by these goes on at the speed of what is filmed.
_NOT_HELD_BACK = ("rtmp", "rtp:", "rtsp", "srt:", "udp:")
_MAY_BE_FILES = ("http:", "https:", "tcp:")
_POLL_SECONDS = 0.1
_WALK_BYTES = 1 << 16

LiveSource = str | os.PathLike[str] | BinaryIO


class Stop:
    """A flag that waiting readers see at once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.read_end, self._write_end = os.pipe()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        if not self._event.is_set():
            self._event.set()
            os.write(self._write_end, b"x")

    def wait(self, seconds: float) -> bool:
        """Whether it was set within so many seconds."""
        return self._event.wait(seconds)

    def close(self) -> None:
        for end in (self.read_end, self._write_end):
            with suppress(OSError):
                os.close(end)


class Input(Protocol):
    """Something that can be opened, and opened again."""

    label: str
    may_return: bool  # worth opening again once it has ended
    ends_alone: bool  # its reader says when nothing more comes
    can_wait: bool  # its sender can be held back and loses nothing

    def open(self, stop: Stop, walk: BoxWalk) -> tuple[Any, dict[str, str]]:
        """What `av.open` takes, and its options.

        Args:
            stop: ends what waits.
            walk: sees what is read, other than by FFmpeg itself.

        Raises:
            OSError: it cannot be opened now.
        """

    def close(self) -> None:
        """Release what `open` gave."""


class Address:
    """A stream on a network, read by FFmpeg.

    Args:
        url: with one of `SCHEMES`.
    """

    may_return = True
    ends_alone = False

    def __init__(self, url: str) -> None:
        self.url, self.label = url, _without_password(url)
        self.can_wait = not url.lower().startswith(_NOT_HELD_BACK)

    def open(self, stop: Stop, walk: BoxWalk) -> tuple[str, dict[str, str]]:
        """See `Input`."""
        options = {"protocol_whitelist": _ALLOWED}
        if self.url.startswith(("rtsp://", "rtsps://")):
            options["rtsp_transport"] = "tcp"
        return self.url, options

    def close(self) -> None:
        """See `Input`."""

    def look(self, walk: BoxWalk, seconds: float) -> None:
        """Let a walk see how the stream begins, in a connection of its own, where files come that way.

        Args:
            walk: sees the first bytes.
            seconds: to wait for the network.
        """
        if not self.url.lower().startswith(_MAY_BE_FILES):
            return
        options = {"protocol_whitelist": _ALLOWED}
        with (
            suppress(*OPEN_ERRORS),
            av.open(self.url, mode="r", format="data", options=options, timeout=(seconds, seconds)) as raw,
        ):
            for packet in raw.demux():
                walk.feed(bytes(packet))
                if walk.is_done:
                    return


class _Walked:
    """An object with `read` that FFmpeg does not seek in."""

    def __init__(self, read: Callable[[int], bytes], walk: BoxWalk) -> None:
        self._read, self._walk = read, walk

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self._walk.feed(data)
        return data


class _Descriptor:
    """Reads a pipe, but not longer than until `stop`."""

    def __init__(self, descriptor: int, stop: Stop) -> None:
        self._descriptor, self._stop = descriptor, stop

    def read(self, size: int) -> bytes:
        while not self._stop.is_set:
            ready, _, _ = select.select([self._descriptor, self._stop.read_end], [], [])
            if self._descriptor in ready:
                with suppress(BlockingIOError):
                    return os.read(self._descriptor, size)
        return b""


class Pipe:
    """A named pipe, opened for reading, or standard input.

    Args:
        path: of the pipe; None for standard input.
    """

    ends_alone = False
    can_wait = True

    def __init__(self, path: Path | None) -> None:
        self._path, self.label = path, "standard input" if path is None else str(path)
        self.may_return = path is not None
        self._descriptor: int | None = None

    def open(self, stop: Stop, walk: BoxWalk) -> tuple[_Walked, dict[str, str]]:
        """See `Input`. A pipe that nobody writes to yet is waited for."""
        if self._path is None:
            return _Walked(_Descriptor(sys.stdin.fileno(), stop).read, walk), {}
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        while not stop.is_set:  # without a writer a pipe reads as ended
            ready, _, _ = select.select([self._descriptor, stop.read_end], [], [], _POLL_SECONDS)
            if self._descriptor in ready and not _has_hung_up(self._descriptor):
                break
            stop.wait(_POLL_SECONDS if self._descriptor in ready else 0)
        return _Walked(_Descriptor(self._descriptor, stop).read, walk), {}

    def close(self) -> None:
        """See `Input`."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Growing:
    """Reads a file and waits for more at its end."""

    def __init__(self, file: BinaryIO, stop: Stop, end_seconds: float) -> None:
        self._file, self._stop, self._end = file, stop, end_seconds
        self._waited = 0.0  # since it grew: FFmpeg asks more than once at the end

    def read(self, size: int) -> bytes:
        while True:
            data = self._file.read(size)
            if data:
                self._waited = 0.0
            if data or self._waited >= self._end or self._stop.wait(min(_POLL_SECONDS, self._end)):
                return data
            self._waited += _POLL_SECONDS


class GrowingFile:
    """A file that another program still writes.

    Args:
        path: of the file.
        end_seconds: a file that has not grown for so long has ended.
    """

    may_return = False
    ends_alone = can_wait = True

    def __init__(self, path: Path, end_seconds: float) -> None:
        self._path, self._end, self.label = path, end_seconds, str(path)
        self._file: BinaryIO | None = None

    def open(self, stop: Stop, walk: BoxWalk) -> tuple[Any, dict[str, str]]:
        """See `Input`. An MP4 with its index at the end was finished with that, and is read as any file."""
        self._file = open(self._path, "rb")  # noqa: SIM115 - closed by `close`
        ahead = BoxWalk()
        while not ahead.is_done and (data := self._file.read(_WALK_BYTES)):
            ahead.feed(data)
        self._file.seek(0)
        if ahead.index_is_last:
            walk.index_is_last = True
            return self._file, {}
        return _Walked(_Growing(self._file, stop, self._end).read, walk), {}

    def close(self) -> None:
        """See `Input`."""
        if self._file is not None:
            self._file.close()
            self._file = None


class FileObject:
    """An object with `read`; it stays open.

    Args:
        file: a binary file, or a socket's.
    """

    may_return = ends_alone = False
    can_wait = True

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.label = file, f"<{getattr(file, 'name', type(file).__name__)}>"

    def open(self, stop: Stop, walk: BoxWalk) -> tuple[_Walked, dict[str, str]]:
        """See `Input`."""
        return _Walked(self._file.read, walk), {}

    def close(self) -> None:
        """See `Input`."""


def input_of(source: LiveSource, end_seconds: float) -> Input:
    """What a source is.

    Args:
        source: an address with one of `SCHEMES`, "-" for standard input, the path of a file or named pipe, or an
            object with `read`.
        end_seconds: see `GrowingFile`.

    Raises:
        VideoError: it is none of these.
    """
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            raise VideoError(f"source must be a path, an address, or an object with read, got {shorten(source)}")
        return FileObject(source)
    text = os.fspath(source)
    if "://" in text:
        scheme = text.split("://", 1)[0].lower()
        if scheme in SCHEMES:
            return Address(text)
        if scheme != "file":
            raise VideoError(f"{_without_password(text)}: unknown scheme {scheme!r}; known: {', '.join(SCHEMES)}, file")
        text = text[len("file://") :]
    if text == "-":
        return Pipe(None)
    path = Path(text).expanduser().absolute()
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise VideoError(f"{text}: {error.strerror}; expected a file, a named pipe or an address") from error
    if stat.S_ISFIFO(kind):
        return Pipe(path)
    if stat.S_ISREG(kind):
        return GrowingFile(path, end_seconds)
    raise VideoError(f"{text}: neither a file nor a named pipe")


def _has_hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not any(state & select.POLLIN for _, state in poll.poll(0))


def _without_password(url: str) -> str:
    """An address as it may be shown."""
    try:
        parts = urlsplit(url)
        if parts.password is None and parts.username is None:
            return url
        host = parts.netloc.rsplit("@", 1)[-1]
        return parts._replace(netloc=host).geturl()
    except ValueError:
        return url.rsplit("@", maxsplit=1)[-1]
