"""Damping of scores: the n-th best block of a frame counts less, so that one frame does not take every place.

Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2). Letters: N blocks of a frame.
"""

import torch
from torch import Tensor


def damp_by_rank(scores: Tensor, rank_damping: float) -> tuple[Tensor, Tensor]:
    """Scores divided by sqrt(1 + rank_damping * rank), best first; ties in order of the blocks.

    Args:
        scores: (..., N) float64.
        rank_damping: 0 leaves the scores as they are.

    Returns:
        (..., N) float64 damped scores by rank, and the (..., N) long block at each rank.
    """
    ranked, block = scores.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(scores.shape[-1], device=scores.device, dtype=torch.float64)
    return ranked * (1.0 + rank_damping * ranks).rsqrt(), block
