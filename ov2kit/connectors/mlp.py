"""MLP connector with pixel shuffle: the common choice of open vision-language models.

Source: pixel shuffle and two-layer projector as described for InternVL 1.5 (arXiv 2404.16821,
section 3.1); with merge 1 the two-layer projector of LLaVA-1.5 (arXiv 2310.03744).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ov2kit.connectors.checks import check_sizes, layer_arguments
from ov2kit.connectors.interface import Counts, Grids, item_lengths, merged_count


class MLPConnector(nn.Module):
    """Put merge x merge neighbors side by side in the channels, normalize, `depth` linear layers.

    Unlike `PatchMerger` the norm comes after the shuffle, and the hidden layer has the language
    model's width. Features must be in block layout when merge > 1.

    Args:
        width: channels of the features.
        out_width: channels of a token.
        merge: patches per block edge; 1 leaves the number of tokens as it is.
        depth: linear layers, an activation between them; 1 is a plain projection.
        hidden: channels between linear layers; `out_width` when omitted.
        eps: of the norm.
        norm_layer: makes the norm; called as `nn.LayerNorm` is, with (width, eps, device, dtype).
        act_layer: makes what stands between linear layers; called without arguments.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `depth` is below 1.
    """

    needs_grids = False

    def __init__(
        self,
        width: int,
        out_width: int,
        merge: int = 2,
        *,
        depth: int = 2,
        hidden: int | None = None,
        eps: float = 1e-6,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, out_width=out_width, merge=merge, depth=depth, hidden=hidden, eps=eps)
        make_norm, factory = layer_arguments(eps, device, dtype, norm_layer=norm_layer, act_layer=act_layer)
        self.width, self.out_width, self.merge = width, out_width, merge
        sizes = [width * merge**2, *[hidden or out_width] * (depth - 1), out_width]
        layers: list[nn.Module] = [make_norm(sizes[0])]
        for i in range(depth):
            layers += [act_layer()] if i else []
            layers += [nn.Linear(sizes[i], sizes[i + 1], **factory)]
        self.mlp = nn.Sequential(*layers)

    @property
    def rows_per_token(self) -> int:
        return self.merge**2

    def tokens_out(self, n: int) -> int:
        """n / merge**2. Raises ValueError when n is not a whole number of blocks."""
        return merged_count(n, self.merge)

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) in block layout -> (N / merge**2, out_width).

        Arguments and errors as in `Connector`. Items are only checked: each block is merged alone.
        """
        for n in set(item_lengths(features, self.width, counts, grids)):
            self.tokens_out(n)
        tokens: Tensor = self.mlp(features.reshape(-1, self.width * self.merge**2))
        return tokens

    def extra_repr(self) -> str:
        return f"merge={self.merge}"
