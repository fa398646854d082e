"""Bounded queues between the thread that demuxes and the threads that decode."""

import queue
import threading
from collections.abc import Iterator

from ov2kit.codec.video.source import AnyPacket


class _StopWork(Exception):  # noqa: N818 - not an error
    """The consumer has gone; threads unwind."""


class _PacketQueue:
    """Packets of one job; `put` waits while too many bytes are ahead in all jobs together."""

    def __init__(self, room: "_Room") -> None:
        self._items: queue.SimpleQueue[tuple[int, AnyPacket] | None] = queue.SimpleQueue()
        self._room = room
        self._begun = threading.Event()
        self.before: tuple[tuple[int, AnyPacket], ...] | None = None

    def begin(self, primers: tuple[tuple[int, AnyPacket], ...]) -> None:
        """The packets that tell a decoder what came before this job."""
        self.before = primers
        self._begun.set()

    def wait(self) -> tuple[tuple[int, AnyPacket], ...]:
        """What `begin` was given, once it was."""
        self._begun.wait()
        return self.before or ()

    def put(self, index: int, packet: AnyPacket) -> None:
        self._room.take(packet.size)
        self._items.put((index, packet))

    def close(self) -> None:
        self._items.put(None)
        self._begun.set()

    def __iter__(self) -> Iterator[tuple[int, AnyPacket]]:
        while (item := self._items.get()) is not None:
            yield item
            self._room.give(item[1].size)
        if self._room.stopped:
            raise _StopWork


class _Room:
    """A count of bytes in flight that never blocks the only packet in flight."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._ready = threading.Condition()
        self.stopped = False

    def take(self, size: int) -> None:
        with self._ready:
            while self._used and self._used + size > self._limit and not self.stopped:
                self._ready.wait()
            if self.stopped:
                raise _StopWork
            self._used += size

    def give(self, size: int) -> None:
        with self._ready:
            self._used -= size
            self._ready.notify()

    def stop(self) -> None:
        with self._ready:
            self.stopped = True
            self._ready.notify_all()
