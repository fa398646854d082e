"""What a run reports: throughput, what the batches show, answers, predictions, and lines without a terminal."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from torch import Tensor

from ov2kit.files import append_to, write_text
from ov2kit.recipes.inputs.json_lines import json_line
from ov2kit.recipes.model.flops import step_operations
from ov2kit.recipes.prompt.sample import Batch

#: per sample, averaged over the samples of a window; see `Processor`
_SHOWN = ("canvases", "p_canvases", "groups", "visual_tokens", "tokens", "p_share", "video_seconds")


class Throughput(Callback):
    """Logs how fast the run is and what its batches show, over the steps between two log lines.

    All numbers are of all processes together, except `seconds_per_step` and the shares. The first
    batch is not timed. `flops_utilisation` is the share of the device's peak that `step_operations`
    accounts for; it is logged where the peak is known.
    """

    def __init__(self) -> None:
        super().__init__()
        self._start: float | None = None
        self._ended = 0.0
        self._step = 0
        self._clear()

    def _clear(self) -> None:
        self._waited = self._operations = 0.0
        self._sums: dict[str, float] = dict.fromkeys(("samples", *_SHOWN), 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start, self._step = None, trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if self._start is not None:
            self._waited += time.perf_counter() - self._ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        stepped = trainer.global_step > self._step
        self._sums["samples"] += len(batch)
        for stats in batch.stats:
            for name in _SHOWN:
                self._sums[name] += stats.get(name, 0.0)
        self._operations += _operations(pl_module, batch)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if stepped and trainer.global_step % every == 0:
            self._report(trainer, pl_module)
            self._clear()
            self._start, self._step = time.perf_counter(), trainer.global_step
        elif self._start is None and stepped:
            self._clear()
            self._start, self._step = time.perf_counter(), trainer.global_step
        self._ended = time.perf_counter()

    def _report(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        device = pl_module.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        values = torch.tensor([*self._sums.values(), self._operations], dtype=torch.float64, device=device)
        values = trainer.strategy.reduce(values, reduce_op="sum")
        *sums, operations = values.tolist()
        total = dict(zip(self._sums, sums, strict=True))
        samples = max(1.0, total["samples"])
        shown = {f"visual/{name}": total[name] / samples for name in _SHOWN}
        shown["visual/canvases_per_group"] = total["canvases"] / max(1.0, total["groups"])
        pl_module.log_dict(shown)
        if self._start is None:
            return
        seconds = time.perf_counter() - self._start
        speed = {
            "samples_per_second": total["samples"] / seconds,
            "tokens_per_second": total["tokens"] / seconds,
            "visual_tokens_per_second": total["visual_tokens"] / seconds,
            "seconds_per_step": seconds / (trainer.global_step - self._step),
            "data_wait_share": self._waited / seconds,
            "tflops": operations / seconds / 1e12,
        }
        half = "16" in str(trainer.precision)
        peak = get_available_flops(device, torch.bfloat16 if half else torch.float32)
        if peak:
            speed["flops_utilisation"] = operations / seconds / peak / trainer.world_size
        if device.type == "cuda":
            speed["peak_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        pl_module.log_dict({f"throughput/{name}": value for name, value in speed.items()})


def _operations(module: Any, batch: Batch) -> float:
    runs = batch.layout.segments(module.visibility, module.window).lengths
    stats = batch.stats
    products, attention = step_operations(
        module.model,
        runs,
        int(sum(s.get("visual_tokens", 0) for s in stats)),
        [int(s.get("tokens", 0)) for s in stats],
        int(sum(s.get("supervised_tokens", 0) for s in stats)),
    )
    return products + attention


class Answers(Callback):
    """Writes what the model says: `answers.jsonl` in validation and test, `predictions.jsonl` in prediction.

    Both lie in the folder of the run, one object per line: name, record, answer, expected, exact, and in
    validation the step. `record` is the place of the record among those of its files, from 0: names may
    come twice, places may not. With several processes each writes a file of its own; the first one puts
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


class Bar(TQDMProgressBar):
    """The progress bar without the version of the run, which says nothing."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Any:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class Lines(Callback):
    """One line per log step, for logs and wherever a bar cannot be drawn.

    Args:
        file: stderr by default.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        super().__init__()
        self.file = file or sys.stderr
        self._step = -1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not trainer.is_global_zero or trainer.global_step == self._step or trainer.global_step % every:
            return
        self._step = trainer.global_step
        found: Mapping[str, Tensor] = trainer.callback_metrics
        text = f"step {trainer.global_step}/{int(trainer.estimated_stepping_batches)}"
        text += f"  loss {float(found['loss']):.4f}" if "loss" in found else ""
        if "throughput/tokens_per_second" in found:
            text += f"  {float(found['throughput/tokens_per_second']):.0f} tokens/s"
        print(text, file=self.file, flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking:
            found = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
            text = "  ".join(f"{name} {value:.4f}" for name, value in found.items())
            print(f"step {trainer.global_step}  {text}", file=self.file, flush=True)
