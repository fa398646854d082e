"""The motion of the camera between two pictures, from luma alone: for streams of any codec, with vectors or without.

A correlation of spectra finds the shift to a whole pixel, and a robust Gauss-Newton fit makes an affine motion of it:
what does not follow the camera loses its weight. Letters: N pairs of pictures, h x w pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.codec.scoring.maps import lower_median

_COARSE_STEPS, _FINE_STEPS = 2, 1
_FARTHEST = 0.3  # of the edge, that a shift may go
_SAMPLED = 5  # every n-th pixel decides a median
_FITTED = 2  # every n-th row and column of the whole pictures decides the last step
_WHITENED = 0.25  # exponent: 1, phase correlation, follows noise where pictures are smooth; 0 the largest object
_SAME = 0.75  # gray levels


def camera_motion(luma: Tensor, reference: Tensor) -> Tensor:
    """Affine motion that brings a reference over each picture.

    Args:
        luma: (N, h, w) float32 gray levels, h and w at least 4.
        reference: (N, h, w).

    Returns:
        (N, 2, 3) float32 pixels: with x and y from -1 to 1 across the picture, its place (x, y) is found in the
        reference at motion @ (1, x, y) pixels (to the right, down) from there. 0 where half of a picture is as it
        was to within 0.75 gray levels, and where no motion explains more of it than none does.
    """
    luma = luma - luma.mean((1, 2), keepdim=True)
    reference = reference - reference.mean((1, 2), keepdim=True)
    found = luma.new_zeros(len(luma), 2, 3)
    unmoved = _typical_error(luma, reference, None)
    moving = unmoved > _SAME
    if bool(moving.any()):
        luma, reference = luma[moving], reference[moving]
        motion = _fitted(luma, reference)
        better = _typical_error(luma, reference, motion) < unmoved[moving]
        found[moving] = torch.where(better[:, None, None], motion, 0.0)
    return found


def _fitted(luma: Tensor, reference: Tensor) -> Tensor:
    """The motion of pairs without a mean that may have one."""
    small, small_reference = (F.avg_pool2d(x[:, None], 2)[:, 0] for x in (luma, reference))
    none = luma.new_zeros(len(luma), 2, 3)
    shift = none.clone()
    shift[:, :, 0] = _phase_shift(small, small_reference)
    better = _mean_error(small, small_reference, shift) < _mean_error(small, small_reference, none)
    motion = torch.where(better[:, None, None], shift, none)
    motion = 2 * _gauss_newton(small, small_reference, motion, _COARSE_STEPS)
    return _gauss_newton(luma, reference, motion, _FINE_STEPS, every=_FITTED)


def moved(reference: Tensor, motion: Tensor, outside: Tensor | None = None) -> Tensor:
    """References as the camera of the pictures sees them, bilinear.

    Args:
        reference: (N, h, w) float32.
        motion: (N, 2, 3) pixels, see `camera_motion`; negated, it takes pictures to their references but for
            terms of second order.
        outside: (N, h, w) what stands where the reference ends; its border is repeated when omitted.

    Returns:
        (N, h, w) float32.
    """
    seen = reference.clone()
    moves = motion.flatten(1).any(1)
    if bool(moves.any()):
        shape = (-1, *reference.shape[1:])
        parts = _sampled(reference[moves], motion[moves], _basis(reference))
        pictures, inside = (part.view(shape) for part in parts)
        seen[moves] = pictures if outside is None else torch.where(inside, pictures, outside[moves])
    return seen


def _basis(like: Tensor) -> Tensor:
    """(N, h, w) -> (3, h * w) of 1, x and y."""
    h, w = like.shape[1:]
    y = torch.linspace(-1, 1, h, dtype=like.dtype, device=like.device)[:, None].expand(h, w)
    x = torch.linspace(-1, 1, w, dtype=like.dtype, device=like.device)[None].expand(h, w)
    return torch.stack([torch.ones_like(x), x, y]).flatten(1)


def _sampled(reference: Tensor, motion: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """(N, n) pictures at the n pixels of the (3, n) basis, and (N, n) bool of what lies inside the reference."""
    h, w = reference.shape[1:]
    per_pixel = motion.new_tensor([2 / (w - 1), 2 / (h - 1)])[:, None]
    at = (motion @ basis).mul_(per_pixel).add_(basis[1:])  # (N, 2, n)
    grid = at.transpose(1, 2)[:, None]
    seen = F.grid_sample(reference[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True)
    inside = at.abs() <= 1
    return seen[:, 0, 0], inside[:, 0] & inside[:, 1]


def _phase_shift(luma: Tensor, reference: Tensor) -> Tensor:
    """(N, 2) whole pixels (to the right, down) at which the reference matches best; 0 where that is too far."""
    h, w = luma.shape[1:]
    rows, columns = (torch.hann_window(n + 2, periodic=False, device=luma.device)[1:-1].sqrt() for n in (h, w))
    window = rows[:, None] * columns
    cross = torch.fft.rfft2(luma * window).conj() * torch.fft.rfft2(reference * window)
    match = torch.fft.irfft2(cross / (cross.abs() ** _WHITENED + 1e-9), s=(h, w))
    best = match.flatten(1).argmax(1)
    y, x = best.div(w, rounding_mode="floor"), best % w
    shift = torch.stack([torch.where(x > w // 2, x - w, x), torch.where(y > h // 2, y - h, y)], dim=1).to(luma)
    near = (shift.abs() < shift.new_tensor([w, h]) * _FARTHEST).all(1, keepdim=True)
    return torch.where(near, shift, 0.0)


def _gauss_newton(luma: Tensor, reference: Tensor, motion: Tensor, steps: int, *, every: int = 1) -> Tensor:
    """Better motions, by least squares in which pixels with large errors count little.

    The pixels are those of every n-th row and column.
    """
    count, h, w = luma.shape
    gradient = torch.zeros(count, 2, h, w, dtype=luma.dtype, device=luma.device)
    gradient[:, 0, :, 1:-1] = (luma[:, :, 2:] - luma[:, :, :-2]) / 2
    gradient[:, 1, 1:-1] = (luma[:, 2:] - luma[:, :-2]) / 2
    basis = _basis(luma).view(3, h, w)[:, ::every, ::every].flatten(1)
    gradient = gradient[:, :, ::every, ::every].flatten(2)
    jacobian = (gradient[:, :, None] * basis).flatten(1, 2)  # (N, 6, n)
    wanted = luma[:, ::every, ::every].flatten(1)
    eye = torch.eye(6, dtype=luma.dtype, device=luma.device)
    for _ in range(steps):
        seen, inside = _sampled(reference, motion, basis)
        error = (wanted - seen)[:, None]
        error -= lower_median(error[:, :, ::_SAMPLED], 2, keepdim=True)
        away = error.abs()
        typical = lower_median(away[:, :, ::_SAMPLED], 2, keepdim=True)
        weight = away.div_(2 * typical + 1).square_().add_(1).square_().reciprocal_().mul_(inside[:, None])
        weighed = jacobian * weight
        normal = weighed @ jacobian.transpose(1, 2)
        ridge = 1e-3 * (1 + normal.diagonal(dim1=1, dim2=2).mean(1))[:, None, None]
        step = torch.linalg.solve(normal + ridge * eye, weighed @ error.transpose(1, 2))
        motion = motion + step.clamp(-3, 3).view(count, 2, 3)
    return motion


def _mean_error(luma: Tensor, reference: Tensor, motion: Tensor) -> Tensor:
    seen, _ = _sampled(reference, motion, _basis(reference)[:, ::_SAMPLED])
    return (luma.flatten(1)[:, ::_SAMPLED] - seen).abs().mean(1)


def _typical_error(luma: Tensor, reference: Tensor, motion: Tensor | None) -> Tensor:
    """(N,) gray levels that half of the pixels stay within."""
    if motion is None:
        seen = reference.flatten(1)[:, ::_SAMPLED]
    else:
        seen, _ = _sampled(reference, motion, _basis(reference)[:, ::_SAMPLED])
    error = luma.flatten(1)[:, ::_SAMPLED] - seen
    return lower_median((error - lower_median(error, 1, keepdim=True)).abs(), 1)
