"""The motion of the camera, taken out of a motion field."""

from typing import Literal

import torch
from torch import Tensor

from ov2kit.codec.scoring.maps import percentile

Compensation = Literal["none", "mean", "median", "affine"]
_MOST_CELLS = 300  # cells that a median looks at per frame


def remove_global_motion(field: Tensor, compensation: Compensation = "median") -> Tensor:
    """Subtract what the whole picture does; NaN cells stay NaN and say nothing.

    Args:
        field: (..., gh, gw, 2) float32.
        compensation: ``"mean"`` and ``"median"`` of each component (the median of at most 300
            evenly spaced cells), or ``"affine"``: the least-squares fit of six parameters, which
            follows zoom, rotation and shear, fitted once more with cells down-weighted that the
            first fit explains badly.

    Returns:
        As `field`; not a copy under ``"none"``.
    """
    if compensation == "none":
        return field
    if compensation == "affine":
        return field - _affine_fit(field)
    if compensation == "mean":
        return field - field.flatten(-3, -2).nanmean(-2)[..., None, None, :]
    return field - _median(field)


def _median(field: Tensor) -> Tensor:
    """(..., gh, gw, 2) -> (..., 1, 1, 2) of the cells with a vector; 0 where there is none."""
    cells = _thinned(field).flatten(-3, -2).transpose(-1, -2).contiguous()
    return percentile(cells, 50.0, ~cells.isnan())[..., None, None, :]


def _thinned(field: Tensor) -> Tensor:
    """Every n-th row and column, so that at most 300 cells are left."""
    step = 1
    while -(-field.shape[-3] // step) * -(-field.shape[-2] // step) > _MOST_CELLS:
        step += 1
    return field[..., step // 2 :: step, step // 2 :: step, :]


def _affine_fit(field: Tensor) -> Tensor:
    """The affine motion nearest to (..., gh, gw, 2), evaluated at every cell."""
    gh, gw = field.shape[-3:-1]
    y = torch.linspace(-1, 1, gh, device=field.device, dtype=field.dtype)
    x = torch.linspace(-1, 1, gw, device=field.device, dtype=field.dtype)
    basis = torch.stack([torch.ones(gh, gw, device=field.device, dtype=field.dtype),
                         x.expand(gh, gw), y[:, None].expand(gh, gw)], dim=-1).view(-1, 3)  # fmt: skip
    cells = field.flatten(-3, -2)
    known = ~cells.isnan().any(-1)
    target = cells.nan_to_num(nan=0.0)
    weight = known.to(field.dtype)
    outer = (basis[:, :, None] * basis[:, None, :]).flatten(1)
    ridge = 1e-4 * torch.eye(3, device=field.device, dtype=field.dtype)
    fitted = target
    for attempt in range(2):
        normal = (weight @ outer).unflatten(-1, (3, 3))  # type: ignore[no-untyped-call]
        right = basis.T @ (target * weight[..., None])
        fitted = basis @ torch.linalg.solve(normal + ridge * (1 + normal[..., :1, :1]), right)
        if attempt == 0:
            error = torch.hypot(*(target - fitted).unbind(-1))
            sample = error[..., :: -(-error.shape[-1] // _MOST_CELLS)]
            mask = known[..., :: -(-error.shape[-1] // _MOST_CELLS)]
            typical = percentile(sample, 50.0, mask)[..., None].clamp(min=1e-3)
            weight = weight / (1 + (error / typical) ** 2) ** 2
    return fitted.unflatten(-2, (gh, gw))  # type: ignore[no-untyped-call,no-any-return]
