"""How fast a run is, and what its batches show."""

import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch.callbacks import Callback

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
