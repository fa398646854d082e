"""Bounded queues between the thread that demuxes, the threads that decode, and the loop over frames."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ov2kit.codec.video.dealing import Primers
from ov2kit.codec.video.source import AnyPacket


class StopWork(Exception):  # noqa: N818 - not an error
    """The consumer has gone; threads unwind."""


class Room:
    """A count of bytes in flight that never blocks the only packet in flight."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._ready = threading.Condition()
        self.stopped = False

    @property
    def used(self) -> int:
        """Bytes in flight."""
        return self._used

    def take(self, size: int) -> None:
        with self._ready:
            while self._used and self._used + size > self._limit and not self.stopped:
                self._ready.wait()
            if self.stopped:
                raise StopWork
            self._used += size

    def give(self, size: int) -> None:
        with self._ready:
            self._used -= size
            self._ready.notify()

    def stop(self) -> None:
        with self._ready:
            self.stopped = True
            self._ready.notify_all()


class PacketQueue:
    """Packets of one job; `put` waits while too many bytes are ahead in all jobs together."""

    def __init__(self, room: Room) -> None:
        self._items: queue.SimpleQueue[tuple[int, AnyPacket] | None] = queue.SimpleQueue()
        self._room = room
        self._begun = threading.Event()
        self.before: Primers | None = None

    def begin(self, primers: Primers) -> None:
        """The packets that tell a decoder what came before this job."""
        self.before = primers
        self._begun.set()

    def wait(self) -> Primers:
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
            raise StopWork


class HeldBack:
    """Results of a job that may turn out to be damaged, kept back until there are too many of them.

    Args:
        give: passes a result on.
        most: how many are kept back; from there on each is passed on at once.
    """

    def __init__(self, give: Callable[[Any], None], most: int) -> None:
        self._give, self._most = give, most
        self._held: list[Any] | None = []

    def add(self, item: Any) -> None:
        if self._held is None:
            self._give(item)
            return
        self._held.append(item)
        if len(self._held) > self._most:
            self.release()

    def release(self) -> None:
        """Pass on what is kept back, and all that follows."""
        held, self._held = self._held or [], None
        for item in held:
            self._give(item)


def put(results: "queue.Queue[Any]", item: Any, room: Room) -> None:
    """Wait for a place in a bounded queue, but not for a consumer that has gone."""
    while True:
        if room.stopped:
            raise StopWork
        try:
            return results.put(item, timeout=0.1)
        except queue.Full:
            continue
