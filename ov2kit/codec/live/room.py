"""Room: how many bytes may be on their way between two threads."""

import threading

from ov2kit.codec.video.queues import Stop, StopWork


class Room(Stop):
    """A count of bytes in flight that never blocks the only packet in flight."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._ready = threading.Condition()

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
