"""Cutting supervised rows back into prompts and answers, to see what a model says by itself."""

import torch
from torch import Tensor

from ov2kit.recipes.prompt.sample import IGNORE, Batch


def last_answers(batch: Batch) -> list[Tensor]:
    """The last supervised run of each row, (A,) int64; empty where nothing is supervised.

    Earlier answers belong to the prompt: the model is asked to continue a conversation as it was.
    """
    return [row[start:end] for row, (start, end) in zip(batch.labels, _runs(batch), strict=True)]


def prompts(batch: Batch, pad_id: int) -> Batch:
    """The rows up to their last answer, padded on the left; rows without one stay whole.

    Pictures stay as they are: answers hold none.

    Raises:
        ValueError: a packed batch, whose samples share a row.
    """
    if batch.position_ids is not None:
        raise ValueError("packed samples share a row and cannot be continued one by one; do not pack this split")
    real = [row.nonzero().flatten() for row in batch.attention_mask]
    rows = []
    for ids, places, (start, _) in zip(batch.input_ids, real, _runs(batch), strict=True):
        rows.append(ids[places[places < start]])
    longest = max(len(row) for row in rows)
    ids = torch.stack([torch.cat([row.new_full((longest - len(row),), pad_id), row]) for row in rows])
    mask = torch.stack([(torch.arange(longest) >= longest - len(row)).long() for row in rows]).to(ids.device)
    return batch.replace(input_ids=ids, attention_mask=mask, labels=torch.full_like(ids, IGNORE))


def _runs(batch: Batch) -> list[tuple[int, int]]:
    """[start, end) of the last supervised run of each row; (S, S) where there is none."""
    runs = []
    for row in (batch.labels != IGNORE).tolist():
        end = max((i + 1 for i, supervised in enumerate(row) if supervised), default=len(row))
        start = end
        while start > 0 and row[start - 1]:
            start -= 1
        runs.append((start, end))
    return runs
