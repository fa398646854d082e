"""Attention by torch's scaled_dot_product_attention, with batches of segments and no mask.

Neighbors of one length are a batch, a view of their tokens. On a GPU, where every call costs a launch,
tokens are first put in the order that brings all equal lengths together, by one gather. On a CPU calls
are cheap and copies are not: there the order stays. With causal visibility the keys of a segment are a
slice of the packed keys, so that nothing of size N x N is built either. All of it is linear in the
number of segments, forward and backward.
Letters: N tokens, H heads, D head_dim, S segments of one shape, L queries of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.encoders.backends.backend import Backend
from ov2kit.encoders.backends.slices import Bounds, slices
from ov2kit.encoders.ordering import are_together, permute, token_order
from ov2kit.segments import Segments


@dataclass(frozen=True)
class _Batches:
    """Neighbors of one length: (S, L) of each batch, and the order that made them neighbors, if another."""

    sizes: tuple[tuple[int, int], ...]
    order: Tensor | None = None
    inverse: Tensor | None = None


@lru_cache(maxsize=16)
def _batches(runs: tuple[Bounds, ...], device: torch.device, reorder: bool) -> _Batches:
    """The batches of segments that see themselves."""
    lengths = tuple(end - start for start, end in runs)
    if not reorder or are_together(lengths):
        return _Batches(tuple((len(list(same)), length) for length, same in groupby(lengths)))
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    order, inverse = token_order(runs, [i for at in by_length.values() for i in at])
    sizes = tuple((len(at), length) for length, at in by_length.items())
    return _Batches(sizes, order.to(device), inverse.to(device))


@lru_cache(maxsize=64)
def _calls(runs: tuple[Bounds, ...], keys: tuple[Bounds, ...]) -> tuple[tuple[int, ...], ...]:
    """Which segments go through one call: those with equally many queries and equally many keys."""
    shapes: dict[Bounds, list[int]] = {}
    for index, ((start, end), (first, last)) in enumerate(zip(runs, keys, strict=True)):
        shapes.setdefault((end - start, last - first), []).append(index)
    return tuple(map(tuple, shapes.values()))


def _run(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    if not len(q):
        return torch.empty_like(q) + (k + v) * 0
    if segments.keys is not None:
        return _others(q, k, v, segments.runs, segments.keys)
    return _own(q, k, v, segments.runs, reorder=q.device.type != "cpu")


def _own(q: Tensor, k: Tensor, v: Tensor, runs: tuple[Bounds, ...], reorder: bool) -> Tensor:
    """Every segment sees itself; `reorder` brings all of one length together."""
    found = _batches(runs, q.device, reorder)
    if found.order is not None and found.inverse is not None:
        q, k, v = (permute(x, found.order, found.inverse) for x in (q, k, v))
    counts = [many * length for many, length in found.sizes]
    split = (torch.split(x.transpose(0, 1)[None], counts, dim=2) for x in (q, k, v))
    outs = []
    for (many, _), *parts in zip(found.sizes, *split, strict=True):  # (1, H, S * L, D) each
        batch = parts if many == 1 else [x[0].unflatten(1, (many, -1)).transpose(0, 1) for x in parts]
        seen = F.scaled_dot_product_attention(*batch).transpose(1, 2)  # (S, L, H, D)
        outs.append(seen[0] if many == 1 else seen.flatten(0, 1))
    out = outs[0] if len(outs) == 1 else torch.cat(outs)
    return out if found.order is None or found.inverse is None else permute(out, found.inverse, found.order)


def _others(q: Tensor, k: Tensor, v: Tensor, runs: tuple[Bounds, ...], keys: tuple[Bounds, ...]) -> Tensor:
    """Every segment sees its run of keys; those may overlap."""
    queries, sources, values = slices(q, runs), slices(k, keys), slices(v, keys)
    outs: list[Tensor] = [q] * len(runs)
    for call in _calls(runs, keys):
        out = F.scaled_dot_product_attention(_stack(queries, call), _stack(sources, call), _stack(values, call))
        for index, part in zip(call, out.transpose(1, 2).unbind(0), strict=True):
            outs[index] = part
    return torch.cat(outs)


def _stack(parts: Sequence[Tensor], at: tuple[int, ...]) -> Tensor:
    """(S, H, L, D), without a copy of a single one."""
    batch = parts[at[0]][None] if len(at) == 1 else torch.stack([parts[i] for i in at])
    return batch.transpose(1, 2)


SDPA = Backend("sdpa", lambda q, segments: [], _run)
