"""Training-free pruning of what is common: rows near the mean of their frame and of the clip are dropped.

Source: Video Compression Commander (VidCom2, arXiv 2505.14454), with the constants of its public implementation.
Letters: B clips, t frames, n rows of a frame, C width, M tokens of a clip.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ov2kit.connectors.pruner import Pruner

_VARIANCES = (0.125, 0.25, 0.5, 1.0, 2.0)  # of the Gaussians that are added up
_TEMPERATURE = 0.01  # of the softmax over frames


class UniquenessPruner(Pruner):
    """Keep the rows that are least like the mean of their frame and that of the clip, more of them in unusual frames.

    Likeness is a sum of Gaussians of the distance between unit vectors, over the half of the channels that varies
    least in the clip. A frame's part of the tokens is M / t * (1 + p - 1 / t), p a softmax over the frames of how
    little alike its rows are to the mean of the clip. The source rounds each part by itself, so that the sum is not
    M. Here it is: the k-th most distinct row of a frame (k = 0, 1, ...) stands at (k + 1/2) / part, and the first M
    of the clip are kept (Webster's method).

    Arguments and errors as in `Pruner`.
    """

    def worth(self, x: Tensor) -> Tensor:
        """(B, t, n, C) -> (B, t, n), -(k + 1/2) / part."""
        frames = x.shape[1]
        spread = x.flatten(1, 2).var(dim=1, correction=0)
        channels = spread.argsort(dim=-1, stable=True)[:, : max(1, x.shape[-1] // 2)].sort(dim=-1).values
        unit = F.normalize(x.take_along_dim(channels[:, None, None], dim=-1), dim=-1)
        to_clip = _likeness(unit, unit.mean(dim=(1, 2), keepdim=True))
        to_frame = _likeness(unit, unit.mean(dim=2, keepdim=True))
        share = (-to_clip.mean(dim=-1) / _TEMPERATURE).softmax(dim=-1)
        part = 1 + share - 1 / frames  # times M / t, which changes no order
        order = (to_clip + to_frame).argsort(dim=-1, stable=True)
        rank = order.argsort(dim=-1)
        return -(rank + 0.5) / part[..., None]


def _likeness(unit: Tensor, center: Tensor) -> Tensor:
    """(B, t, n, C) and what it is compared with -> (B, t, n)."""
    square = (unit - center).square().sum(dim=-1)
    return torch.stack([(-square / (2 * variance)).exp() for variance in _VARIANCES]).sum(dim=0)
