"""Arithmetic of score maps: percentiles, scales, fusion, sums over cells.

Sources: the scorer of the OneVision-Encoder repository and the codec wheel of LLaVA-OneVision-2,
which agree on everything here. All functions take maps with leading dimensions; a map is always the
last two.
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.signals.resample import upsample_index

Fusion = Literal["mean", "sum", "max", "geomean"]
MAP_PIXELS = 28  # pixels per block edge that a map of bits is spread over before it is summed
MAP_PERCENTILE = 99.0
_TOP_SHARE = 8  # up to an eighth of the values is sorted out faster than one is found
LEAST_BITS = 8.0  # decoders count whole bytes: a frame whose blocks all cost less is not lifted to the scale of others


def percentile(values: Tensor, q: float, counted: Tensor | None = None) -> Tensor:
    """(..., N) -> (...): the q-th percentile, linear between ranks; 0 where nothing counts.

    Args:
        values: floats without NaN where they count.
        q: in [0, 100].
        counted: (..., N) bool, which values count; all when omitted.
    """
    size = values.shape[-1]
    if size == 0:
        return values.new_zeros(values.shape[:-1])
    if counted is None:
        rank_from_top = (1 - q / 100) * (size - 1)
        upper = math.floor(rank_from_top)
        if size >= _TOP_SHARE * (upper + 2):
            top = values.topk(upper + 2, dim=-1).values
            high, low = top[..., upper], top[..., upper + 1]
            return high + (low - high) * (rank_from_top - upper)
        high, low = (values.kthvalue(max(1, size - rank), dim=-1).values for rank in (upper, upper + 1))
        return high + (low - high) * (rank_from_top - upper)
    if values.device.type == "cpu" and values.dtype == torch.float32 and uses_kernels():
        return _compiled_percentile(values, counted, 1 - q / 100)
    count = counted.sum(-1)
    ordered = _ascending(values.masked_fill(~counted, torch.inf))  # what does not count comes last
    from_top = (1 - q / 100) * (count - 1).clamp(min=0).double()
    part = (from_top - from_top.floor()).to(values.dtype)
    place = (count - 1 - from_top.floor().long())[..., None]
    high, low = (ordered.gather(-1, (place - rank).clamp(min=0))[..., 0] for rank in (0, 1))
    return torch.where(count > 0, high + (low - high) * part, 0.0)


def _compiled_percentile(values: Tensor, counted: Tensor, from_top: float) -> Tensor:
    """As `percentile`, of (..., N) float32."""
    from ov2kit.codec.compiled.percentiles import counted_percentiles

    found = values.new_empty(values.shape[:-1])
    rows, marks = (
        x.detach().reshape(-1, values.shape[-1]).contiguous().numpy() for x in (values, counted.expand_as(values))
    )
    counted_percentiles(rows, marks, from_top, found.view(-1).numpy())
    return found


def lower_median(values: Tensor, dim: int, *, keepdim: bool = False) -> Tensor:
    """The median along one dimension, of two in the middle the lower, as `Tensor.median` has it but for NaN."""
    middle = (values.shape[dim] - 1) // 2
    found = _ascending(values, dim).narrow(dim, middle, 1)
    return found if keepdim else found.squeeze(dim)


def _ascending(values: Tensor, dim: int = -1) -> Tensor:
    """Sorted along one dimension; on a CPU by numpy, which is ten times as quick at rows of some hundred."""
    if values.is_cuda:
        return values.sort(dim=dim).values
    return torch.from_numpy(np.sort(values.detach().numpy(), axis=dim))


def normalized(maps: Tensor, q: float, least: float) -> tuple[Tensor, Tensor]:
    """Divide each (H, W) map by its q-th percentile, at least `least`, and clip to [0, 1].

    Returns:
        (..., H, W) float32 maps, (...) float32 scales.
    """
    scale = percentile(maps.float().flatten(-2), q).clamp(min=least)
    return (maps.float() / scale[..., None, None]).clamp_(0, 1), scale


def fuse(
    motion: Tensor, residual: Tensor, fusion: Fusion = "mean", weights: tuple[float, float] = (1.0, 1.0)
) -> Tensor:
    """Two maps in [0, 1] -> one.

    Args:
        motion: any shape.
        residual: same shape.
        fusion: weighted ``"mean"`` (0 where both weights are 0), weighted ``"sum"`` clipped to
            [0, 1], ``"max"`` and ``"geomean"`` of the plain maps.
        weights: of motion and residual.
    """
    if fusion == "max":
        return torch.maximum(motion, residual)
    if fusion == "geomean":
        return (motion * residual).sqrt()
    total = weights[0] * motion + weights[1] * residual
    if fusion == "sum":
        return total.clamp(0, 1)
    return total / (sum(weights) or 1.0)


def cell_sums(maps: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Block sums of a map as if it were upsampled to `size` first, without doing so.

    Args:
        maps: (..., gh, gw) float32.
        size: (h, w) pixels, multiples of the grid.
        grid: (hb, wb) blocks.

    Returns:
        (..., hb, wb), equal to sums over the blocks of ``upsample(maps, h, w)`` but for rounding.
    """
    rows = _share(maps.shape[-2], size[0], grid[0], maps.dtype, maps.device)
    columns = _share(maps.shape[-1], size[1], grid[1], maps.dtype, maps.device)
    return rows @ (maps @ columns.T)


@lru_cache(256)
def _share(cells: int, pixels: int, blocks: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(blocks, cells): how many pixels of each block see each cell, along one axis."""
    with torch.inference_mode(False):  # later calls may be differentiated
        cell = upsample_index(cells, pixels, device=device)
        block = torch.arange(pixels, device=device) * blocks // pixels
        share = torch.zeros(blocks * cells, dtype=dtype, device=device)
        return share.index_add_(0, block * cells + cell, share.new_ones(pixels)).view(blocks, cells)
