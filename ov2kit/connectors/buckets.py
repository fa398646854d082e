"""Items of equal length as one batch: one step per distinct length, never one per item.

Packed items of many lengths need neither padding nor a mask over the packed sequence: items that
have the same length are stacked, worked on together, and put back in their places.
Letters: K items, B items in a bucket, n rows of each of them, N rows in all.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Bucket:
    """Items of one length and shape.

    Args:
        shape: what the rows of every item here are; (n,) or a grid of n patches.
        items: which items, ascending.
        starts: first packed row of each.
    """

    shape: tuple[int, ...]
    items: tuple[int, ...]
    starts: tuple[int, ...]

    @property
    def length(self) -> int:
        """n, rows of every item here."""
        return math.prod(self.shape)


def buckets(shapes: Sequence[int | tuple[int, ...]]) -> list[Bucket]:
    """Items (lengths, or grids of patches) sorted into buckets, by first appearance."""
    found: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
    start = 0
    for item, given in enumerate(shapes):
        shape = (given,) if isinstance(given, int) else given
        items, starts = found.setdefault(shape, ([], []))
        items.append(item)
        starts.append(start)
        start += math.prod(shape)
    return [Bucket(shape, tuple(items), tuple(starts)) for shape, (items, starts) in found.items()]


def take(packed: Tensor, bucket: Bucket) -> Tensor:
    """(N, ...) -> (B, n, ...), a view when the bucket's items follow each other."""
    first, size = bucket.starts[0], len(bucket.items) * bucket.length
    if bucket.items[-1] - bucket.items[0] + 1 == len(bucket.items):
        return packed[first : first + size].reshape(len(bucket.items), bucket.length, *packed.shape[1:])
    return packed[_rows(bucket.starts, bucket.length, packed.device)]


def pick(per_item: Tensor, bucket: Bucket) -> Tensor:
    """(K, ...) -> (B, ...), the entries of the bucket's items."""
    return take(per_item, Bucket((1,), bucket.items, bucket.items)).squeeze(1)


def join(parts: Sequence[Tensor], found: Sequence[Bucket]) -> Tensor:
    """One (B, m, ...) per bucket -> (M, ...) packed in the order of the items; m may differ by bucket."""
    flat = [part.flatten(0, 1) for part in parts]
    if len(flat) == 1:
        return flat[0]
    sizes = {item: part.shape[1] for part, bucket in zip(parts, found, strict=True) for item in bucket.items}
    starts, total = {}, 0
    for item in sorted(sizes):
        starts[item] = total
        total += sizes[item]
    device = flat[0].device
    places = [
        _rows([starts[item] for item in bucket.items], part.shape[1], device).flatten()
        for part, bucket in zip(parts, found, strict=True)
    ]
    return torch.cat(flat)[torch.cat(places).argsort()]


def map_items(step: Callable[..., Tensor], found: Sequence[Bucket], *packed: Tensor) -> Tensor:
    """Run `step` on (B, n, ...) of each packed (N, ...) tensor, once per bucket; its (B, m, ...) come back packed.

    Without items the answer is no rows of the first tensor, which must then have the shape of a result.
    """
    if not found:
        return packed[0][:0]
    return join([step(*(take(x, bucket) for x in packed)) for bucket in found], found)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    found: Sequence[Bucket],
    own: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Each item's queries over that item's rows.

    Args:
        q: (K, T, heads, d) queries per item.
        k: (N, heads, d) packed keys.
        v: (N, heads, d) packed values.
        found: buckets of the N rows.
        own: further keys and values (K, S, heads, d) per item, seen beside the packed ones.

    Returns:
        (K, T, heads, d).
    """
    parts = []
    for bucket in found:
        keys, values = take(k, bucket), take(v, bucket)
        if own is not None:
            keys = torch.cat([keys, pick(own[0], bucket)], dim=1)
            values = torch.cat([values, pick(own[1], bucket)], dim=1)
        read = F.scaled_dot_product_attention(
            pick(q, bucket).transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
        )
        parts.append(read.transpose(1, 2))
    return join(parts, found).reshape(q.shape) if parts else q


def _rows(starts: Sequence[int], length: int, device: torch.device) -> Tensor:
    """(B, length) row numbers of runs that begin at `starts`."""
    return torch.tensor(starts, device=device)[:, None] + torch.arange(length, device=device)
