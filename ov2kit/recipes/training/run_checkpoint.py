"""RunCheckpoint: Lightning's ModelCheckpoint, and the end of a run is always in last.ckpt."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint


class RunCheckpoint(ModelCheckpoint):
    """Saves as `ModelCheckpoint` does, and once more where a run ends.

    Whatever ends it (`max_steps`, `max_epochs`, `max_time`, early stopping), last.ckpt holds its last
    step, between two steps rather than after the end of the epoch: resumed with a higher limit, the
    run goes on as if it had not ended. Where a monitored run ends before the first regular save, the
    end is also its best checkpoint.

    Args: those of `ModelCheckpoint`.
    """

    #: updates done when the end was saved
    _ended_at = -1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if is_ending(trainer):
            self._save_end(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking and is_ending(trainer):
            self._ended_at = -1  # once more: callbacks have taken note of what validation found
            self._save_end(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if is_ending(trainer):
            self._save_end(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_end(trainer)
        candidates = self._monitor_candidates(trainer)
        is_real = not trainer.fast_dev_run  # type: ignore[attr-defined]
        if is_real and self.monitor in candidates and not self.best_k_models:
            self._save_topk_checkpoint(trainer, candidates)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Saved at the end of an epoch, let it look as after the last batch of it.

        Lightning goes on from the former with one batch more than the epoch has.
        """
        loop = checkpoint["loops"]["fit_loop"]
        epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
        total = epochs["total"]
        if total["processed"] == total["started"] > total["completed"] and batches["is_last_batch"]:
            for progress, field in ((epochs, "processed"), (batches, "completed")):
                progress["total"][field] -= 1
                progress["current"][field] -= 1
            loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1

    def _save_end(self, trainer: pl.Trainer) -> None:
        step = trainer.global_step
        if trainer.fast_dev_run or step == self._ended_at:  # type: ignore[attr-defined]
            return
        self._ended_at = step
        if self.save_last is True and self._last_global_step_saved == step:
            return
        # neither what the user said of last.ckpt nor Lightning's own count may hold this or a later save back
        kept = self.save_last, self._last_global_step_saved
        self.save_last = True
        self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        self.save_last, self._last_global_step_saved = kept


def is_ending(trainer: pl.Trainer) -> bool:
    """Whether no step comes after this one, as far as is known by now."""
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return True
    steps, epochs = trainer.min_steps or 0, trainer.min_epochs or 0
    is_last_batch = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
    done = trainer.current_epoch + int(is_last_batch)
    if trainer.should_stop and trainer.global_step >= steps and done >= epochs:
        return True
    return is_last_batch and trainer.max_epochs not in (None, -1) and done >= trainer.max_epochs
