"""Training-free token merging: alike tokens of an item become their mean, until a budget is met.

Source: bipartite soft matching of Token Merging (ToMe, arXiv 2210.09461, section 3), applied to the
tower's output instead of between its layers, with the features themselves as the measure.
Letters: N rows, K items, B items of one length, n rows of each, C width.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ov2kit.connectors.buckets import buckets, join, take
from ov2kit.connectors.interface import (
    Counts,
    Grids,
    Tokens,
    answer,
    check_budget,
    check_same_width,
    item_lengths,
)

Split = Literal["alternate", "mixed"]
_MAX_SCORES = 1 << 25  # cosines held at a time, 128 MiB in float32


class TokenMerger(nn.Module):
    """Merge the most alike tokens of each item, round by round; has no parameters.

    A round splits an item's tokens into two sets, finds for each token of the first the most alike one
    of the second (cosine), and merges the pairs with the highest cosine. A token's feature is the mean
    of all rows it stands for, so large tokens weigh more. Tokens keep the order of the rows; a
    merged token stands where its member of the second set stood. Ties go to the earlier row.
    Costs n * n / 4 cosines per round and item, never N * N; scores are held in pieces.

    Args:
        width: C, channels of the features and of the tokens.
        out_width: `width` or omitted; there so that every connector is built the same way.
        tokens: most tokens per item; an item of fewer rows keeps its rows.
        rate: largest share of an item's tokens that one round merges away, in (0, 0.5]; smaller is more
            careful and slower.
        split: ``"alternate"`` is the source's rule, every other token. Two frames of an even number
            of rows then never meet at equal places in the first round; ``"mixed"`` splits by the
            Thue-Morse sequence, under which rows at any distance often fall into different sets.

    Raises:
        ValueError: `out_width` differs from `width`; `tokens`, `rate` or `split` is out of range.
    """

    def __init__(
        self,
        width: int,
        out_width: int | None = None,
        tokens: int = 64,
        *,
        rate: float = 0.25,
        split: Split = "alternate",
    ) -> None:
        super().__init__()
        check_same_width("TokenMerger", width, out_width)
        check_budget(tokens)
        if not 0 < rate <= 0.5:
            raise ValueError(f"rate must be in (0, 0.5], got {rate}")
        if split not in ("alternate", "mixed"):
            raise ValueError(f"unknown split {split!r}; known: 'alternate', 'mixed'")
        self.width = self.out_width = width
        self.tokens, self.rate, self.split = tokens, rate, split

    def tokens_out(self, n: int) -> int:
        """min(n, tokens)."""
        return min(n, self.tokens)

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tokens:
        """(N, width) -> (M, width), M the sum of min(rows, tokens) over the items.

        Gradients pass through the means, not through the choice of what to merge. Sums are float32.

        Args:
            features: (N, width), items one after another.
            counts: rows per item; one item when omitted.
            grids: (t, h, w) per item, instead of or beside `counts`.

        Returns:
            The tokens; with `counts` or `grids` given, ``(tokens, tokens per item)``.

        Raises:
            ValueError: the items do not add up to N.
        """
        lengths = item_lengths(features, self.width, counts, grids)
        owner = self._owners(features, lengths)
        total = sum(self.tokens_out(n) for n in lengths)
        rows = features.to(torch.promote_types(features.dtype, torch.float32))
        sizes = torch.bincount(owner, minlength=total)[:, None]
        tokens = _sum_rows(rows, owner, total) / sizes
        return answer(self, tokens.to(features.dtype), lengths, counts, grids)

    def owners(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """Which token each row becomes part of: (N,) int64 rows of `forward`'s tokens.

        For what the tokens stand for: their sizes (`torch.bincount`), mean positions, pictures.
        """
        return self._owners(features, item_lengths(features, self.width, counts, grids))

    @torch.no_grad()
    def _owners(self, features: Tensor, lengths: Sequence[int]) -> Tensor:
        found = buckets(lengths)
        if not found:
            return torch.zeros(0, dtype=torch.long, device=features.device)
        firsts, total = [], 0  # first token of each item
        for n in lengths:
            firsts.append(total)
            total += self.tokens_out(n)
        parts = []
        for bucket in found:
            first = torch.tensor([firsts[item] for item in bucket.items], device=features.device)
            parts.append(self._match(take(features, bucket).float()) + first[:, None])
        return join(parts, found)

    def _match(self, x: Tensor) -> Tensor:
        """(B, n, C) float32 -> (B, n) token of each row within its item."""
        batch, n, _ = x.shape
        device = x.device
        owner = torch.arange(n, device=device).expand(batch, n)
        size = torch.ones(batch, n, 1, device=device)
        while n > self.tokens:
            first, second = (torch.tensor(side, device=device) for side in _sides(n, self.split))
            merged = min(n - self.tokens, max(1, int(n * self.rate)), len(first))
            unit = F.normalize(x, dim=-1)
            score, partner = _best(unit[:, first], unit[:, second])
            gone = score.argsort(dim=1, descending=True, stable=True)[:, :merged]
            target = second[partner.gather(1, gone)]
            gone = first[gone]
            # where each token of this round goes: survivors close ranks in order, the others follow their partner
            stays = torch.ones(batch, n, dtype=torch.long, device=device).scatter(1, gone, 0)
            place = stays.cumsum(1) - 1
            place = place.scatter(1, gone, place.gather(1, target))
            n -= merged
            flat = (place + n * torch.arange(batch, device=device)[:, None]).flatten()
            total = _sum_rows((x * size).flatten(0, 1), flat, batch * n)
            size = _sum_rows(size.flatten(0, 1), flat, batch * n).view(batch, n, 1)
            x = total.view(batch, n, -1) / size
            owner = place.gather(1, owner)
        return owner

    def extra_repr(self) -> str:
        return f"tokens={self.tokens}, rate={self.rate}, split={self.split!r}"


def _sides(n: int, split: Split) -> tuple[list[int], list[int]]:
    """Token numbers of the two sets of a round; both hold at least one when n >= 2."""
    side = [i % 2 if split == "alternate" else i.bit_count() % 2 for i in range(n)]
    return [i for i in range(n) if side[i] == 0], [i for i in range(n) if side[i] == 1]


def _best(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(B, a, C), (B, b, C) unit rows -> highest cosine (B, a) and its row of the second set (B, a)."""
    step = max(1, _MAX_SCORES // (first.shape[0] * second.shape[1]))
    found = [(piece @ second.transpose(1, 2)).max(dim=2) for piece in torch.split(first, step, dim=1)]
    return torch.cat([best.values for best in found], dim=1), torch.cat([best.indices for best in found], dim=1)


def _sum_rows(rows: Tensor, index: Tensor, total: int) -> Tensor:
    """Sum (N, C) rows that share an index into (total, C), in the same order on every run."""
    zeros = rows.new_zeros(total, rows.shape[1])
    if rows.is_cuda:  # index_add on CUDA adds in any order; index_put sorts first
        return zeros.index_put((index,), rows, accumulate=True)
    return zeros.index_add(0, index, rows)
