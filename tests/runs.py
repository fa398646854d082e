"""Runs of the debug recipe on the bundled clip, a second each, as a user starts them."""

import csv
from pathlib import Path

from ov2kit.cli import run

SMALL = ["--config", "debug.yaml", "--data.tokens.max_pixels", "4000", "--trainer.limit_val_batches", "0"]

# no warm-up and one rate throughout: what comes must not depend on how long a run was meant to be
FLAT = ["--model.min_lr", "1e-3", "--model.warmup_share", "0"]


class Runs:
    """Starts runs below a folder; the clip is tokenized once for all of them.

    Args:
        folder: of the runs.
        cache: of the canvases.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache

    def fit(self, name: str, *arguments: str, status: int = 0, config: list[str] | None = None) -> Path:
        """The folder of a run that ends with this status."""
        out = self.folder / name
        places = [
            "--data.loading.cache",
            str(self.cache),
            "--out",
            str(out),
        ]  # last: configs overrule what is before them
        assert run(["fit", *(SMALL if config is None else config), *arguments, *places]) == status
        return out / "version_0"


def last(folder: Path) -> Path:
    return folder / "checkpoints" / "last.ckpt"


def curve(folder: Path, column: str = "loss") -> dict[int, float]:
    """What a run logged, by step."""
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}
