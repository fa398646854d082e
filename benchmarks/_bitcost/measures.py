"""How near an estimated map comes to the bits really spent."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 32  # frames that compete
SHARE = 0.1  # part of them that counts as best; what chance gives


def correlation(estimate: Tensor, truth: Tensor) -> float:
    """Pearson's of log(1 + bits) over all macroblocks of all frames."""
    a, b = (x.double().log1p().flatten() for x in (estimate, truth))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12))


def areas(bits: Tensor) -> Tensor:
    """(T, R, C) -> (T, ceil(R / 2), ceil(C / 2)) sums of 2 x 2 macroblocks."""
    rows, cols = bits.shape[-2:]
    return F.avg_pool2d(F.pad(bits, (0, cols % 2, 0, rows % 2))[:, None], 2)[:, 0] * 4


def overlap(estimate: Tensor, truth: Tensor, counted: np.ndarray | None = None) -> float:
    """Mean over windows of 32 frames of |best 10 % of areas in both| / |best 10 %|; ties to the earlier one.

    Args:
        estimate: (T, R, C).
        truth: (T, R, C).
        counted: (T,) bool, frames that take part; all when omitted.
    """
    mine, theirs = areas(estimate), areas(truth)
    keep = np.ones(len(mine), dtype=bool) if counted is None else counted
    found = []
    for start in range(0, len(mine), WINDOW):
        take = torch.from_numpy(keep[start : start + WINDOW])
        if take.sum() < WINDOW // 4:  # the rest of a clip
            continue
        pair = [x[start : start + WINDOW][take].flatten() for x in (mine, theirs)]
        best = max(1, round(SHARE * len(pair[0])))
        chosen = [set(torch.argsort(x, descending=True, stable=True)[:best].tolist()) for x in pair]
        found.append(len(chosen[0] & chosen[1]) / best)
    return float(np.mean(found)) if found else float("nan")


def in_bytes(bits: Tensor, step: float = 8.0) -> Tensor:
    """What a decoder that counts whole bytes would tell of these bits: (T, R, C) in raster order."""
    ends = bits.double().flatten(1).cumsum(1)
    whole = (ends / step).floor() * step
    return torch.diff(whole, dim=1, prepend=torch.zeros_like(whole[:, :1])).view_as(bits).float()
