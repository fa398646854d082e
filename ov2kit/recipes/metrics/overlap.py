"""How much two boxes or two masks agree: intersection over union."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ov2kit.recipes.metrics.plain import tensor


def box_similarity(predicted: ArrayLike | Tensor, target: ArrayLike | Tensor) -> Tensor:
    """IoU of every predicted box with every target box.

    Args:
        predicted: (P, 4) left, top, right, bottom.
        target: (G, 4) in the same units.

    Returns:
        (P, G) float64; 0 for boxes without area.
    """
    predicted, target = _boxes(predicted), _boxes(target)
    for name, boxes in (("predicted", predicted), ("target", target)):
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"{name} must be (boxes, 4) holding left, top, right, bottom, got {tuple(boxes.shape)}")
    a, b = predicted.double()[:, None], target.double()[None]
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = sides.clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (a, b)]
    return _ratio(shared, areas[0] + areas[1] - shared)


def mask_similarity(predicted: ArrayLike | Tensor, target: ArrayLike | Tensor) -> Tensor:
    """IoU of every predicted mask with every target mask.

    Args:
        predicted: (P, H, W) bool.
        target: (G, H, W) bool.

    Returns:
        (P, G) float64; 0 for a pair of empty masks.
    """
    predicted, target = tensor(predicted), tensor(target)
    for name, masks in (("predicted", predicted), ("target", target)):
        if masks.ndim != 3 or masks.dtype != torch.bool:
            raise ValueError(f"{name} must be (masks, H, W) bool, got {tuple(masks.shape)} {masks.dtype}")
    if predicted.shape[1:] != target.shape[1:]:
        raise ValueError(f"masks must have one size, got {tuple(predicted.shape[1:])} and {tuple(target.shape[1:])}")
    a, b = predicted.flatten(1).double(), target.flatten(1).double()
    shared = a @ b.T
    return _ratio(shared, a.sum(1)[:, None] + b.sum(1)[None] - shared)


def _boxes(value: ArrayLike | Tensor) -> Tensor:
    boxes = tensor(value)
    return boxes.reshape(0, 4) if boxes.shape == (0,) else boxes  # an empty list


def _ratio(shared: Tensor, covered: Tensor) -> Tensor:
    return torch.where(covered > 0, shared / covered.where(covered > 0, torch.ones_like(covered)), 0.0)
