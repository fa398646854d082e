"""What the model answers, written beside the run: in validation, test and prediction."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from ov2kit.files import append_to, write_text
from ov2kit.recipes.inputs.json_lines import json_line
from ov2kit.recipes.prompt.sample import Batch


class Answers(Callback):
    """Writes what the model says: `answers.jsonl` in validation and test, `predictions.jsonl` in prediction.

    Both lie in the folder of the run, one object per line: name, record, answer, expected, exact, and in
    validation the step. `record` is the place of the record among those of its files, from 0: names may
    come twice, places may not. With several processes each writes its own file; the first one puts
    predictions together, in the order of the records.

    Args:
        path: of the predictions, in place of `predictions.jsonl` in the folder of the run.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self.path = path
        self._answered: set[int] = set()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.sanity_checking and outputs["answers"]:
            folder = self._folder(trainer)
            _append(folder / _of_rank("answers.jsonl", trainer), outputs["answers"], step=trainer.global_step)

    def on_test_batch_end(self, *args: Any, **options: Any) -> None:
        self.on_validation_batch_end(*args, **options)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        target = self.target(trainer)
        write_text(target.with_name(_of_rank(target.name, trainer)), "")
        self._answered = set()

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        target = self.target(trainer)
        # a record may come twice: to fill up a last step, or in the place of one that cannot be used
        new = [answer for answer in outputs if answer["record"] < 0 or answer["record"] not in self._answered]
        self._answered |= {answer["record"] for answer in new}
        _append(target.with_name(_of_rank(target.name, trainer)), new)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.strategy.barrier("predictions")
        if trainer.world_size > 1 and trainer.is_global_zero:
            target = self.target(trainer)
            parts = [target.with_name(_of_rank(target.name, trainer, rank)) for rank in range(trainer.world_size)]
            lines: dict[tuple[int, int], str] = {}
            for line in (line for part in parts for line in part.read_text(encoding="utf-8").split("\n") if line):
                record = json.loads(line)["record"]
                lines[record, len(lines) if record < 0 else 0] = line
            write_text(target, "".join(f"{lines[key]}\n" for key in sorted(lines)), sync=True)
            for part in parts:
                part.unlink()

    def target(self, trainer: pl.Trainer) -> Path:
        """Where predictions end up."""
        return Path(self.path) if self.path else self._folder(trainer) / "predictions.jsonl"

    def _folder(self, trainer: pl.Trainer) -> Path:
        return Path(trainer.log_dir or trainer.default_root_dir)


def _of_rank(name: str, trainer: pl.Trainer, rank: int | None = None) -> str:
    rank = trainer.global_rank if rank is None else rank
    return name if trainer.world_size == 1 else f"{Path(name).stem}.{rank}.jsonl"


def _append(path: Path, answers: list[dict[str, Any]], **more: Any) -> None:
    lines = "".join(json_line({**answer, **more}) for answer in answers)
    with append_to(path) as file:
        file.write(lines.encode())
