"""SpareThreads: work beside the decoders, in threads that no decoder needs.

Pictures are scaled while they are still in the processor's cache: by a spare thread if there is one,
else by the thread that decoded them. A backlog of full frames, and waking a thread for each, cost
more than they hide.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class SpareThreads(Generic[T, R]):
    """Calls `work` in a spare thread, or at once where there is none.

    Args:
        work: the function.
        threads: all threads there are.
        busy: how many of them decode; each that has ended is one more spare one.
    """

    def __init__(self, work: Callable[[T], R], threads: int, busy: int) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ov2kit-scale")
        self._idle = threading.Semaphore(max(0, threads - busy))

    def __call__(self, item: T) -> Future[R] | R:
        """The result, or where it will be."""
        if not self._idle.acquire(blocking=False):
            return self._work(item)
        future = self._pool.submit(self._work, item)
        future.add_done_callback(lambda _: self._idle.release())
        return future

    def add(self) -> None:
        """One more thread is spare."""
        self._idle.release()

    def close(self) -> None:
        """Drop what has not begun, and wait for what has."""
        self._pool.shutdown(cancel_futures=True)
