"""Arithmetic of score maps: scales, fusion, upsampling, block sums, bit-cost maps.

Sources: the scorer of the OneVision-Encoder repository and the codec wheel of LLaVA-OneVision-2,
which agree on everything here but where a parameter says otherwise. All functions take maps with
leading dimensions; a map is always the last two.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ov2kit.codec.signals.resample import upsample, upsample_index

Fusion = Literal["mean", "sum", "max", "geomean"]
MotionLists = Literal["l0", "l1", "max", "sum", "biw"]


def percentile(values: Tensor, q: float, counted: Tensor | None = None) -> Tensor:
    """(..., N) -> (...): the q-th percentile, linear between ranks; 0 where nothing counts.

    Args:
        values: floats without NaN where they count.
        q: in [0, 100].
        counted: (..., N) bool, which values count; all when omitted.
    """
    if counted is None:
        count = torch.full(values.shape[:-1], values.shape[-1], device=values.device)
    else:
        values = values.masked_fill(~counted, -torch.inf)
        count = counted.sum(-1)
    if values.shape[-1] == 0:
        return values.new_zeros(values.shape[:-1])
    # Ranks from the top: what does not count sorts to the bottom, out of reach.
    reach = min(values.shape[-1], int((1 - q / 100) * (values.shape[-1] - 1)) + 2)
    top = values.topk(reach, dim=-1).values
    rank = (1 - q / 100) * (count - 1).clamp(min=0).double()
    upper = rank.floor()
    part = (rank - upper).to(values.dtype)
    upper = upper.long()[..., None].clamp_(max=reach - 1)
    lower = (upper + 1).minimum((count[..., None] - 1).clamp(min=0)).clamp_(max=reach - 1)
    high, low = top.gather(-1, upper)[..., 0], top.gather(-1, lower)[..., 0]
    return torch.where(count > 0, high + (low - high) * part, 0.0)


def normalized(maps: Tensor, q: float, least: float) -> tuple[Tensor, Tensor]:
    """Divide each (H, W) map by its q-th percentile, at least `least`, and clip to [0, 1].

    Returns:
        (..., H, W) float32 maps, (...) float32 scales.
    """
    scale = percentile(maps.float().flatten(-2), q).clamp(min=least)
    return (maps.float() / scale[..., None, None]).clamp_(0, 1), scale


def residual_map(residual: Tensor, q: float = 95.0, *, gradient: bool = False) -> tuple[Tensor, Tensor]:
    """(..., H, W) uint8 coded residual around 128 -> map in [0, 1] and its scale.

    Args:
        residual: 128 is zero.
        q: percentile that maps to 1; the scale is at least 1.
        gradient: take |dx| + |dy| of the central differences, wrapped at the borders, instead of
            the magnitude.
    """
    signed = residual.float() - 128.0
    if gradient:
        dx = (signed.roll(-1, -1) - signed.roll(1, -1)) / 2
        dy = (signed.roll(-1, -2) - signed.roll(1, -2)) / 2
        return normalized(dx.abs() + dy.abs(), q, 1.0)
    return normalized(signed.abs(), q, 1.0)


def motion_magnitude(
    vectors: Tensor,
    compensate: Literal["none", "mean", "median"] = "none",
    *,
    lists: MotionLists = "l0",
    units: float = 4.0,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """(..., h, w, 2 or 4) vectors -> (..., h, w) float32 magnitudes in pixels.

    Args:
        vectors: x and y of list 0 (past), then of list 1 (future), in 1 / `units` pixels.
        compensate: what is subtracted from each component first.
        lists: which list counts, or how both do: the larger, the sum, or the sum weighted by
            `weights` (``"biw"``).
        units: steps per pixel.
        weights: of list 0 and list 1 for ``"biw"``.
    """
    pixels = vectors.float() / units
    if compensate != "none":
        cells = pixels.flatten(-3, -2)
        centre = cells.mean(-2) if compensate == "mean" else percentile(cells.transpose(-1, -2).contiguous(), 50.0)
        pixels = pixels - centre[..., None, None, :]
    past = torch.hypot(pixels[..., 0], pixels[..., 1])
    if lists == "l0":
        return past
    future = torch.hypot(pixels[..., 2], pixels[..., 3])
    if lists == "l1":
        return future
    if lists == "max":
        return torch.maximum(past, future)
    return past + future if lists == "sum" else weights[0] * past + weights[1] * future


def energy_map(energy: Tensor, q: float = 95.0) -> tuple[Tensor, Tensor]:
    """(..., h, w) motion energy -> map in [0, 1] and its scale: NaN is 0, the percentile is over positive values."""
    energy = energy.float().nan_to_num(nan=0.0)
    flat = energy.flatten(-2)
    scale = percentile(flat, q, flat > 0).clamp(min=1e-6)
    return (energy / scale[..., None, None]).clamp_(0, 1), scale


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


def block_sums(maps: Tensor, patch: int, merge: int = 1) -> Tensor:
    """(..., H, W) -> (..., H / side, W / side) sums over squares of side patch * merge pixels.

    Raises:
        ValueError: H or W is not a multiple of the side.
    """
    side = patch * merge
    height, width = maps.shape[-2:]
    if height % side or width % side:
        raise ValueError(f"block_sums needs sides that are multiples of {side} pixels, got {height} x {width}")
    return maps.unflatten(-2, (height // side, side)).unflatten(-1, (width // side, side)).sum((-3, -1))  # type: ignore[no-untyped-call,no-any-return]


def cell_sums(maps: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Block sums of a map as if it were upsampled to `size` first, without doing so.

    Args:
        maps: (..., gh, gw) float32.
        size: (h, w) pixels, multiples of the grid.
        grid: (hb, wb) blocks.

    Returns:
        (..., hb, wb), equal to ``block_sums(upsample(maps, h, w))`` but for rounding.
    """
    rows = _share(maps.shape[-2], size[0], grid[0], maps)
    columns = _share(maps.shape[-1], size[1], grid[1], maps)
    return rows @ (maps @ columns.T)


def _share(cells: int, pixels: int, blocks: int, like: Tensor) -> Tensor:
    """(blocks, cells): how many pixels of each block see each cell, along one axis."""
    cell = upsample_index(cells, pixels, device=like.device)
    block = torch.arange(pixels, device=like.device) * blocks // pixels
    share = like.new_zeros(blocks * cells)
    return share.index_add_(0, block * cells + cell, share.new_ones(pixels)).view(blocks, cells)


def bitcost_map(bits: Tensor, height: int, width: int, *, q: float = 99.0, log_scale: bool = True) -> Tensor:
    """(..., h, w) bits per coding block -> (..., height, width) float32 score map in [0, 1].

    Negative costs count as 0; log(1 + bits) with `log_scale`; divided by the q-th percentile, at
    least 1e-6; clipped; upsampled to the nearest block.
    """
    cost = bits.float().clamp(min=0)
    return upsample(normalized(cost.log1p() if log_scale else cost, q, 1e-6)[0], height, width)


def choose_bitcost_grid(
    grids: Mapping[str, Tensor], grid: Literal["adaptive", "mb", "ctu", "sub"] = "adaptive", codec: str | None = None
) -> Tensor:
    """Which of a decoder's bit-cost grids to use: macroblocks, coding tree units or sub-blocks.

    ``"adaptive"`` takes ``ctu`` for hevc and vp9 and ``mb`` otherwise; a missing grid is replaced
    by the first there is of sub, mb, ctu.

    Raises:
        ValueError: there is none.
    """
    wanted = ("ctu" if (codec or "").lower() in ("hevc", "vp9") else "mb") if grid == "adaptive" else grid
    for name in (wanted, "sub", "mb", "ctu"):
        if name in grids:
            return grids[name]
    raise ValueError(f"need a bit-cost grid named sub, mb or ctu, got {sorted(grids)}")


def cap_intra(maps: Tensor, is_intra: Tensor, q: float = 95.0) -> Tensor:
    """Cut (T, H, W) maps of intra frames down to the q-th percentile of all other maps' values.

    Unchanged where all frames or none are intra.
    """
    rest = maps[~is_intra]
    if len(rest) == 0:
        return maps
    cap = percentile(rest.flatten(), q)
    return torch.where(is_intra[:, None, None], maps.minimum(cap), maps)
