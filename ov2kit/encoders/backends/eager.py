"""The definition of attention within segments, for tests and debugging.

Builds the N x N mask on purpose, so that nothing is shared with the fast backends.
"""

import torch
from torch import Tensor

from ov2kit.encoders.backends.backend import Backend
from ov2kit.segments import Segments


def _run(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    exact = torch.promote_types(q.dtype, torch.float32)
    scores = torch.einsum("qhd,khd->hqk", q.to(exact), k.to(exact)) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~segments.dense().to(q.device), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v.to(exact)).to(v.dtype)


EAGER = Backend("eager", lambda q, segments: [], _run, auto=False)
