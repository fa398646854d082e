"""Reader: a thread that opens a source, takes packets from it, and opens it again when it has died."""

import contextlib
import errno
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
from av.container import InputContainer
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.live.inputs import Address, Input, Stop
from ov2kit.codec.live.mp4_index import INDEX_LAST, INDEX_LAST_AT_ADDRESS, BoxWalk
from ov2kit.codec.live.room import Room
from ov2kit.codec.video.queues import StopWork, put
from ov2kit.codec.video.source import OPEN_ERRORS, AnyPacket, choose_stream, demux_packets, reason
from ov2kit.errors import VideoError

_PACKETS_AHEAD = 1024
_BYTES_AHEAD = 32 << 20
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 8.0  # seconds before a source is opened again


@dataclass(frozen=True)
class Arrival:
    """A packet, when it came, and where from."""

    packet: AnyPacket
    seconds: float
    container: InputContainer
    stream: AVStream


@dataclass(frozen=True)
class Fault:
    """A source could not be opened, or ended.

    Args:
        message: what happened.
        seconds: when, on the clock of `time.monotonic`.
        is_final: it is not opened again.
    """

    message: str
    seconds: float
    is_final: bool


class Reader:
    """Packets of a source through a bounded queue: a reader that is ahead waits, and so does its sender.

    Args:
        source: where they come from.
        reconnect: open a source again that has died; False ends with it.
        timeout_seconds: how long FFmpeg waits for a network.
        max_source_pixels: most pixels of a picture.
    """

    def __init__(self, source: Input, *, reconnect: bool, timeout_seconds: float, max_source_pixels: int) -> None:
        self._source, self._reconnect = source, reconnect and source.may_return
        self._timeout, self._most = timeout_seconds, max_source_pixels
        self._stop = Stop()
        self._room = Room(_BYTES_AHEAD)
        self._queue: queue.Queue[Arrival | Fault] = queue.Queue(_PACKETS_AHEAD)
        self._open: dict[int, tuple[InputContainer, set[str]]] = {}  # containers, and what uses them
        self._lock, self._is_left = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="ov2kit-source", daemon=True)
        self._thread.start()

    def get(self, seconds: float) -> Arrival | Fault | None:
        """What comes next; None if nothing came for so long."""
        try:
            item = self._queue.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if isinstance(item, Arrival):
            self._room.give(item.packet.size)
        return item

    def is_full(self) -> bool:
        """Whether hardly more can wait: soon the source is held back, or loses what it sends."""
        return self._queue.qsize() > 0.9 * _PACKETS_AHEAD or self._room.used > 0.9 * _BYTES_AHEAD

    def close(self, seconds: float = 1.0) -> None:
        """End the thread. One that waits for a network ends by its timeout, and is not waited for so long."""
        self._stop.set()
        self._room.stop()
        self._thread.join(seconds)
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        with self._lock:
            self._is_left = True
            left = [container for container, _ in self._open.values()]
        for container in left:
            self.release(container)
        if not self._thread.is_alive():
            self._stop.close()

    def release(self, container: InputContainer) -> None:
        """The decoder of a container is no longer needed; it is closed once its packets are no longer read."""
        self._leave(container, "decoder")

    def _leave(self, container: InputContainer, user: str) -> None:
        with self._lock:
            _, users = self._open.get(id(container), (container, None))
            if users is None:
                return  # closed already
            users -= {user, "decoder"} if self._is_left else {user}
            if users:
                return
            del self._open[id(container)]
        container.close()

    def _run(self) -> None:
        wait = _FIRST_WAIT
        while not self._stop.is_set:
            came, walk, is_hopeless = False, BoxWalk(), False
            failure: Exception | None = None
            may_be_mp4 = True
            try:
                for arrival in self._arrivals(walk):
                    came = True
                    self._room.take(arrival.packet.size)
                    put(self._queue, arrival, self._room)
                message = "the stream ended"
            except StopWork:
                return
            except VideoError as error:
                message, may_be_mp4 = str(error), False  # it was opened, and holds no pictures that can be used
            except OPEN_ERRORS as error:
                message, failure = reason(error), error
                if not came and _is_of_content(error):
                    message = f"not a video that can be opened as it comes ({message})"
            if not came and may_be_mp4 and (found := self._index_fault(failure, walk)):
                message, is_hopeless = found, True
            wait = _FIRST_WAIT if came else min(2 * wait, _LONGEST_WAIT)
            fault = Fault(message, time.monotonic(), is_final=is_hopeless or not self._reconnect)
            with contextlib.suppress(StopWork):
                put(self._queue, fault, self._room)
            if fault.is_final or self._stop.wait(wait):
                return

    def _index_fault(self, error: Exception | None, walk: BoxWalk) -> str | None:
        """What to say where a source that gave no packet is an MP4 with its index at the end, which it will stay."""
        if not isinstance(self._source, Address):
            return INDEX_LAST if walk.index_is_last else None
        if (error is None or _is_of_content(error)) and not self._stop.is_set:
            self._source.look(walk, self._timeout)
        return INDEX_LAST_AT_ADDRESS if walk.index_is_last else None

    def _arrivals(self, walk: BoxWalk) -> Iterator[Arrival]:
        """Packets until the source ends or dies."""
        try:
            target, options = self._source.open(self._stop, walk)
            options |= {"max_pixels": str(self._most)}
            timeout: dict[str, Any] = {"timeout": (self._timeout, self._timeout)} if isinstance(target, str) else {}
            container = av.open(target, mode="r", metadata_errors="replace", options=options, **timeout)
            with self._lock:
                self._open[id(container)] = (container, {"reader", "decoder"})
            try:
                stream = choose_stream(container, self._source.label, None, self._most)
                for packet in demux_packets(container, stream):
                    if self._stop.is_set:
                        return
                    yield Arrival(packet, time.monotonic(), container, stream)
            finally:
                self._leave(container, "reader")
        finally:
            self._source.close()


def _is_of_content(error: Exception) -> bool:
    """Whether FFmpeg ends so where a stream came but cannot be read; not where nothing came."""
    return isinstance(error, av.error.InvalidDataError) or getattr(error, "errno", None) == errno.EIO
