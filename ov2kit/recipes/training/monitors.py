"""Monitors: a callback that waits for a metric which nothing logs is an error, not a run without checkpoints."""

import difflib
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

#: metrics of a recipe whose direction is known
_BETTER = {"loss": "min", "val/loss": "min", "val/exact": "max"}


class Monitors(Callback):
    """Checks every callback that has a `monitor`, as soon as it can be known that it is wrong.

    Direction and use are checked before the first step, validation metrics after the first validation
    (the sanity check included), metrics of training once a line of the log was due, and whatever is left
    when training ends.

    Raises:
        ValueError: names the callback, the metric, and what is logged.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        for name, callback in _watchers(trainer):
            monitor, mode = callback.monitor, getattr(callback, "mode", None)
            better = _BETTER.get(monitor)
            if better is not None and mode in ("min", "max") and mode != better:
                word = {"min": "lower", "max": "higher"}[better]
                raise ValueError(
                    f"{name}.monitor {monitor!r} is better where it is {word}: set {name}.mode to {better}"
                )
            if isinstance(callback, ModelCheckpoint) and callback.save_top_k == 0:
                raise ValueError(
                    f"{name}.monitor {monitor!r} chooses among checkpoints, and {name}.save_top_k 0 keeps none: "
                    f"set {name}.save_top_k to 1 or more"
                )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = trainer.global_step
        counts: Any = trainer.num_val_batches
        validates = trainer.enable_validation and (sum(counts) if isinstance(counts, list) else counts) > 0
        for name, callback in _watchers(trainer):
            if callback.monitor.startswith("val/") and not validates:
                raise ValueError(
                    f"{name}.monitor {callback.monitor!r} comes from validation, and this run has none: give "
                    "data.sources.val_path or data.sources.val_share"
                )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check(trainer, "val/")
        if not trainer.sanity_checking:
            self._check_training(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._check_training(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._check(trainer)

    def _check_training(self, trainer: pl.Trainer) -> None:
        if trainer.global_step - self._began > trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self._check(trainer, but="val/")

    def _check(self, trainer: pl.Trainer, only: str = "", but: str | None = None) -> None:
        logged = sorted(trainer.callback_metrics)
        for name, callback in _watchers(trainer):
            wanted = callback.monitor
            if wanted in logged or not wanted.startswith(only) or (but is not None and wanted.startswith(but)):
                continue
            close = difflib.get_close_matches(wanted, logged, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{name}.monitor {wanted!r} is not logged{hint} Logged: {', '.join(logged)}")


def _watchers(trainer: pl.Trainer) -> list[tuple[str, Any]]:
    """Callbacks that wait for a metric, by the names that their options have."""
    found = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if getattr(callback, "monitor", None) is not None:
            name = "checkpoint" if isinstance(callback, ModelCheckpoint) else type(callback).__name__
            found.append((name, callback))
    return found
