"""Put segments of equal length side by side, so that a batch of them is a view and not a copy.

Done once for all blocks of a forward pass. Letters: N tokens.
"""

from itertools import pairwise

import torch
from torch import Tensor

from ov2kit.segments import Segments


def equal_lengths_together(segments: Segments) -> tuple[Segments, Tensor, Tensor] | None:
    """Segments sorted by length, if that brings equal ones together.

    Returns:
        (sorted segments, order (N,) int64 with `x[order]` in their order, its inverse), or None if
        equal lengths are neighbours already or segments see one another.
    """
    changes = sum(a != b for a, b in pairwise(segments.lengths))
    if segments.keys is not None or changes < len(set(segments.lengths)):
        return None
    by_length = sorted(range(len(segments.lengths)), key=segments.lengths.__getitem__)
    order = torch.cat([torch.arange(*segments.runs[i]) for i in by_length])
    device = segments.cu_seqlens.device
    together = Segments.from_lengths((segments.lengths[i] for i in by_length), device)
    return together, order.to(device), order.argsort().to(device)
