"""LitPoints: train the small model to say where each object is."""

from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.recipes.evidence.pointing.point_readout import PointQuery
from ov2kit.recipes.evidence.runs.clip_batch import ClipBatch
from ov2kit.recipes.evidence.runs.small_model import JumpModel
from ov2kit.recipes.spatial.prompts import PROMPT_FPS
from ov2kit.recipes.training.optim import adamw, cosine_with_warmup


class LitPoints(lightning.LightningModule):
    """A small model with a `PointReadout`, its loss and optimizer.

    Args:
        model: a `JumpModel` whose read-out takes a `PointQuery`.
        frames: pictures at 6 per second that are asked about.
        lr: peak learning rate.
        weight_decay: of AdamW.
        warmup_share: share of the steps.
    """

    query_seconds: Tensor

    def __init__(
        self, model: JumpModel, frames: int, *, lr: float = 3e-3, weight_decay: float = 0.01, warmup_share: float = 0.1
    ) -> None:
        super().__init__()
        self.model = model
        self.lr, self.weight_decay, self.warmup_share = lr, weight_decay, warmup_share
        self.register_buffer("query_seconds", torch.arange(frames) / PROMPT_FPS, persistent=False)

    def configure_optimizers(self) -> Any:
        """AdamW; linear warm-up, then a cosine to 0: the functions of the full recipe."""
        optimizer = adamw(self, {"model": self.lr}, betas=(0.9, 0.98), eps=1e-8, weight_decay=self.weight_decay)
        schedule = cosine_with_warmup(optimizer, int(self.trainer.estimated_stepping_batches), self.warmup_share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def forward(self, batch: ClipBatch, kinds: Tensor) -> Tensor:
        """(B, T, 3): x, y as shares of the edges, and the logit of being in sight."""
        found: Tensor = self.model(batch, PointQuery(self.query_seconds, kinds))
        return found

    def training_step(self, batch: tuple[ClipBatch, Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        clips, kinds, places, visible = batch
        found = self(clips, kinds)
        away = F.smooth_l1_loss(found[..., :2][visible], places[visible], beta=0.05)
        seen = F.binary_cross_entropy_with_logits(found[..., 2], visible.float())
        loss = 10 * away + 0.2 * seen
        self.log("loss", loss, batch_size=len(kinds))
        return loss
