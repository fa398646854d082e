"""Average pooling to a token budget: the plainest way to a fixed number of tokens."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ov2kit.connectors.buckets import buckets, map_items
from ov2kit.connectors.checks import check_sizes, layer_arguments
from ov2kit.connectors.equal_runs import split_runs
from ov2kit.connectors.interface import Counts, Grids, item_lengths


class AveragePool(nn.Module):
    """Normalize rows, cut each item into equal runs, average every run, one linear layer.

    Runs are consecutive rows, so in block layout a run of merge**2 rows is one block and longer runs
    are strips of blocks; lengths of runs differ by at most one row, the longer ones come first.

    Args:
        width: C, channels of the features.
        out_width: channels of a token.
        tokens: most tokens per item; an item of fewer rows keeps its rows.
        eps: of the norm.
        norm_layer: makes the norm; called as `nn.LayerNorm` is, with (width, eps, device, dtype).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `tokens` is below 1.
    """

    rows_per_token = None
    needs_grids = False

    def __init__(
        self,
        width: int,
        out_width: int,
        tokens: int = 64,
        *,
        eps: float = 1e-6,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, out_width=out_width, tokens=tokens, eps=eps)
        make_norm, factory = layer_arguments(eps, device, dtype, norm_layer=norm_layer)
        self.width, self.out_width, self.tokens = width, out_width, tokens
        self.norm = make_norm(width)
        self.proj = nn.Linear(width, out_width, **factory)

    def tokens_out(self, n: int) -> int:
        """min(n, tokens)."""
        return min(n, self.tokens)

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) -> (M, out_width), M the sum of min(rows, tokens) over the items.

        Arguments and errors as in `Connector`.
        """
        lengths = item_lengths(features, self.width, counts, grids)
        pooled = map_items(self._pool, buckets(lengths), self.norm(features))
        tokens: Tensor = self.proj(pooled)
        return tokens

    def _pool(self, x: Tensor) -> Tensor:
        """(B, n, C) -> (B, min(n, tokens), C)."""
        return split_runs(lambda runs: runs.mean(dim=2), self.tokens, x)

    def extra_repr(self) -> str:
        return f"tokens={self.tokens}"
