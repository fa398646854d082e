"""Jobs in separate processes: what is done stays done, and one that fails stops no other."""

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch

from ov2kit.errors import check_choice, check_number
from ov2kit.files import format_name, write_folder, write_text
from ov2kit.recipes.datasets.parent import end_with_parent
from ov2kit.recipes.evidence.films.rendered_set import SPLITS
from ov2kit.recipes.evidence.runs.variant import RUN, RUN_VERSION, SweepError, Variant

#: clips that one job makes or tokenizes
PART_CLIPS = 4
_PATIENCE = 10  # seconds for all processes to end


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Args:
        kind: "data" (make a part of a set), "canvases" (tokenize it) or "run" (train and score).
        key: names its result.
        variant: what to do.
        seed: of a run.
        needs: keys of the jobs to be done before.
        part: (split, number of its first clip) of data and canvases.
    """

    kind: str
    key: str
    variant: Variant = field(repr=False)
    seed: int = 0
    needs: tuple[str, ...] = ()
    part: tuple[str, int] = ("", 0)


def plan(runs: Iterable[tuple[Variant, int]]) -> list[Job]:
    """Runs with what they need, each once, in order: results of the first runs come first."""
    jobs: dict[str, Job] = {}
    for variant, seed in runs:
        needs = []
        for split in SPLITS:
            for first in range(0, getattr(variant, split), PART_CLIPS):
                place = f"{split}-{first:05d}"
                data, canvases = f"data-{variant.data_key()}/{place}", f"canvases-{variant.canvas_key()}/{place}"
                jobs.setdefault(data, Job("data", data, variant, part=(split, first)))
                jobs.setdefault(canvases, Job("canvases", canvases, variant, needs=(data,), part=(split, first)))
                needs.append(canvases)
        run = f"run-{variant.run_key(seed)}"
        jobs.setdefault(run, Job("run", run, variant, seed, tuple(needs)))
    return list(jobs.values())


def result_path(work: Path, job: Job) -> Path:
    """What exists once the job is done."""
    return work / "runs" / f"{job.key}.json" if job.kind == "run" else work / job.kind / job.key


def run_job(job: Job, work: Path, device: str = "cpu") -> None:
    """Do one job; its result appears whole or not at all."""
    target = result_path(work, job)
    target.parent.mkdir(parents=True, exist_ok=True)
    variant, (split, first) = job.variant, job.part
    if job.kind == "data":
        from ov2kit.recipes.evidence.films.difficulty import Difficulty
        from ov2kit.recipes.evidence.films.jumpset import make_part

        numbers = range(first, min(first + PART_CLIPS, getattr(variant, split)))
        with write_folder(target) as scratch:
            make_part(
                scratch, split, numbers, seed=variant.data_seed, size=variant.size, encoding=variant.encoding,
                difficulty=Difficulty(**dict(variant.difficulty)),
            )  # fmt: skip
    elif job.kind == "canvases":
        from ov2kit.recipes.evidence.runs.canvas_store import build_canvases

        with write_folder(target) as scratch:
            build_canvases(variant, work / "data" / job.needs[0], scratch, (split,))
    else:
        from ov2kit.recipes.evidence.runs.one_run import run_variant

        found = run_variant(variant, job.seed, work / "canvases" / f"canvases-{variant.canvas_key()}", device)
        facts = {"format": format_name(RUN, RUN_VERSION), "variant": variant.plain(), "seed": job.seed}
        write_text(target, json.dumps(facts | found) + "\n", sync=True)


@dataclass(frozen=True)
class Limits:
    """What a sweep may take.

    Args:
        processes: jobs side by side, each in a process with one thread.
        runs: at most so many of them train; as many as there are processes when omitted.
        device: what runs train on, "cpu" or "cuda"; all else is done on the CPU.
        seconds: after so long what still runs is stopped; without end when omitted.

    Raises:
        SweepError: a number below 1, or a device that is not there.
    """

    processes: int = 2
    runs: int | None = None
    device: str = "cpu"
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_number("processes", self.processes, low=1, integer=True, error=SweepError)
        check_number("runs", self.runs, low=1, integer=True, optional=True, error=SweepError)
        check_choice("device", self.device, ("cpu", "cuda"), SweepError)
        check_number("seconds", self.seconds, above=0, optional=True, error=SweepError)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise SweepError("device 'cuda': torch finds no GPU here; use --device cpu")


def run_jobs(
    jobs: list[Job],
    work: Path,
    limits: Limits,
    say: Callable[[str], None],
    ready: Callable[[Job], None] = lambda job: None,
) -> dict[str, str]:
    """Do what is not done yet, several at a time.

    Args:
        jobs: in order; a job comes after those it needs.
        work: folder of all results.
        limits: how many at a time, where, how long.
        say: called with one line per job.
        ready: called with each job whose result has come.

    Returns:
        Key of each job that failed, and why in one line. Jobs that need one of them fail too; those that no time was
        left for do not.

    Raises:
        KeyboardInterrupt: passed on after every process has been stopped.
    """
    waiting = {job.key: job for job in jobs if not result_path(work, job).exists()}
    done = {job.key for job in jobs} - set(waiting)
    failed: dict[str, str] = {}
    total, began = len(waiting), time.monotonic()
    (work / "logs").mkdir(parents=True, exist_ok=True)
    crew = _Crew(work, limits)
    try:
        while waiting or crew.busy:
            for job in list(waiting.values()):
                if failed and (lost := [need for need in job.needs if need in failed]):
                    failed[job.key] = f"needs {lost[0]}, which failed"
                    del waiting[job.key]
                elif crew.has_room(job) and all(need in done for need in job.needs):
                    crew.start(job)
                    del waiting[job.key]
                if crew.is_full:
                    break
            left = None if limits.seconds is None else began + limits.seconds - time.monotonic()
            if left is not None and left <= 0:
                say(f"stopped after {limits.seconds:g} s with {len(waiting) + len(crew.busy)} jobs to do")
                break
            for job, code in crew.finished(left):
                seconds = time.monotonic() - began
                if result_path(work, job).exists():
                    done.add(job.key)
                    ready(job)
                    log_path(work, job).unlink(missing_ok=True)
                    line = f"{job.kind} {job.key}"
                else:
                    failed[job.key] = _reason(log_path(work, job), code)
                    line = f"FAILED {job.key}: {failed[job.key]}"
                say(f"[{total - len(waiting) - len(crew.busy)}/{total} {seconds:.0f} s] {line}")
    finally:
        crew.stop()
    return failed


class _Worker:
    """A process that does one job after another as they are sent to it.

    A device is not to be used in a fork of a process that has asked for it, and imports may: there it starts afresh.
    """

    def __init__(self, work: Path, device: str) -> None:
        forks = device == "cpu" and sys.platform.startswith("linux")
        context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            context.set_forkserver_preload(["ov2kit.recipes.evidence.runs.one_run"])
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work, device), daemon=True)
        self.process.start()
        theirs.close()


class _Crew:
    """The workers of a sweep, and what each of them does.

    Runs on a CPU get a process of their own, so that peak memory is theirs. All else goes to a worker that is there
    already: starting a process and a device takes seconds.
    """

    def __init__(self, work: Path, limits: Limits) -> None:
        self.work, self.limits = work, limits
        self.busy: dict[Any, tuple[_Worker, Job]] = {}
        self.idle: dict[bool, list[_Worker]] = {True: [], False: []}  # those that run, those that do all else

    @property
    def is_full(self) -> bool:
        return len(self.busy) >= self.limits.processes

    def has_room(self, job: Job) -> bool:
        """Whether the job may start now."""
        runs = sum(other.kind == "run" for _, other in self.busy.values())
        most = self.limits.runs or self.limits.processes
        return not self.is_full and (job.kind != "run" or runs < most)

    def start(self, job: Job) -> None:
        """Give the job to a worker."""
        idle = self.idle[job.kind == "run"]
        device = self.limits.device if job.kind == "run" else "cpu"
        worker = idle.pop() if idle else _Worker(self.work, device)
        worker.connection.send(job)
        self.busy[worker.connection] = worker, job

    def finished(self, seconds: float | None) -> list[tuple[Job, int | None]]:
        """Wait until a job ends, and tell those that have, with the exit status of those whose process ended."""
        found: list[tuple[Job, int | None]] = []
        for ready in wait(list(self.busy), seconds):
            worker, job = self.busy.pop(ready)
            connection = worker.connection
            try:
                connection.recv()
                stays = job.kind != "run" or self.limits.device != "cpu"
                if not stays:
                    connection.send(None)
            except (EOFError, OSError):
                stays = False
            if stays:
                self.idle[job.kind == "run"].append(worker)
                found.append((job, 0))
            else:
                worker.process.join()
                connection.close()
                found.append((job, worker.process.exitcode))
        return found

    def stop(self) -> None:
        """End all processes; each clears away what it had half done."""
        workers = [worker for worker, _ in self.busy.values()] + self.idle[True] + self.idle[False]
        for worker in workers:
            worker.process.terminate()
        until = time.monotonic() + _PATIENCE
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def log_path(work: Path, job: Job) -> Path:
    """What a job says, while it runs and if it fails."""
    return work / "logs" / f"{job.key.replace('/', '-')}.txt"


def _serve(connection: Any, work: Path, device: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us, and what is half done is then cleared away
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    torch.set_num_threads(1)
    while (job := connection.recv()) is not None:
        with log_path(work, job).open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            try:
                run_job(job, work, device)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
        connection.send(True)


def _reason(log: Path, code: int | None) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return f"{lines[-1] if lines else 'no message'} (exit status {code}, see {log.name})"
