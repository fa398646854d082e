"""Bipartite soft matching: which rows of an item become one token.

Source: Token Merging (ToMe, arXiv 2210.09461, section 3), with the rows themselves as the measure.
Letters: B items of one length, n rows of each, C width.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Split = Literal["alternate", "mixed"]
_MAX_SCORES = 1 << 25  # cosines held at a time, 128 MiB in float32


def match(x: Tensor, tokens: int, rate: float, split: str) -> Tensor:
    """Merge each item's rows, round by round, until `tokens` are left.

    A round splits the tokens into two sets, finds for each token of the first the most alike one of the
    second (cosine of the means of their rows), and merges the pairs with the highest cosine, at most
    `rate` of all tokens. Tokens stay in the order of the rows; a merged token stands where its member of the
    second set stood. Ties go to the earlier token. n * n / 4 cosines per round, held in pieces.

    Args:
        x: (B, n, C); computed in float32 at least.
        tokens: tokens to end with, at least 1; n if that is fewer.
        rate: in (0, 0.5].
        split: how a round splits: ``"alternate"`` or ``"mixed"``.

    Returns:
        (B, n) int64, the token of each row within its item. No gradient.
    """
    # one opaque step for a compiler: traced with symbolic lengths, these rounds take it minutes
    if torch.compiler.is_compiling():
        owner: Tensor = _match_op(x.detach(), tokens, rate, split)
        return owner
    return _match(x, tokens, rate, split)


@torch.no_grad()
def _match(x: Tensor, tokens: int, rate: float, split: str) -> Tensor:
    batch, n, _ = x.shape
    device = x.device
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    owner = torch.arange(n, device=device).repeat(batch, 1)
    size = x.new_ones(batch, n, 1)
    while n > tokens:
        first, second = _sides(n, split, device)
        merged = min(n - tokens, max(1, int(n * rate)), len(first))
        unit = F.normalize(x, dim=-1)
        score, partner = _best(unit[:, first], unit[:, second])
        gone = score.argsort(dim=1, descending=True, stable=True)[:, :merged]
        target = second[partner.gather(1, gone)]
        gone = first[gone]
        # survivors close ranks in order, then the others take their partner's place
        stays = torch.ones(batch, n, dtype=torch.long, device=device).scatter(1, gone, 0)
        place = stays.cumsum(1) - 1
        place = place.scatter(1, gone, place.gather(1, target))
        n -= merged
        index = (place + n * torch.arange(batch, device=device)[:, None]).flatten()
        total = sum_rows((x * size).flatten(0, 1), index, batch * n).view(batch, n, -1)
        size = sum_rows(size.flatten(0, 1), index, batch * n).view(batch, n, 1)
        x = total / size
        owner = place.gather(1, owner)
    return owner


_match_op = torch.library.custom_op("ov2kit::match", _match, mutates_args=())


@_match_op.register_fake
def _(x: Tensor, tokens: int, rate: float, split: str) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=torch.long)


def sum_rows(rows: Tensor, index: Tensor, total: int) -> Tensor:
    """Sum (N, C) rows that share an index into (total, C), in the same order on every run."""
    zeros = rows.new_zeros(total, rows.shape[1])
    if rows.is_cuda:  # index_add on CUDA adds in any order; index_put sorts first
        return zeros.index_put((index,), rows, accumulate=True)
    return zeros.index_add(0, index, rows)


def _sides(n: int, split: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token numbers of the two sets of a round of n >= 2 tokens, each ascending and not empty."""
    token = torch.arange(n, device=device)
    if split == "alternate":
        return token[0::2], token[1::2]
    # Thue-Morse: parity of the bits of the number. 2i and 2i + 1 always differ, so each pair gives one to either set
    pairs = token[: n - n % 2].view(-1, 2)
    parity = pairs[:, :1]
    for shift in (32, 16, 8, 4, 2, 1):
        parity = parity ^ (parity >> shift)
    parity = parity & 1
    first, second = pairs.gather(1, parity).flatten(), pairs.gather(1, 1 - parity).flatten()
    return (torch.cat([first, token[-1:]]) if n % 2 else first), second


def _best(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(B, a, C), (B, b, C) unit rows -> highest cosine (B, a) and its row of the second set (B, a)."""
    step = max(1, _MAX_SCORES // (first.shape[0] * second.shape[1]))
    found = [(piece @ second.transpose(1, 2)).max(dim=2) for piece in torch.split(first, step, dim=1)]
    return torch.cat([best.values for best in found], dim=1), torch.cat([best.indices for best in found], dim=1)
