"""Run a sweep, go on where it stopped, and write what came out."""

import json
import sys
from pathlib import Path
from typing import Any

from ov2kit.files import refuse_overwriting_inputs, write_text
from ov2kit.recipes.evidence.jobs import Job, Limits, plan, result_path, run_jobs
from ov2kit.recipes.evidence.machine import machine_facts
from ov2kit.recipes.evidence.report import write_report
from ov2kit.recipes.evidence.runs.variant import SweepError
from ov2kit.recipes.evidence.summary import read_run, summarize
from ov2kit.recipes.evidence.sweep import read_sweep


def ablate(
    config: str | Path,
    out: str | Path,
    *,
    work: str | Path | None = None,
    limits: Limits | None = None,
    report_only: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Run what is missing of a sweep, then write results.json, results.md, plots and runs.jsonl.

    A line of runs.jsonl is one run: its variant, its seed, scores of every test clip, and what it cost. It is written
    after each run, so that a sweep that is cut off keeps what is done.

    Args:
        config: sweep file, see `ov2kit.recipes.evidence.sweep`.
        out: folder of the report; runs in its runs.jsonl are done, and so are those in `work`.
        work: folder of videos, canvases and single runs; ``out/work`` when omitted. Runs are found again by what
            they depend on, so sweeps that overlap can share one.
        limits: jobs side by side, device and time; two jobs on the CPU when omitted.
        report_only: run nothing: report on the runs that are there.
        command: noted in the results.

    Returns:
        What results.json holds.

    Raises:
        SweepError: the file cannot be read, or no run succeeded.
    """
    limits = limits or Limits()
    given, experiments = read_sweep(config)
    folder = Path(out)
    place = Path(work) if work is not None else folder / "work"
    for made in (folder, place):
        if made.exists() and not made.is_dir():
            raise SweepError(f"{made}: expected a folder for the results, got a file")
    written = ["results.json", "results.md", "runs.jsonl", *(f"{each.name}.png" for each in experiments)]
    for name in written:
        refuse_overwriting_inputs(folder / name, [config])
    most = max((e.seeds for e in experiments), default=0)  # seed by seed: a sweep cut short still has all of its rows
    ordered = [(row.variant, seed) for seed in range(most) for e in experiments if seed < e.seeds for row in e.rows]
    wanted = list(dict.fromkeys(variant.run_key(seed) for variant, seed in ordered))
    failed: dict[str, str] = {}
    texts: dict[str, str] = {}
    if (folder / "runs.jsonl").is_file():
        lines = (folder / "runs.jsonl").read_text(encoding="utf-8").split("\n")
        texts = {read_run(line, folder / "runs.jsonl")[0]: f"{line}\n" for line in lines if line}
    for variant, seed in ordered:
        key = variant.run_key(seed)
        if (path := result_path(place, Job("run", f"run-{key}", variant, seed))).exists():
            texts[key] = path.read_text(encoding="utf-8")
    jobs = plan((variant, seed) for variant, seed in ordered if variant.run_key(seed) not in texts)
    facts = {
        "command": command or f"ov2kit ablate --config {Path(config).name} --out {folder.name}",
        "machine": machine_facts(),
    }
    if (report_only or not jobs) and (folder / "results.json").is_file():  # where the runs were made
        before = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        facts = {name: before[name] for name in facts if name in before}

    def write_runs(job: Job | None = None) -> None:
        if job is not None and job.kind == "run":
            texts[job.variant.run_key(job.seed)] = result_path(place, job).read_text(encoding="utf-8")
        if job is None or job.kind == "run":
            write_text(folder / "runs.jsonl", "".join(texts[key] for key in wanted if key in texts))

    if not report_only:
        for made in (folder, place):
            made.mkdir(parents=True, exist_ok=True)
        failed = run_jobs(jobs, place, limits, lambda line: print(line, file=sys.stderr, flush=True), write_runs)
    if not any(key in texts for key in wanted):
        why = f"the first failure: {next(iter(failed.values()))}" if failed else f"{place} holds none of its runs"
        raise SweepError(f"{config}: no run succeeded; {why}")
    runs = {key: read_run(texts[key], key)[1] for key in wanted if key in texts}
    results = {**facts, "sweep": given, "experiments": summarize(experiments, runs), "failed": failed}
    write_report(folder, results)
    write_runs()
    return results
