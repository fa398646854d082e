"""`ov2kit ablate`: run a sweep, go on where it stopped, and write what came out."""

import shlex
import sys
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from ov2kit.recipes.evidence.jobs import plan, result_path, run_jobs
from ov2kit.recipes.evidence.report import machine_facts, write_report
from ov2kit.recipes.evidence.summary import summarize
from ov2kit.recipes.evidence.sweep import read_sweep
from ov2kit.recipes.evidence.variant import SweepError

_QUICK, _FULL = "quick.yaml", "full.yaml"


def ablate(
    config: str | Path, out: str | Path, *, work: str | Path | None = None, processes: int = 2, command: str = ""
) -> dict[str, Any]:
    """Run what is missing of a sweep, then write results.json, results.md and plots.

    Args:
        config: sweep file, see `ov2kit.recipes.evidence.sweep`.
        out: folder of the report.
        work: folder of videos, canvases and single runs; ``out/work`` when omitted. Runs are found again by what
            they depend on, so sweeps that overlap can share one.
        processes: jobs side by side, one thread each.
        command: noted in the results.

    Returns:
        What results.json holds.

    Raises:
        SweepError: the file cannot be read, or no run succeeded.
    """
    if processes < 1:
        raise SweepError(f"processes must be at least 1, got {processes}")
    given, experiments = read_sweep(config)
    folder = Path(out)
    place = Path(work) if work is not None else folder / "work"
    for made in (folder, place):
        if made.exists() and not made.is_dir():
            raise SweepError(f"{made}: expected a folder for the results, got a file")
    place.mkdir(parents=True, exist_ok=True)
    most = max((e.seeds for e in experiments), default=0)  # seed by seed: a sweep cut short still has all of its rows
    jobs = plan((row.variant, seed) for seed in range(most) for e in experiments if seed < e.seeds for row in e.rows)
    failed = run_jobs(jobs, place, processes, lambda line: print(line, file=sys.stderr, flush=True))
    results = {
        "command": command or f"ov2kit ablate --config {Path(config).name} --out {folder.name}",
        "machine": machine_facts(),
        "sweep": given,
        "experiments": summarize(experiments, place),
        "failed": failed,
    }
    if not any(result_path(place, job).exists() for job in jobs if job.kind == "run"):
        raise SweepError(f"{config}: no run succeeded; the first failure: {next(iter(failed.values()))}")
    write_report(folder, results)
    return results


def ablate_parser() -> ArgumentParser:
    """Options of `ov2kit ablate`."""
    parser = ArgumentParser(
        description="Run a sweep of variants and seeds; go on where it stopped.", exit_on_error=False
    )
    parser.add_argument("--config", metavar="FILE", help=f"sweep file; {_FULL} of this package when omitted")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} of this package: under 15 minutes on two cores")
    parser.add_argument("--out", default="ablation", metavar="DIR", help="where the report goes")
    parser.add_argument("--work", metavar="DIR", help="where videos, canvases and runs are kept; DIR/work by default")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side, one thread each")
    return parser


def run_ablate(parsed: Namespace) -> int:
    """`ov2kit ablate`."""
    if parsed.quick and parsed.config:
        raise SweepError("--quick has a sweep file of its own: give --quick or --config, not both")
    config = parsed.config or (_QUICK if parsed.quick else _FULL)
    command = "ov2kit " + shlex.join(["ablate", *(["--quick"] if parsed.quick else ["--config", Path(config).name])])
    results = ablate(
        config, parsed.out, work=parsed.work, processes=parsed.processes,
        command=f"{command} --processes {parsed.processes}",
    )  # fmt: skip
    runs = sum(row["runs"] for experiment in results["experiments"] for row in experiment["rows"])
    print(f"{runs} runs, {len(results['failed'])} failed -> {Path(parsed.out) / 'results.md'}")
    return 1 if results["failed"] else 0
