"""Convolutional abstractor: residual convolutions on each canvas, pooling, convolutions again.

Source: C-Abstractor of Honeybee (arXiv 2312.06742, section 3.2): convolution blocks with channel
attention, average pooling to the wanted grid, convolution blocks, a two-layer readout. The blocks here
differ from the source's: depthwise 3 x 3 between two linear layers.
Letters: N rows, t canvases per item, h x w patches per canvas, m merge, D hidden.
"""

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ov2kit.connectors.buckets import buckets, join, take
from ov2kit.connectors.checks import check_sizes, layer_arguments
from ov2kit.connectors.interface import Counts, Grids, host_grids, item_lengths, merged_count
from ov2kit.errors import check_number, check_numbers


class ConvAbstractor(nn.Module):
    """Tokens that know their neighbors on the canvas, in the order `PatchMerger` gives them.

    Needs `grids`, as a convolution has to know which rows lie next to each other. Each canvas is worked
    on by itself; canvases of one size are a batch. On codec canvases, neighbors on the canvas are not
    always neighbors in the video, and padding blocks take part.

    Args:
        width: channels of the features.
        out_width: channels of a token.
        merge: m, patches per block edge of the block layout; also the pooling, unless `out_grid` is given.
        out_grid: (rows, columns) of tokens per canvas, whatever its size; items must then be single
            canvases (t = 1), or the number of tokens could not be known from the number of rows.
        hidden: D, channels of the convolutions; `width` when omitted.
        depth: residual blocks before the pooling, and again after it.
        eps: of the norms.
        norm_layer: makes the norms; called as `nn.LayerNorm` is, with (width, eps, device, dtype).
        act_layer: makes the activations, those of the channel gates excepted; called without arguments.
        device: of the parameters.
        dtype: of the parameters.
    """

    needs_grids = True

    def __init__(
        self,
        width: int,
        out_width: int,
        merge: int = 2,
        *,
        out_grid: tuple[int, int] | None = None,
        hidden: int | None = None,
        depth: int = 3,
        eps: float = 1e-6,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        act_layer: Callable[..., nn.Module] = nn.SiLU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes(width=width, out_width=out_width, merge=merge, hidden=hidden, eps=eps)
        check_numbers("out_grid", out_grid, length=2, low=1, integer=True, optional=True)
        check_number("depth", depth, low=0, integer=True)
        make_norm, factory = layer_arguments(eps, device, dtype, norm_layer=norm_layer, act_layer=act_layer)
        self.width, self.out_width, self.merge, self.out_grid = width, out_width, merge, out_grid
        hidden = hidden or width
        self.enter = nn.Sequential(make_norm(width), nn.Linear(width, hidden, **factory))
        self.before = nn.Sequential(*(_Block(hidden, make_norm, act_layer, factory) for _ in range(depth)))
        self.after = nn.Sequential(*(_Block(hidden, make_norm, act_layer, factory) for _ in range(depth)))
        self.leave = nn.Sequential(
            make_norm(hidden),
            nn.Linear(hidden, out_width, **factory),
            act_layer(),
            nn.Linear(out_width, out_width, **factory),
        )

    @property
    def rows_per_token(self) -> int | None:
        return self.merge**2 if self.out_grid is None else None

    def tokens_out(self, n: int) -> int:
        """n / merge**2, or rows * columns of `out_grid`.

        Raises:
            ValueError: n is not a whole number of blocks.
        """
        blocks = merged_count(n, self.merge)
        return blocks if self.out_grid is None else self.out_grid[0] * self.out_grid[1]

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) in block layout -> (M, out_width), raster order within each canvas.

        Args:
            features: (N, width), items one after another.
            counts: rows per item; not needed beside `grids`.
            grids: (t, h, w) patches of every item; required.

        Returns:
            (M, out_width), item after item; of each item `tokens_out` of its rows.

        Raises:
            ValueError: no grids; h or w is not a multiple of `merge`; t is above 1 with `out_grid`; the
                items do not add up to N.
        """
        if grids is None:
            raise ValueError(
                "ConvAbstractor convolves over canvases: pass grids=[(t, h, w), ...] in patches, one per item"
            )
        item_lengths(features, self.width, counts, grids)
        canvases = [(h, w) for t, h, w in host_grids(grids) for _ in range(self._check(t, h, w))]
        found = buckets(canvases)
        x = self.enter(features)
        parts = [self._abstract(take(x, bucket), *bucket.shape) for bucket in found]
        tokens: Tensor = self.leave(join(parts, found) if parts else x)
        return tokens

    def _check(self, t: int, h: int, w: int) -> int:
        """t, if canvases of this size can be taken."""
        if h % self.merge or w % self.merge:
            raise ValueError(f"h and w of every grid must be multiples of merge={self.merge}, got {(t, h, w)}")
        if self.out_grid is not None and t != 1:
            raise ValueError(f"with out_grid every item is one canvas, so t must be 1, got {(t, h, w)}")
        return t

    def _abstract(self, x: Tensor, h: int, w: int) -> Tensor:
        """(B canvases, h*w, D) in block layout -> (B, tokens, D)."""
        m = self.merge
        x = rearrange(x, "B (h w a b) D -> B (h a) (w b) D", h=h // m, w=w // m, a=m, b=m)
        x = self.before(x).permute(0, 3, 1, 2)
        x = F.adaptive_avg_pool2d(x, self.out_grid or (h // m, w // m)).permute(0, 2, 3, 1)
        tokens: Tensor = self.after(x)
        return tokens.flatten(1, 2)

    def extra_repr(self) -> str:
        return f"merge={self.merge}, out_grid={self.out_grid}"


class _Block(nn.Module):
    """(B, h, w, D) residual: linear, depthwise 3 x 3, channel attention over the canvas, linear."""

    def __init__(
        self,
        hidden: int,
        make_norm: Callable[[int], nn.Module],
        act_layer: Callable[..., nn.Module],
        factory: dict[str, Any],
    ) -> None:
        super().__init__()
        narrow = hidden // 4 or 1
        self.norm = make_norm(hidden)
        self.enter = nn.Linear(hidden, hidden, **factory)
        self.enter_act = act_layer()
        self.local = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, **factory)
        self.local_act = act_layer()
        self.gate = nn.Sequential(
            nn.Linear(hidden, narrow, **factory), nn.SiLU(), nn.Linear(narrow, hidden, **factory), nn.Sigmoid()
        )
        self.leave = nn.Linear(hidden, hidden, **factory)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter_act(self.enter(self.norm(x))).permute(0, 3, 1, 2)
        y = self.local_act(self.local(y)).permute(0, 2, 3, 1)
        y = y * self.gate(y.mean(dim=(1, 2), keepdim=True))
        change: Tensor = self.leave(y)
        return x + change
