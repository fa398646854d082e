"""How far a run is: a bar on a terminal, a line per log step elsewhere."""

import sys
from collections.abc import Mapping
from typing import Any, TextIO

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from torch import Tensor

from ov2kit.recipes.prompt.sample import Batch


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
