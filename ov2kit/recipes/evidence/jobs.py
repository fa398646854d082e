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

from ov2kit.files import format_name, write_folder, write_text
from ov2kit.recipes.evidence.runs.variant import RUN, RUN_VERSION, Variant


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Args:
        kind: "data" (make a set), "canvases" (tokenize it) or "run" (train and score).
        key: names its result.
        variant: what to do.
        seed: of a run.
        needs: keys of the jobs to be done before.
    """

    kind: str
    key: str
    variant: Variant = field(repr=False)
    seed: int = 0
    needs: tuple[str, ...] = ()


def plan(runs: Iterable[tuple[Variant, int]]) -> list[Job]:
    """Runs with what they need, each once, in order: results of the first runs come first."""
    jobs: dict[str, Job] = {}
    for variant, seed in runs:
        data, canvases = f"data-{variant.data_key()}", f"canvases-{variant.canvas_key()}"
        run = f"run-{variant.run_key(seed)}"
        jobs.setdefault(data, Job("data", data, variant))
        jobs.setdefault(canvases, Job("canvases", canvases, variant, needs=(data,)))
        jobs.setdefault(run, Job("run", run, variant, seed, needs=(canvases,)))
    return list(jobs.values())


def result_path(work: Path, job: Job) -> Path:
    """What exists once the job is done."""
    return work / "runs" / f"{job.key}.json" if job.kind == "run" else work / job.kind / job.key


def run_job(job: Job, work: Path) -> None:
    """Do one job; its result appears whole or not at all."""
    target = result_path(work, job)
    target.parent.mkdir(parents=True, exist_ok=True)
    variant = job.variant
    if job.kind == "data":
        from ov2kit.recipes.evidence.films.difficulty import Difficulty
        from ov2kit.recipes.evidence.films.jumpset import make_jumpset

        make_jumpset(
            target,
            (variant.train, variant.val, variant.test),
            seed=variant.data_seed,
            size=variant.size,
            encoding=variant.encoding,
            difficulty=Difficulty(**dict(variant.difficulty)),
        )
    elif job.kind == "canvases":
        from ov2kit.recipes.evidence.runs.canvas_store import build_canvases

        with write_folder(target) as scratch:
            build_canvases(variant, work / "data" / f"data-{variant.data_key()}", scratch)
    else:
        from ov2kit.recipes.evidence.runs.one_run import run_variant

        found = run_variant(variant, job.seed, work / "canvases" / f"canvases-{variant.canvas_key()}")
        facts = {"format": format_name(RUN, RUN_VERSION), "variant": variant.plain(), "seed": job.seed}
        write_text(target, json.dumps(facts | found) + "\n", sync=True)


def run_jobs(jobs: list[Job], work: Path, processes: int, say: Callable[[str], None]) -> dict[str, str]:
    """Do what is not done yet, several at a time.

    Args:
        jobs: in order; a job comes after those it needs.
        work: folder of all results.
        processes: jobs side by side, each in its own process with one thread.
        say: called with one line per job.

    Returns:
        Key of each job that failed, and why in one line. Jobs that need one of them fail too.

    Raises:
        KeyboardInterrupt: passed on after every process has been stopped.
    """
    waiting = [job for job in jobs if not result_path(work, job).exists()]
    done = {job.key for job in jobs} - {job.key for job in waiting}
    failed: dict[str, str] = {}
    total, began = len(waiting), time.monotonic()
    context: Any = multiprocessing.get_context("forkserver" if sys.platform.startswith("linux") else "spawn")
    if sys.platform.startswith("linux"):
        context.set_forkserver_preload(["ov2kit.recipes.evidence.runs.one_run"])
    running: dict[Any, tuple[Any, Job, Path]] = {}
    logs = work / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    try:
        while waiting or running:
            for job in list(waiting):
                lost = [need for need in job.needs if need in failed]
                if lost:
                    failed[job.key] = f"needs {lost[0]}, which failed"
                    waiting.remove(job)
                elif len(running) < processes and all(need in done for need in job.needs):
                    log = logs / f"{job.key}.txt"
                    process: Any = context.Process(target=_child, args=(job, work, log), daemon=True)
                    process.start()
                    running[process.sentinel] = process, job, log
                    waiting.remove(job)
            for sentinel in wait(list(running)) if running else ():
                process, job, log = running.pop(sentinel)
                process.join()
                seconds = time.monotonic() - began
                if result_path(work, job).exists():
                    done.add(job.key)
                    log.unlink(missing_ok=True)
                    line = f"{job.kind} {job.key}"
                else:
                    failed[job.key] = _reason(log, process.exitcode)
                    line = f"FAILED {job.key}: {failed[job.key]}"
                say(f"[{total - len(waiting) - len(running)}/{total} {seconds:.0f} s] {line}")
    finally:
        for process, _, _ in running.values():  # each clears away what it had half done
            process.terminate()
            process.join()
    return failed


def _child(job: Job, work: Path, log: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us, and what is half done is then cleared away
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            run_job(job, work)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)


def _reason(log: Path, code: int | None) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return f"{lines[-1] if lines else 'no message'} (exit status {code}, see {log.name})"
