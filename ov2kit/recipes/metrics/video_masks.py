"""J and F of a video object segmentation: do the regions agree, and do their outlines?

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation" (CVPR 2016), section 5, and the DAVIS 2017 protocol (arXiv 1704.00675): an outline
pixel counts when one of the other mask lies within 0.008 of the picture's diagonal.
Letters: O objects, T frames, H x W pixels.
"""

import math

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric

from ov2kit.errors import check_flag, check_number
from ov2kit.recipes.metrics.plain import tensor


def region_iou(predicted: ArrayLike | Tensor, target: ArrayLike | Tensor) -> Tensor:
    """J: intersection over union of masks, 1 where both are empty.

    Args:
        predicted: (..., H, W) bool.
        target: the same shape and dtype.

    Returns:
        (...) float64.
    """
    predicted, target = _check(predicted, target)
    shared = (predicted & target).sum((-2, -1)).double()
    covered = (predicted | target).sum((-2, -1)).double()
    return torch.where(covered > 0, shared / covered.clamp(min=1), 1.0)


def boundaries(masks: ArrayLike | Tensor) -> Tensor:
    """Pixels that differ from their right, lower or lower right neighbor.

    Args:
        masks: (..., H, W) bool.

    Returns:
        The same shape, bool; an outline one pixel wide, on the upper left side of each edge.
    """
    masks = tensor(masks)
    padded = torch.cat([masks, masks[..., -1:]], dim=-1)
    padded = torch.cat([padded, padded[..., -1:, :]], dim=-2)
    right, below, diagonal = padded[..., :-1, 1:], padded[..., 1:, :-1], padded[..., 1:, 1:]
    return (masks ^ right) | (masks ^ below) | (masks ^ diagonal)


def boundary_f(predicted: ArrayLike | Tensor, target: ArrayLike | Tensor, *, tolerance: float = 0.008) -> Tensor:
    """F: harmonic mean of the precision and recall of outline pixels.

    Args:
        predicted: (..., H, W) bool.
        target: the same shape and dtype.
        tolerance: how far apart outlines may be, as a share of the diagonal, rounded up to
            pixels; from 1 on, pixels.

    Returns:
        (...) float64; 1 where neither mask has an outline, 0 where one of them has none.
    """
    check_number("tolerance", tolerance, low=0)
    predicted, target = _check(predicted, target)
    height, width = predicted.shape[-2:]
    radius = int(tolerance) if tolerance >= 1 else math.ceil(tolerance * math.hypot(height, width))
    mine = boundaries(predicted).reshape(-1, height, width)
    true = boundaries(target).reshape(-1, height, width)
    mine_total, true_total = (outline.sum((-2, -1)).double() for outline in (mine, true))
    precision = (mine & _grow(true, radius)).sum((-2, -1)) / mine_total.clamp(min=1)
    recall = (true & _grow(mine, radius)).sum((-2, -1)) / true_total.clamp(min=1)
    total = precision + recall
    score = torch.where(total > 0, 2 * precision * recall / total.where(total > 0, torch.ones_like(total)), 0.0)
    score = torch.where((mine_total == 0) & (true_total == 0), 1.0, score)
    return score.reshape(predicted.shape[:-2])


def _grow(outline: Tensor, radius: int) -> Tensor:
    """Dilate (N, H, W) bool by a disk: row by row of the disk, each row a sliding maximum."""
    height = outline.shape[1]
    grown = torch.zeros_like(outline)
    for down in range(min(radius, height - 1) + 1):
        reach = math.isqrt(radius * radius - down * down)
        wide = F.max_pool2d(outline[:, None].float(), (1, 2 * reach + 1), stride=1, padding=(0, reach))[:, 0] > 0
        grown[:, down:] |= wide[:, : height - down]
        grown[:, : height - down] |= wide[:, down:]
    return grown


def _check(predicted: ArrayLike | Tensor, target: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    predicted, target = tensor(predicted), tensor(target)
    if predicted.shape != target.shape or predicted.ndim < 2:
        raise ValueError(
            f"masks must be (..., H, W) of one shape, got {tuple(predicted.shape)} and {tuple(target.shape)}"
        )
    if predicted.dtype != torch.bool or target.dtype != torch.bool:
        raise ValueError(f"masks must be bool, got {predicted.dtype} and {target.dtype}; compare a label map with ==")
    return predicted, target


class JAndF(Metric):
    """J, F and their mean, over frames first and then over objects, and the share of good frames.

    Args:
        tolerance: of `boundary_f`.
        skip_ends: leave the first and last frame out, as DAVIS does where the first is given.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    sums: Tensor
    objects: Tensor

    def __init__(self, *, tolerance: float = 0.008, skip_ends: bool = False) -> None:
        super().__init__()
        check_number("tolerance", tolerance, low=0)
        check_flag("skip_ends", skip_ends)
        self.tolerance = tolerance
        self.skip_ends = skip_ends
        self.add_state("sums", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("objects", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: ArrayLike | Tensor, target: ArrayLike | Tensor) -> None:
        """Add whole tracks: the frames of an object may not be spread over several calls.

        Args:
            predicted: (O, T, H, W) or (T, H, W) bool.
            target: the same shape and dtype; object for object.

        Raises:
            ValueError: shapes or dtypes do not fit, or no frame is left.
        """
        predicted, target = _check(predicted, target)
        if predicted.ndim not in (3, 4):
            raise ValueError(f"masks must be (objects, frames, H, W) or (frames, H, W), got {tuple(predicted.shape)}")
        if predicted.ndim == 3:
            predicted, target = predicted[None], target[None]
        if self.skip_ends:
            predicted, target = predicted[:, 1:-1], target[:, 1:-1]
        if predicted.shape[1] == 0:
            raise ValueError("no frame is left to score; pass more frames, or skip_ends=False")
        for mine, true in zip(predicted, target, strict=True):
            region, outline = region_iou(mine, true), boundary_f(mine, true, tolerance=self.tolerance)
            means = [region.mean(), outline.mean(), (region > 0.5).double().mean(), (outline > 0.5).double().mean()]
            self.sums += torch.stack(means).to(self.sums.device)
            self.objects += 1

    def compute(self) -> dict[str, Tensor]:
        """``j``, ``f``, ``j&f``, and the shares of frames above 0.5 ``j_recall``, ``f_recall``; () float64 each."""
        j, f, j_recall, f_recall = (self.sums / self.objects.clamp(min=1)).unbind()
        return {"j": j, "f": f, "j&f": (j + f) / 2, "j_recall": j_recall, "f_recall": f_recall}
