"""Nearest-neighbor resampling of maps, as OpenCV and as the reference do it."""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

UpsampleRule = Literal["floor", "linspace"]


def upsample_index(
    source: int, target: int, rule: UpsampleRule = "floor", device: torch.device | None = None
) -> Tensor:
    """(target,) long source cell of each target pixel along one axis.

    ``"floor"`` is floor(i * source / target), OpenCV's nearest, in its float64 arithmetic: where
    the quotient is whole it may come out one lower. ``"linspace"`` is
    floor(linspace(0, source - 1, target)), which the reference uses where OpenCV is missing.

    Calls with the same numbers share one tensor: it is not to be written to.
    """
    return _index(source, target, rule, torch.device("cpu") if device is None else device)


@lru_cache(256)
def _index(source: int, target: int, rule: UpsampleRule, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # later calls may be differentiated
        if rule == "floor":
            places = torch.arange(target, device=device, dtype=torch.float64) * (1.0 / (target / source))
            return places.floor().long().clamp_(max=source - 1)
        if target == 1:
            return torch.zeros(1, dtype=torch.long, device=device)
        return torch.linspace(0, source - 1, target, dtype=torch.float64, device=device).floor().long()


def upsample(maps: Tensor, height: int, width: int, rule: UpsampleRule = "floor") -> Tensor:
    """(..., h, w) -> (..., height, width), nearest; see `upsample_index`."""
    rows = upsample_index(maps.shape[-2], height, rule, maps.device)
    columns = upsample_index(maps.shape[-1], width, rule, maps.device)
    return maps.index_select(-1, columns).index_select(-2, rows)
