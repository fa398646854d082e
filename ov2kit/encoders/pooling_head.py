"""Pool the features of each item into one vector with a learned probe.

Source: `Siglip2MultiheadAttentionPoolingHead` of the stand-alone OneVision-Encoder release.
Letters: N tokens, B items, C width, H heads, D = C / H.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ov2kit.encoders.linear import linear
from ov2kit.encoders.mlp import MLP
from ov2kit.errors import check_divides, check_layer, check_number, factory_kwargs
from ov2kit.segments import Segments


class ProbeAttention(nn.Module):
    """`nn.MultiheadAttention` for one query over packed items; the same parameters and names.

    torch's own reads the weights of its output projection, so that adapters and hooks on it have no
    effect, and wants items padded to one length.

    Args:
        width: C.
        heads: H; divides `width`.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = factory_kwargs(device, dtype)
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width, **factory))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width, **factory))
        self.out_proj = nn.Linear(width, width, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections of query, key and value as torch does."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.in_proj_bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, probe: Tensor, x: Tensor, items: Segments) -> Tensor:
        """probe: (C,), the query of every item; x: (N, C) keys and values -> (B, C)."""
        heads, width = self.heads, x.shape[-1]
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query = F.linear(probe, weights[0], biases[0]).view(heads, -1)
        keys = F.linear(x, weights[1], biases[1]).view(len(x), heads, -1)
        values = F.linear(x, weights[2], biases[2]).view(len(x), heads, -1)
        # All items ask with the same query, so one softmax per item over (N, H) numbers is all there is.
        scores = torch.einsum("nhd,hd->nh", keys, query) * query.shape[-1] ** -0.5
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        ids, count = items.ids(), len(items.lengths)
        spread = ids[:, None].expand_as(scores)
        peak = torch.full((count, heads), -torch.inf, dtype=scores.dtype, device=x.device)
        peak = peak.scatter_reduce(0, spread, scores.detach(), "amax")
        shares = (scores - peak[ids]).exp()
        total = torch.zeros_like(peak).index_add(0, ids, shares)
        shares = (shares / total[ids]).to(x.dtype)
        pooled = torch.zeros(count, heads, width // heads, dtype=x.dtype, device=x.device)
        pooled = pooled.index_add(0, ids, shares[..., None] * values).flatten(1)
        return linear(pooled, self.out_proj)


class PoolingHead(nn.Module):
    """One learned query attends over the tokens of an item; then x + mlp(norm(x)).

    Every item of a packed batch is pooled on its own. The release's code attends over the whole
    packed call, which is the same for a call with one item.

    Args:
        width: C.
        heads: H; divides `width`.
        mlp_width: hidden width of the perceptron.
        eps: of the norm.
        norm_layer: makes the norm; called as `nn.RMSNorm` is, with (width, eps, device, dtype).
        act_layer: makes the perceptron's activation; called without arguments.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        *,
        eps: float = 1e-6,
        norm_layer: Callable[..., nn.Module] = nn.RMSNorm,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_divides("heads", heads, "width", width)
        check_number("mlp_width", mlp_width, low=1, integer=True)
        check_number("eps", eps, low=0)
        check_layer("norm_layer", norm_layer)
        factory = factory_kwargs(device, dtype)
        self.probe = nn.Parameter(torch.empty(1, 1, width, **factory))
        self.attention = ProbeAttention(width, heads, **factory)
        self.norm = norm_layer(width, eps=eps, **factory)
        self.mlp = MLP(width, mlp_width, act_layer=act_layer, **factory)
        nn.init.trunc_normal_(self.probe, std=0.02)

    def forward(self, x: Tensor, items: Segments) -> Tensor:
        """x: (N, C) packed features, `items`: which tokens belong to which item -> (B, C)."""
        pooled: Tensor = self.attention(self.probe[0, 0], x, items)
        refined: Tensor = self.mlp(self.norm(pooled))
        return pooled + refined
