"""Bounded queues between threads that read or decode and the loop that takes what they give."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

_T = TypeVar("_T")


class StopWork(Exception):  # noqa: N818 - not an error
    """The consumer has gone; threads unwind."""


class Stop:
    """Whether the consumer has gone."""

    stopped = False

    def stop(self) -> None:
        """It has."""
        self.stopped = True

    def until(self, items: Iterable[_T]) -> Iterator[_T]:
        """Items as long as it has not; `StopWork` then."""
        for item in items:
            if self.stopped:
                raise StopWork
            yield item


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


class Backlog:
    """Counts what was given and not taken yet, so that no thread goes on to its next job while that is too much.

    Args:
        most: from how much on it is.
    """

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._fewer = threading.Condition()

    def give(self, count: int) -> None:
        """So many more."""
        with self._fewer:
            self._count += count

    def take(self, count: int) -> None:
        """So many fewer."""
        with self._fewer:
            self._count -= count
            if self._count < self._most:
                self._fewer.notify_all()

    def wait(self, stop: Stop) -> bool:
        """Wait until it is less: True then, False if the consumer has gone."""
        with self._fewer:
            while self._count >= self._most and not stop.stopped:
                self._fewer.wait(0.1)
        return not stop.stopped


def put(results: "queue.Queue[Any]", item: Any, stop: Stop) -> None:
    """Wait for a place in a bounded queue, but not for a consumer that has gone."""
    while True:
        if stop.stopped:
            raise StopWork
        try:
            return results.put(item, timeout=0.1)
        except queue.Full:
            continue
