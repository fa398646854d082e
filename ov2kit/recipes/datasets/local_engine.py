"""The local engine: worker processes of this machine, each bounded, replaced when they die.

A video whose worker dies or takes too long is tried again by a new worker, and then recorded. It takes no other along.
"""

import multiprocessing
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing.connection import Connection, wait
from typing import Any

from ov2kit.errors import DataError, OutputError
from ov2kit.recipes.datasets.inputs import Item
from ov2kit.recipes.datasets.piece import write_piece
from ov2kit.recipes.datasets.storage import Storage
from ov2kit.recipes.datasets.stores import modules_of
from ov2kit.recipes.datasets.work import Recipe, failed_piece
from ov2kit.recipes.datasets.worker import serve

_POLL = 1.0
_STILLBORN = 100  # workers in a row that end before they are ready; one that ends by itself counts as 25


@dataclass(frozen=True)
class Outcome:
    """What became of an item.

    Args:
        number: of the item.
        sha256: of its bytes; empty where they could not be read, and there is then no piece.
        kind: of the failure, where there is no piece.
        reason: for it.
    """

    number: int
    sha256: str
    kind: str = ""
    reason: str = ""


@dataclass(eq=False)
class _Job:
    number: int
    item: Item
    attempts: int = 0
    sha256: str = ""


@dataclass(eq=False)
class _Worker:
    process: Any
    connection: "Connection[Any, Any]"
    job: _Job | None = None
    is_ready: bool = False
    deadline: float = field(default=float("inf"))


def run_local(
    jobs: Iterable[tuple[int, Item]],
    recipe: Recipe,
    pieces: Storage,
    *,
    workers: int = 1,
    attempts: int = 2,
    done: Collection[str] = (),
) -> Iterator[Outcome]:
    """Do all items; each outcome comes once, in any order, after its piece is in place.

    Args:
        jobs: numbers and items.
        recipe: how they are treated.
        pieces: where pieces go.
        workers: processes.
        attempts: how often a video is tried whose worker dies or takes too long.
        done: keys whose results are already there; asked for each video.

    Raises:
        OutputError: a piece cannot be written.
        DataError: workers cannot be started.
    """
    waiting = iter(jobs)
    first = next(waiting, None)
    if first is None:
        return
    waiting = chain([first], waiting)
    stores = [*modules_of(first[1].url), *modules_of(pieces.root)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ov2kit.codec.tokenizers.codec", "ov2kit.recipes.datasets.worker", *stores])
    again: deque[_Job] = deque()
    crew: list[_Worker] = []
    stillborn = 0

    def started() -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, recipe, pieces), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def next_job() -> _Job | None:
        if again:
            return again.popleft()
        number, item = next(waiting, (-1, None))
        return None if item is None else _Job(number, item)

    def give(worker: _Worker) -> bool:
        worker.job = next_job()
        if worker.job is None:
            return False
        worker.job.attempts += 1
        worker.deadline = time.monotonic() + recipe.limits.seconds
        try:
            worker.connection.send(worker.job.item)
        except OSError:  # it died while it had nothing to do: no fault of the video's
            worker.job.attempts -= 1
            again.appendleft(worker.job)
            worker.job = None
            _end(worker)
            crew[crew.index(worker)] = fresh = started()
            return give(fresh)
        return True

    def lost(worker: _Worker, kind: str, reason: str) -> Iterator[Outcome]:
        """A worker that is gone: its video waits for another attempt, or is recorded."""
        nonlocal stillborn
        job, worker.job = worker.job, None
        if job is not None and not worker.is_ready:  # no fault of the video's
            job.attempts -= 1
            stillborn += 25 if (worker.process.exitcode or 0) > 0 else 1  # a signal is somebody else's
            if stillborn >= _STILLBORN:
                raise DataError(
                    f"workers do not start ({reason}); a script must call this below `if __name__ == '__main__':`, "
                    "and must be a file"
                )
        _end(worker)
        place = crew.index(worker)
        if job is not None:
            if job.attempts < attempts:
                again.append(job)
            elif job.sha256:
                write_piece(pieces, recipe.key(job.sha256), failed_piece(job.sha256, kind, reason))
                yield Outcome(job.number, job.sha256)
            else:
                yield Outcome(job.number, "", kind, reason)
        crew[place] = started()
        give(crew[place])

    try:
        for _ in range(workers):
            crew.append(started())
            if not give(crew[-1]):
                break
        while any(worker.job for worker in crew):
            ready = set(wait([worker.connection for worker in crew if worker.job], timeout=_POLL))
            for worker in list(crew):
                job = worker.job
                if job is None:
                    continue
                if worker.connection in ready:
                    try:
                        message = worker.connection.recv()
                    except (EOFError, OSError):
                        worker.process.join(_POLL)
                        yield from lost(worker, "crash", f"the worker died ({_status(worker.process.exitcode)})")
                        continue
                    if message[0] == "ready":
                        worker.is_ready, stillborn = True, 0
                        worker.deadline = time.monotonic() + recipe.limits.seconds
                    elif message[0] == "digest":
                        job.sha256 = message[1]
                        try:
                            worker.connection.send(recipe.key(job.sha256) not in done)
                        except OSError:
                            continue  # its end is seen at the next turn
                    elif message[0] == "output":
                        raise OutputError(message[1])
                    elif message[0] == "done":
                        yield Outcome(job.number, message[1])
                        give(worker)
                    elif message[3]:
                        yield from lost(worker, message[1], message[2])
                    else:
                        yield Outcome(job.number, job.sha256, message[1], message[2])
                        give(worker)
                elif time.monotonic() > worker.deadline:
                    yield from lost(worker, "timeout", f"took more than limits.seconds={recipe.limits.seconds:g}")
            if again:  # a worker may have had nothing left when its neighbor's video came back
                for worker in crew:
                    if worker.job is None and again:
                        give(worker)
    finally:
        for worker in crew:
            _end(worker)


def _end(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.kill()
    worker.process.join()


def _status(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"status {code}"
