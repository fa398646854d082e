"""Cut items of one length into nearly equal runs of consecutive rows, without copying them.

Letters: B items, n rows of each, m = min(n, tokens) runs of r or r + 1 rows, r = n // m.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def split_runs(step: Callable[..., Tensor], tokens: int, *rows: Tensor) -> Tensor:
    """Run `step` on the (B, runs, r, ...) views of each (B, n, ...) tensor; one result per run.

    The n % m longer runs come first: then both lengths are plain views.

    Args:
        step: takes the views, gives (B, runs, ...).
        tokens: most runs per item.
        rows: tensors (B, n, ...).

    Returns:
        (B, m, ...) in the order of the rows.
    """
    n = rows[0].shape[1]
    m = min(n, tokens)
    short, longer = n // m, n % m
    cut = longer * (short + 1)
    parts = []
    if longer:
        parts.append(step(*(_cut(x[:, :cut], longer) for x in rows)))
    parts.append(step(*(_cut(x[:, cut:], m - longer) for x in rows)))
    return torch.cat(parts, dim=1) if longer else parts[0]


def _cut(x: Tensor, runs: int) -> Tensor:
    """(B, runs * r, ...) -> (B, runs, r, ...)."""
    return x.reshape(x.shape[0], runs, x.shape[1] // runs, *x.shape[2:])
