"""Query transformer: learned queries that talk to each other and, every few layers, to the item.

Source: Q-Former of BLIP-2 (arXiv 2301.12597, section 3.1), its image branch: self-attention in every
layer, cross-attention in every second one. Pre-norm here; the source's text branch is left out.
Letters: N rows, K items, T queries, D hidden.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ov2kit.connectors.buckets import Bucket, attend, buckets
from ov2kit.connectors.checks import check_heads, check_sizes, layer_arguments
from ov2kit.connectors.interface import Counts, Grids, item_lengths


class QueryTransformer(nn.Module):
    """`depth` layers of self-attention and feed-forward over the queries, cross-attention in some.

    Args:
        width: channels of the features.
        out_width: channels of a token.
        tokens: T, queries; every item becomes exactly this many tokens.
        hidden: D, channels of the queries.
        depth: layers.
        heads: attention heads, a divisor of `hidden`.
        cross_every: layers 0, cross_every, 2 * cross_every, ... look at the item.
        mlp_ratio: hidden channels of the feed-forward part, in units of `hidden`.
        eps: of the norms.
        norm_layer: makes the norms; called as `nn.LayerNorm` is, with (width, eps, device, dtype).
        act_layer: makes the activation of each feed-forward part; called without arguments.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `heads` does not divide `hidden`, or `tokens` or `cross_every` is below 1.
    """

    rows_per_token = None
    needs_grids = False

    def __init__(
        self,
        width: int,
        out_width: int,
        tokens: int = 32,
        *,
        hidden: int = 768,
        depth: int = 6,
        heads: int = 12,
        cross_every: int = 2,
        mlp_ratio: float = 4.0,
        eps: float = 1e-6,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, out_width=out_width, tokens=tokens, depth=depth, cross_every=cross_every, eps=eps)
        check_heads(heads, "hidden", hidden, mlp_ratio=mlp_ratio)
        make_norm, factory = layer_arguments(eps, device, dtype, norm_layer=norm_layer, act_layer=act_layer)
        self.width, self.out_width, self.tokens = width, out_width, tokens
        self.queries = nn.Parameter(torch.empty(tokens, hidden, **factory))
        self.norm_features = make_norm(width)
        self.layers = nn.ModuleList(
            _Layer(
                hidden,
                width if i % cross_every == 0 else None,
                heads,
                int(hidden * mlp_ratio),
                make_norm,
                act_layer,
                factory,
            )
            for i in range(depth)
        )
        self.norm = make_norm(hidden)
        self.proj = nn.Linear(hidden, out_width, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new queries, normal with deviation 0.02; the layers have their own such method."""
        nn.init.normal_(self.queries, std=0.02)

    def tokens_out(self, n: int) -> int:
        """`tokens`, whatever n is."""
        return self.tokens

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) -> (items * tokens, out_width).

        Arguments and errors as in `Connector`.
        """
        lengths = item_lengths(features, self.width, counts, grids)
        found = buckets(lengths)
        x = self.norm_features(features)
        queries = self.queries.expand(len(lengths), -1, -1)
        for layer in self.layers:
            queries = layer(queries, x, found)
        tokens: Tensor = self.proj(self.norm(queries)).flatten(0, 1)
        return tokens

    def extra_repr(self) -> str:
        return f"tokens={self.tokens}"


class _Layer(nn.Module):
    """Queries (K, T, D): self-attention, cross-attention when `width` is given, feed-forward; all residual."""

    def __init__(
        self,
        hidden: int,
        width: int | None,
        heads: int,
        mlp_width: int,
        make_norm: Callable[[int], nn.Module],
        act_layer: Callable[..., nn.Module],
        factory: dict[str, Any],
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm_self = make_norm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False, **factory)
        self.out_self = nn.Linear(hidden, hidden, **factory)
        self.cross = None if width is None else _CrossAttention(hidden, width, heads, make_norm, factory)
        self.mlp = nn.Sequential(
            make_norm(hidden),
            nn.Linear(hidden, mlp_width, **factory),
            act_layer(),
            nn.Linear(mlp_width, hidden, **factory),
        )

    def forward(self, queries: Tensor, features: Tensor, found: list[Bucket]) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm_self(queries)), "K T (s h d) -> s K h T d", s=3, h=self.heads)
        seen = rearrange(F.scaled_dot_product_attention(q, k, v), "K h T d -> K T (h d)")
        queries = queries + self.out_self(seen)
        if self.cross is not None:
            queries = queries + self.cross(queries, features, found)
        fed: Tensor = self.mlp(queries)
        return queries + fed


class _CrossAttention(nn.Module):
    """Queries (K, T, D) read the rows (N, width) of their item."""

    def __init__(
        self,
        hidden: int,
        width: int,
        heads: int,
        make_norm: Callable[[int], nn.Module],
        factory: dict[str, Any],
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm = make_norm(hidden)
        self.query = nn.Linear(hidden, hidden, bias=False, **factory)
        self.key_value = nn.Linear(width, 2 * hidden, bias=False, **factory)
        self.out = nn.Linear(hidden, hidden, **factory)

    def forward(self, queries: Tensor, features: Tensor, found: list[Bucket]) -> Tensor:
        query = rearrange(self.query(self.norm(queries)), "K T (h d) -> K T h d", h=self.heads)
        key, value = rearrange(self.key_value(features), "N (s h d) -> s N h d", s=2, h=self.heads)
        read: Tensor = self.out(attend(query, key, value, found).flatten(-2))
        return read
