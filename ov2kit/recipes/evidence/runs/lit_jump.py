"""LitJumpReadout: train the small model on start times, score it by JumpScore mAP."""

import json
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.recipes.evidence.runs.clip_batch import ClipBatch
from ov2kit.recipes.evidence.runs.readout import event_targets, peaks
from ov2kit.recipes.evidence.runs.small_model import JumpModel
from ov2kit.recipes.metrics import JumpScoreMAP
from ov2kit.recipes.metrics.jumpscore import jumpscore_row
from ov2kit.recipes.training.optim import adamw, cosine_with_warmup

STEP_SECONDS = 0.08
#: what grows with the width of the encoder
_WIDE = ("model.encoder", "model.connector", "model.readout.score", "model.readout.value")
_THRESHOLDS = (0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5)


class LitJumpReadout(lightning.LightningModule):
    """A `JumpModel` with its loss, optimizer, and scores.

    The threshold above which a peak is a start is chosen on the validation clips after training, and used for test.

    Args:
        model: takes a batch and the times asked about, and gives a logit for each.
        lr: peak learning rate.
        encoder_lr: that of the encoder, the connector and what reads their channels, where it is another.
        weight_decay: of AdamW.
        warmup_share: share of the steps.
        most_seconds: the longest clip.
    """

    query_seconds: Tensor

    def __init__(
        self,
        model: JumpModel,
        *,
        lr: float = 4e-3,
        encoder_lr: float | None = None,
        weight_decay: float = 0.01,
        warmup_share: float = 0.1,
        most_seconds: float = 10.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["model"])
        self.model = model
        self.lr, self.weight_decay, self.warmup_share = lr, weight_decay, warmup_share
        self.encoder_lr = encoder_lr
        queries = torch.arange(round(most_seconds / STEP_SECONDS) + 1) * STEP_SECONDS
        self.register_buffer("query_seconds", queries, persistent=False)
        self._host_seconds = queries.clone()
        self.threshold = 0.3
        self.scores: dict[str, float] = {}
        self.per_clip: list[float] = []
        self._seen: list[tuple[Tensor, tuple[float, ...]]] = []

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then a cosine to 0: the functions of the full recipe."""
        rates = {"model": self.lr}
        if self.encoder_lr is not None:
            rates |= dict.fromkeys(_WIDE, self.encoder_lr)
        optimizer = adamw(self, rates, betas=(0.9, 0.98), eps=1e-8, weight_decay=self.weight_decay)
        schedule = cosine_with_warmup(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup_share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _inside(self, batch: ClipBatch) -> Tensor:
        """(B, Q) bool: queries within each clip."""
        return self.query_seconds[None] <= self.query_seconds.new_tensor(batch.durations)[:, None]

    def _rows_inside(self, batch: ClipBatch) -> Tensor:
        """Which of B * Q they are, found on the host: asking a device would wait for it."""
        queries = len(self._host_seconds)
        counts = [int((self._host_seconds <= duration).sum()) for duration in batch.durations]
        return torch.cat([clip * queries + torch.arange(count) for clip, count in enumerate(counts)])

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        logits = self.model(batch, self.query_seconds)
        target = event_targets(batch.starts, self.query_seconds)
        inside = self._rows_inside(batch).to(logits.device)
        logits, target = (values.flatten().index_select(0, inside) for values in (logits, target))
        loss = F.binary_cross_entropy_with_logits(logits, target)
        self.log("loss", loss, batch_size=len(batch.starts))
        return loss

    def _score_step(self, batch: ClipBatch) -> None:
        probability = self.model(batch, self.query_seconds).sigmoid() * self._inside(batch)
        self._seen += list(zip(probability.cpu(), batch.starts, strict=True))

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self._score_step(batch)

    def test_step(self, batch: ClipBatch, batch_idx: int) -> None:
        self._score_step(batch)

    def on_validation_epoch_end(self) -> None:
        scored = {threshold: self._scored(threshold)[0] for threshold in _THRESHOLDS}
        self.threshold = max(scored, key=lambda threshold: scored[threshold]["map"])
        self.scores = {f"val_{name}": value for name, value in scored[self.threshold].items()}
        self._seen = []

    def on_test_epoch_end(self) -> None:
        scores, self.per_clip = self._scored(self.threshold)
        self.scores |= scores
        self._seen = []

    def _scored(self, threshold: float) -> tuple[dict[str, float], list[float]]:
        """Scores over the clips seen, and the mAP of each."""
        metric = JumpScoreMAP()
        texts = [json.dumps([round(s, 2) for s in peaks(p, STEP_SECONDS, threshold)]) for p, _ in self._seen]
        answers = [list(starts) for _, starts in self._seen]
        metric.update(texts, answers)
        each = [jumpscore_row(text, answer).map for text, answer in zip(texts, answers, strict=True)]
        return {name: float(value) for name, value in metric.compute().items()}, each
