"""How scores are spread over time: an event is shown more than once, and no place again and again.

Letters: T frames, hb x wb blocks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def echoed(scores: Tensor, share: float) -> Tensor:
    """(T, hb, wb) plus so much of the better of the two neighbors in time."""
    padded = F.pad(scores, (0, 0, 0, 0, 1, 1))
    return scores + share * torch.maximum(padded[:-2], padded[2:])


def damped_over_time(scores: Tensor, damping: float) -> Tensor:
    """(T, hb, wb) divided by sqrt(1 + damping * rank): of the moments of a place, best first, the earlier of equals."""
    order = scores.sort(dim=0, descending=True, stable=True).indices
    ranks = torch.arange(len(scores), dtype=scores.dtype, device=scores.device)
    factor = (1 + damping * ranks).rsqrt()[:, None, None].expand(scores.shape)
    return scores * torch.empty_like(scores).scatter_(0, order, factor)
