"""Stopping a run between two steps, so that it can go on later as if nothing had happened."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint


class Stopped(Exception):  # noqa: N818 - a wish, not an error
    """A run was asked to stop; its checkpoint is written.

    Args:
        signum: of the signal.
        checkpoint: to go on from.
        step: updates done.
    """

    def __init__(self, signum: int, checkpoint: Path, step: int) -> None:
        super().__init__(f"stopped at step {step}; go on with --ckpt_path {checkpoint}")
        self.signum, self.checkpoint, self.step = signum, checkpoint, step


class StopBetweenSteps(Callback):
    """On Ctrl-C or SIGTERM: finish the step, write last.ckpt, leave with `Stopped`.

    A second Ctrl-C stops at once, with the last regular checkpoint as the newest. With several
    processes it is enough that one of them gets the signal.
    """

    def __init__(self) -> None:
        super().__init__()
        #: whether a step was done since the run began
        self.has_stepped = False
        self._signum = 0
        self._step = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._signum, self._step = 0, trainer.global_step
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[signum] = signal.signal(signum, self._handle)
            except ValueError:  # not the main thread: whoever runs us there handles signals
                return

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._signum and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._signum = signum
        if signum == signal.SIGINT:
            print("\nstopping after this step; press again to stop at once", file=sys.stderr, flush=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:  # in the middle of accumulated batches
            return
        self._step, self.has_stepped = trainer.global_step, True
        signum = self._signum
        if trainer.world_size > 1:
            signum = int(trainer.strategy.reduce(torch.tensor(signum, device=pl_module.device), reduce_op="max"))
        if signum:
            path = _folder(trainer) / "last.ckpt"
            trainer.save_checkpoint(path)
            _log_now(trainer)
            raise Stopped(signum, path, trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}


def _log_now(trainer: pl.Trainer) -> None:
    """The line of this step, which would be written only after all that comes between two steps."""
    if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
        return
    values = {name: float(value) for name, value in trainer.logged_metrics.items() if not name.startswith("val/")}
    for logger in trainer.loggers:
        logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=trainer.global_step - 1)


def _folder(trainer: pl.Trainer) -> Path:
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath:
            return Path(callback.dirpath)
    return Path(trainer.log_dir or trainer.default_root_dir) / "checkpoints"
