"""Attention by torch's scaled_dot_product_attention, one call per distinct length and no mask.

Segments of one length form a batch: as a view when they are neighbours, gathered when they are
not. With causal visibility the keys of a segment are a slice of the packed keys, so that nothing
of size N x N and no repeated key is built either.
Letters: N tokens, H heads, D head_dim, S segments of one shape, L queries of each.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.encoders.backends.backend import Backend
from ov2kit.segments import Segments

Run = tuple[int, int]


@dataclass(frozen=True)
class _Call:
    """Segments of one shape: their queries and their keys as runs of tokens."""

    queries: tuple[Run, ...]
    keys: tuple[Run, ...]


@lru_cache(maxsize=128)
def _calls(runs: tuple[Run, ...], keys: tuple[Run, ...]) -> tuple[_Call, ...]:
    """Which segments go through one call, in the order of their first token."""
    shapes: dict[Run, list[int]] = {}
    for index, ((start, end), (first, last)) in enumerate(zip(runs, keys, strict=True)):
        shapes.setdefault((end - start, last - first), []).append(index)
    return tuple(_Call(tuple(runs[i] for i in at), tuple(keys[i] for i in at)) for at in shapes.values())


def _neighbours(runs: tuple[Run, ...]) -> bool:
    return all(one[1] == other[0] for one, other in pairwise(runs))


def _batch(x: Tensor, runs: tuple[Run, ...]) -> Tensor:
    """(N, H, D) -> (S, H, L, D) without a copy where the runs are neighbours."""
    if _neighbours(runs):
        part = x[runs[0][0] : runs[-1][1]]
        return part.view(len(runs), -1, *x.shape[1:]).transpose(1, 2)
    return torch.stack([x[start:end] for start, end in runs]).transpose(1, 2)


def _run(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    if not len(q):
        return torch.empty_like(q) + (k + v) * 0
    calls = _calls(segments.runs, segments.keys or segments.runs)
    pieces: list[tuple[int, Tensor]] = []
    for call in calls:
        out = F.scaled_dot_product_attention(_batch(q, call.queries), _batch(k, call.keys), _batch(v, call.keys))
        out = out.transpose(1, 2)  # (S, L, H, D), contiguous as the kernels leave it
        if _neighbours(call.queries):
            pieces.append((call.queries[0][0], out.flatten(0, 1)))
        else:
            pieces.extend((run[0], part) for run, part in zip(call.queries, out, strict=True))
    if len(pieces) == 1:
        return pieces[0][1]
    return torch.cat([piece for _, piece in sorted(pieces, key=lambda pair: pair[0])])


SDPA = Backend("sdpa", lambda q, segments: [], _run)
