"""`ov2kit ablate`: run a sweep of variants and seeds, and write tables and plots."""

import shlex
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from ov2kit.recipes.evidence.ablate import ablate
from ov2kit.recipes.evidence.jobs import Limits
from ov2kit.recipes.evidence.runs.variant import SweepError

_QUICK, _FULL = "quick.yaml", "full.yaml"


def parser() -> ArgumentParser:
    """Options of `ov2kit ablate`."""
    command = ArgumentParser(
        description="Run a sweep of variants and seeds; go on where it stopped.", exit_on_error=False
    )
    command.add_argument("--config", metavar="FILE", help=f"sweep file; {_FULL} of this package when omitted")
    command.add_argument(
        "--quick", action="store_true", help=f"{_QUICK} of this package: under 15 minutes on two cores"
    )
    command.add_argument("--report_only", action="store_true", help="run nothing: report on the runs that are there")
    command.add_argument("--out", default="ablation", metavar="DIR", help="where the report goes")
    command.add_argument("--work", metavar="DIR", help="where videos, canvases and runs are kept; DIR/work by default")
    command.add_argument("--processes", type=int, default=2, help="jobs side by side, one thread each")
    command.add_argument("--runs", type=int, help="at most so many of them train; --processes when omitted")
    command.add_argument("--device", default="cpu", help="what runs train on: cpu or cuda")
    command.add_argument("--seconds", type=float, help="stop after so long, and report on what is done")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit ablate`."""
    if parsed.quick and parsed.config:
        raise SweepError("--quick has its own sweep file: give --quick or --config, not both")
    config = parsed.config or (_QUICK if parsed.quick else _FULL)
    words = ["ov2kit", "ablate", *(["--quick"] if parsed.quick else ["--config", Path(config).name])]
    options = ("processes", "runs", "device", "seconds")
    given = {name: getattr(parsed, name) for name in options if getattr(parsed, name) is not None}
    words += ["--report_only"] if parsed.report_only else [x for k, v in given.items() for x in (f"--{k}", f"{v}")]
    results = ablate(
        config, parsed.out, work=parsed.work, limits=Limits(**given), report_only=parsed.report_only,
        command=shlex.join(words),
    )  # fmt: skip
    runs = sum(row["runs"] for experiment in results["experiments"] for row in experiment["rows"])
    print(f"{runs} runs, {len(results['failed'])} failed -> {Path(parsed.out) / 'results.md'}")
    return 1 if results["failed"] else 0
