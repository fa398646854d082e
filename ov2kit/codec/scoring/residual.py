"""The residual of luma after motion compensation, and its sums over blocks.

Letters: B clips or groups, T frames, h x w luma pixels, gh x gw motion cells, hb x wb blocks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.signals.compensate import Sampling, residual_of

_PIXELS_AT_ONCE = 150_000


def check_pictures(
    luma: Tensor, reference: Tensor, motion: Tensor | None, grid: tuple[int, int], valid: Tensor | None
) -> Tensor:
    """The (B, T) bool mask of valid frames, once every shape fits.

    Raises:
        ValueError: one does not.
    """
    if luma.ndim != 4 or luma.dtype != torch.uint8 or reference.dtype != torch.uint8:
        raise ValueError(f"luma and reference must be (T, h, w) uint8, got {tuple(luma.shape)} {luma.dtype}")
    if reference.shape != luma.shape:
        raise ValueError(f"reference must be as luma {tuple(luma.shape)}, got {tuple(reference.shape)}")
    if luma.shape[2] % grid[0] or luma.shape[3] % grid[1]:
        raise ValueError(f"luma of {luma.shape[2]} x {luma.shape[3]} does not divide into a grid of {grid}")
    if motion is not None and (motion.shape[:2] != luma.shape[:2] or motion.ndim != 5 or motion.shape[4] != 2):
        raise ValueError(f"motion must be (T, gh, gw, 2) with T={luma.shape[1]}, got {tuple(motion.shape[1:])}")
    if valid is None:
        return torch.ones(luma.shape[:2], dtype=torch.bool, device=luma.device)
    if valid.shape != luma.shape[:2]:
        raise ValueError(f"valid must be ({luma.shape[1]},), got {tuple(valid.shape[1:])}")
    return valid.to(luma.device, torch.bool)


def residuals(luma: Tensor, reference: Tensor, motion: Tensor | None, valid: Tensor, sampling: Sampling) -> Tensor:
    """|luma - reference moved along the vectors|, the plain difference without motion.

    Args:
        luma: (B, T, h, w) uint8.
        reference: as `luma`.
        motion: (B, T, gh, gw, 2) float32 pixels, NaN where there is no vector; or None.
        valid: (B, T) bool; other frames give 0.
        sampling: of the reference.

    Returns:
        (B, T, h, w) uint8 gray levels.
    """
    if motion is None:
        found = torch.maximum(luma, reference) - torch.minimum(luma, reference)
    else:
        now, before, moved = luma.flatten(0, 1), reference.flatten(0, 1), motion.flatten(0, 1)
        if now.device.type == "cpu" and uses_kernels():
            found = residual_of(now, before, moved, sampling).view_as(luma)
        else:
            flat = [residual_of(now[part], before[part], moved[part], sampling) for part in parts(now)]
            found = torch.cat(flat).view_as(luma)
    return found.mul_(valid[..., None, None])


def parts(pictures: Tensor) -> list[slice]:
    """A few pictures (T, h, w) at a time on a CPU, so that its cache holds what is in between; else all at once."""
    count = len(pictures)
    step = max(1, _PIXELS_AT_ONCE // max(1, pictures[0].numel())) if count and not pictures.is_cuda else max(1, count)
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def clipped_sums(residual: Tensor, full: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, T, h, w) uint8, (B, T, 1, 1) float32 -> (B, T, hb, wb) float32 block sums of min(residual / full, 1).

    On a CPU the sums of min(residual, full) are exact until they are rounded: no order of summing changes them.
    """
    flat, tops = residual.flatten(0, 1), full.flatten(0, 1)
    if residual.device.type == "cpu" and uses_kernels():
        from ov2kit.codec.compiled import residual as kernels

        sums = full.new_empty(len(flat), *grid)
        kernels.clipped_sums(flat.contiguous().numpy(), tops.flatten().numpy(), sums.numpy())
    else:
        # sums of whole numbers are exact in float32; elsewhere than on a CPU it takes long to ask, and float64 too
        is_enough = residual.device.type != "cpu" or bool((tops == tops.round()).all())
        exact = torch.float32 if is_enough else torch.float64
        sums = torch.cat(
            [sum_blocks(flat[part].to(exact).minimum(tops[part].to(exact)), grid) for part in parts(flat)]
        ).float()
    return sums.view(*residual.shape[:2], *grid) / full


def count_levels(values: Tensor) -> Tensor:
    """(rows, N) uint8 -> (rows, 256) long, how often each level occurs."""
    if values.device.type == "cpu" and uses_kernels():
        from ov2kit.codec.compiled import residual as kernels

        found = torch.empty(len(values), 256, dtype=torch.long)
        kernels.levels(values.contiguous().numpy(), found.numpy())
        return found
    return torch.stack([row.bincount(minlength=256) for row in values])


def sum_blocks(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """(..., h, w) float32 -> (..., hb, wb): columns by a matrix product, which is quicker than strided sums."""
    height, width = maps.shape[-2:]
    own = torch.arange(width, device=maps.device) * grid[1] // width
    columns = F.one_hot(own, grid[1]).to(maps.dtype)
    lines = maps.reshape(-1, width) @ columns
    return lines.view(*maps.shape[:-2], grid[0], height // grid[0], grid[1]).sum(-2)
