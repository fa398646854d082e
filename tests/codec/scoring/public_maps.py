"""The public tools' score maps written out pixel by pixel: the slow reference of the scorers.

Sources: the scorer of the OneVision-Encoder repository and the codec wheel of LLaVA-OneVision-2,
which agree on everything here except where a parameter says otherwise. All functions take maps with
leading dimensions; a map is always the last two.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ov2kit.codec.scoring.maps import normalized, percentile
from ov2kit.codec.signals.resample import upsample

MotionLists = Literal["l0", "l1", "max", "sum", "biw"]


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
        center = cells.mean(-2) if compensate == "mean" else percentile(cells.transpose(-1, -2).contiguous(), 50.0)
        pixels = pixels - center[..., None, None, :]
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
