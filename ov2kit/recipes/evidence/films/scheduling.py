"""How the system schedules this process, kept as it is while an encoder starts."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextlib.contextmanager
def kept_scheduling() -> Iterator[None]:
    """Inside, threads may be made real-time ones; afterwards those that were not before are as usual again.

    SVT-AV1, where it may (as root), gives the thread that opens it and its own the highest real-time priority and never
    takes it back: all that this process starts later would go before everything else on the machine.
    """
    if not _THREADS.is_dir():  # another system than Linux
        yield
        return
    before = {thread for thread in _threads() if _is_real_time(thread)}
    try:
        yield
    finally:
        for thread in _threads() - before:
            with contextlib.suppress(OSError):  # it has ended
                if _is_real_time(thread):
                    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _threads() -> set[int]:
    return {int(path.name) for path in _THREADS.iterdir()}


def _is_real_time(thread: int) -> bool:
    try:
        return os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR)
    except ProcessLookupError:
        return False
