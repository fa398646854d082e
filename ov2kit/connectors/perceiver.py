"""Perceiver resampler: learned latents read an item of any length into a fixed number of tokens.

Source: Perceiver resampler of Flamingo (arXiv 2204.14198, appendix A.1.1); each layer's latents attend
to the rows and to themselves in one attention. Its time embeddings are left out, because the
tower's features carry time; add an embedding to the features where yours do not.
Letters: N rows, K items, T latents, C width.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ov2kit.connectors.buckets import Bucket, attend, buckets
from ov2kit.connectors.checks import check_heads, check_sizes, layer_arguments
from ov2kit.connectors.interface import Counts, Grids, item_lengths


class PerceiverResampler(nn.Module):
    """`depth` layers of latents attending to an item's rows and to each other.

    Args:
        width: C, channels of the features and of the latents.
        out_width: channels of a token.
        tokens: T, latents; every item becomes exactly this many tokens.
        depth: layers.
        heads: attention heads, a divisor of `width`.
        mlp_ratio: hidden channels of the feed-forward part, in units of `width`.
        eps: of the norms.
        norm_layer: makes the norms; called as `nn.LayerNorm` is, with (width, eps, device, dtype).
        act_layer: makes the activation of each feed-forward part; called without arguments.
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
        depth: int = 6,
        heads: int = 16,
        mlp_ratio: float = 4.0,
        eps: float = 1e-6,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, out_width=out_width, tokens=tokens, depth=depth, eps=eps)
        check_heads(heads, "width", width, mlp_ratio=mlp_ratio)
        make_norm, factory = layer_arguments(eps, device, dtype, norm_layer=norm_layer, act_layer=act_layer)
        self.width, self.out_width, self.tokens = width, out_width, tokens
        self.latents = nn.Parameter(torch.empty(tokens, width, **factory))
        self.layers = nn.ModuleList(
            _Layer(width, heads, int(width * mlp_ratio), make_norm, act_layer, factory) for _ in range(depth)
        )
        self.norm = make_norm(width)
        self.proj = nn.Linear(width, out_width, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new latents, normal with deviation 0.02; the layers have their own such method."""
        nn.init.normal_(self.latents, std=0.02)

    def tokens_out(self, n: int) -> int:
        """`tokens`, whatever n is."""
        return self.tokens

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) -> (items * tokens, out_width).

        Arguments and errors as in `Connector`.
        """
        lengths = item_lengths(features, self.width, counts, grids)
        found = buckets(lengths)
        latents = self.latents.expand(len(lengths), -1, -1)
        for layer in self.layers:
            latents = layer(latents, features, found)
        tokens: Tensor = self.proj(self.norm(latents)).flatten(0, 1)
        return tokens

    def extra_repr(self) -> str:
        return f"tokens={self.tokens}"


class _Layer(nn.Module):
    """Latents (K, T, C) read features (N, C) and themselves, then a feed-forward part; both residual."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        make_norm: Callable[[int], nn.Module],
        act_layer: Callable[..., nn.Module],
        factory: dict[str, Any],
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm_features = make_norm(width)
        self.norm_latents = make_norm(width)
        self.query = nn.Linear(width, width, bias=False, **factory)
        self.key_value = nn.Linear(width, 2 * width, bias=False, **factory)
        self.out = nn.Linear(width, width, bias=False, **factory)
        self.mlp = nn.Sequential(
            make_norm(width), nn.Linear(width, hidden, **factory), act_layer(), nn.Linear(hidden, width, **factory)
        )

    def forward(self, latents: Tensor, features: Tensor, found: list[Bucket]) -> Tensor:
        x = self.norm_latents(latents)
        query = self._heads(self.query(x))
        key, value = (self._heads(part) for part in self.key_value(self.norm_features(features)).chunk(2, dim=-1))
        own_key, own_value = (self._heads(part) for part in self.key_value(x).chunk(2, dim=-1))
        read = attend(query, key, value, found, own=(own_key, own_value))
        latents = latents + self.out(read.flatten(-2))
        fed: Tensor = self.mlp(latents)
        return latents + fed

    def _heads(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., heads, C / heads)."""
        return rearrange(x, "... (heads d) -> ... heads d", heads=self.heads)
