"""Losses of supervised tokens, summed by what their samples show.

Letters: B rows, S text length, T supervised tokens, V vocabulary.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.recipes.prompt.sample import IGNORE, SAMPLE_KINDS, Batch


def summed_losses(batch: Batch, output: Any) -> tuple[Tensor, Tensor]:
    """Sum of the losses of a batch's supervised tokens, and what it is made of.

    Args:
        batch: what the model was given.
        output: what it made of it with `supervised_only`: `loss`, their mean, and `logits`.

    Returns:
        loss: () float32, with gradient.
        parts: (2, len(SAMPLE_KINDS)) float64, sums of losses and counts of tokens by kind of sample.
    """
    targets = F.pad(batch.labels[:, 1:], (0, 1), value=IGNORE)
    chosen = targets != IGNORE
    kinds = [SAMPLE_KINDS.index(kind_of(stats)) for stats in batch.stats] or [SAMPLE_KINDS.index("text")]
    parts = torch.zeros(2, len(SAMPLE_KINDS), dtype=torch.float64, device=chosen.device)
    count = chosen.sum()
    if len(set(kinds)) == 1:
        parts[:, kinds[0]] = torch.stack([output.loss.detach() * count, count])
    else:
        columns = chosen.any(0)
        kept = chosen[:, columns]
        owner = torch.tensor(kinds, device=chosen.device)[samples_of(batch)[:, columns][kept]]
        losses = _losses(output.logits[kept], targets[:, columns][kept])
        parts[0].index_add_(0, owner, losses.double())
        parts[1].index_add_(0, owner, torch.ones_like(owner, dtype=torch.float64))
    return output.loss * count, parts


def samples_of(batch: Batch) -> Tensor:
    """(B, S) int64: the sample that each token belongs to; filling of a packed row comes after the last."""
    if batch.position_ids is not None:
        return (batch.position_ids == 0).long().flatten().cumsum(0).view_as(batch.position_ids) - 1
    rows = torch.arange(len(batch.input_ids), device=batch.input_ids.device)
    return rows[:, None].expand_as(batch.input_ids)


def kind_of(stats: Mapping[str, float]) -> str:
    """What a sample shows, one of `SAMPLE_KINDS`; the first where it shows several."""
    return next((kind for kind in SAMPLE_KINDS if stats.get(kind)), "text")


@torch.no_grad()
def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(T, V) logits and (T,) targets -> (T,) float32, a thousand at a time to stay small."""
    pieces = (slice(start, start + 1024) for start in range(0, len(targets), 1024))
    return torch.cat([F.cross_entropy(logits[p].float(), targets[p], reduction="none") for p in pieces])
