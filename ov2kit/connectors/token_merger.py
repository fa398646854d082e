"""Training-free token merging: alike tokens of an item become their mean, until a budget is met.

Source: bipartite soft matching of Token Merging (ToMe, arXiv 2210.09461, section 3), applied to the
tower's output instead of between its layers, with the features themselves as the measure.
Letters: N rows, n rows of an item, C width, M tokens.
"""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from ov2kit.connectors.buckets import buckets, join, take
from ov2kit.connectors.checks import check_same_width
from ov2kit.connectors.interface import Counts, Grids, item_lengths
from ov2kit.connectors.matching import Split, match, sum_rows
from ov2kit.errors import check_choice, check_number


class TokenMerger(nn.Module):
    """Merge the most alike tokens of each item, round by round; has no parameters.

    A token is the mean of all rows it stands for, so large tokens weigh more (`matching.match` says which
    are merged). Tokens keep the order of the rows. Deterministic. Costs n * n / 4 cosines per round
    and item, never N * N.

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

    rows_per_token = None
    needs_grids = False

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
        check_number("tokens", tokens, low=1, integer=True)
        check_number("rate", rate, above=0, high=0.5)
        check_choice("split", split, get_args(Split))
        self.width = self.out_width = width
        self.tokens, self.rate, self.split = tokens, rate, split

    def tokens_out(self, n: int) -> int:
        """min(n, tokens)."""
        return min(n, self.tokens)

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) -> (M, width), M the sum of min(rows, tokens) over the items.

        Gradients pass through the means, not through the choice of what to merge. Sums are float32.

        Arguments and errors as in `Connector`.
        """
        lengths = item_lengths(features, self.width, counts, grids)
        owner = self._owners(features, lengths)
        total = sum(self.tokens_out(n) for n in lengths)
        rows = features.to(torch.promote_types(features.dtype, torch.float32))
        sizes = sum_rows(rows.new_ones(len(rows), 1), owner, total)
        tokens = sum_rows(rows, owner, total) / sizes
        return tokens.to(features.dtype)

    def owners(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """Which token each row becomes part of: (N,) int64 rows of `forward`'s tokens.

        For what the tokens stand for: their sizes (`torch.bincount`), mean positions, pictures.
        """
        return self._owners(features, item_lengths(features, self.width, counts, grids))

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
            parts.append(match(take(features, bucket), self.tokens, self.rate, self.split) + first[:, None])
        return join(parts, found)

    def extra_repr(self) -> str:
        return f"tokens={self.tokens}, rate={self.rate}, split={self.split!r}"
