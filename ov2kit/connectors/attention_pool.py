"""Attention pooling to a token budget: each run of rows is averaged with its own weights.

Source: attention over a small patch window with the window's mean as the query, as described for the
connector of Molmo (arXiv 2409.17146, section 2); here a window is a run of any length.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from ov2kit.connectors.buckets import buckets, map_items
from ov2kit.connectors.checks import check_heads, check_sizes, layer_arguments
from ov2kit.connectors.equal_runs import split_runs
from ov2kit.connectors.interface import Counts, Grids, item_lengths


class AttentionPool(nn.Module):
    """Cut each item into equal runs; the mean of a run asks, the rows of that run answer.

    Runs are those of `AveragePool`. With one query per run the scores are a row of dot products: plain
    arithmetic, linear in N, and free of the limit of 65 535 batch entries that attention kernels have.

    Args:
        width: C, channels of the features; also of the attention.
        out_width: channels of a token.
        tokens: most tokens per item; an item of fewer rows gives one token per row.
        heads: attention heads, a divisor of `width`.
        eps: of the norm.
        norm_layer: makes the norm; called as `nn.LayerNorm` is, with (width, eps, device, dtype).
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `heads` does not divide `width`, or `tokens` is below 1.
    """

    rows_per_token = None
    needs_grids = False

    def __init__(
        self,
        width: int,
        out_width: int,
        tokens: int = 64,
        *,
        heads: int = 16,
        eps: float = 1e-6,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, out_width=out_width, tokens=tokens, eps=eps)
        check_heads(heads, "width", width)
        make_norm, factory = layer_arguments(eps, device, dtype, norm_layer=norm_layer)
        self.width, self.out_width, self.tokens, self.heads = width, out_width, tokens, heads
        self.norm = make_norm(width)
        self.query = nn.Linear(width, width, bias=False, **factory)
        self.key_value = nn.Linear(width, 2 * width, bias=False, **factory)
        self.proj = nn.Linear(width, out_width, **factory)

    def tokens_out(self, n: int) -> int:
        """min(n, tokens)."""
        return min(n, self.tokens)

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) -> (M, out_width), M the sum of min(rows, tokens) over the items.

        Arguments and errors as in `Connector`.
        """
        lengths = item_lengths(features, self.width, counts, grids)
        x = self.norm(features)
        key, value = self.key_value(x).chunk(2, dim=-1)
        pooled = map_items(self._pool, buckets(lengths), x, key, value)
        tokens: Tensor = self.proj(pooled)
        return tokens

    def _pool(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Three (B, n, C) -> (B, min(n, tokens), C)."""
        return split_runs(self._pool_runs, self.tokens, x, key, value)

    def _pool_runs(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Three (B, runs, r, C) -> (B, runs, C). Softmax not below float32."""
        query = self._heads(self.query(x.mean(dim=2, keepdim=True)))
        scores = (query * self._heads(key)).sum(-1) * query.shape[-1] ** -0.5  # (B, runs, r, heads)
        weights = scores.softmax(dim=2, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
        pooled: Tensor = weights.unsqueeze(-1) * self._heads(value)
        return pooled.sum(dim=2).flatten(-2)

    def _heads(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., heads, C / heads)."""
        return rearrange(x, "... (heads d) -> ... heads d", heads=self.heads)

    def extra_repr(self) -> str:
        return f"tokens={self.tokens}, heads={self.heads}"
