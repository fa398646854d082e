"""Do predicted points lie in the right objects? Precision, recall and F1 per frame, and HOTA of the tracks.

The protocol is that of the public evaluation of referring segmentation by points (lmms-eval 0.7.3, task rvos): on every
frame with a true point, predicted and true points are paired so that their distances add up to the least, and a pair is
right when the predicted point lies in the mask of the true one. Letters: H x W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from ov2kit.errors import check_choice
from ov2kit.recipes.metrics.assignment import assign
from ov2kit.recipes.metrics.hota import ALPHAS, HotaCounts, hota_counts

Mask = NDArray[np.bool_]
PixelPoint = tuple[float, float]  # x, y in pixels
#: frame -> object id -> place
PointsByFrame = Mapping[int, Mapping[int, PixelPoint]]
Pairing = Literal["id", "order"]
_PUBLIC_EPSILON = 1e-10  # in the public F1; keeps a perfect frame a hair below 1


@dataclass(frozen=True)
class PointTrackScore:
    """Scores of one video.

    Args:
        precision: mean over the frames with a true point.
        recall: the same.
        f1: the same.
        hota: at the localization threshold 0.5; a point is in a mask or it is not, so all thresholds agree.
    """

    precision: float
    recall: float
    f1: float
    hota: float


def point_in_mask(place: PixelPoint, mask: Mask) -> bool:
    """Whether the pixel nearest to (x, y) belongs to an (H, W) mask; False outside the picture."""
    x, y = (round(float(value)) for value in place)
    return 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0] and bool(mask[y, x])


def frame_points(
    predicted: Sequence[PixelPoint], truth: Sequence[PixelPoint], masks: Sequence[Mask]
) -> tuple[float, float, float]:
    """Precision, recall and F1 of one frame.

    Args:
        predicted: places.
        truth: a place in each object that has one.
        masks: the mask of each object; `masks[k]` is compared for `truth[k]`. There may be more of them: recall counts
            every mask.

    Returns:
        1 or 0 for a frame without truth, by whether it is also without predictions.
    """
    if not truth:
        empty = float(not predicted)
        return empty, empty, empty
    if not predicted:
        return 0.0, 0.0, 0.0
    mine, true = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    apart = np.sqrt(((mine[:, None] - true[None]) ** 2).sum(-1))
    right = sum(k < len(masks) and point_in_mask(predicted[p], masks[k]) for p, k in assign(-apart))
    precision, recall = right / len(predicted), right / len(masks)
    f1 = 2 * precision * recall / (precision + recall + _PUBLIC_EPSILON) if right else 0.0
    return precision, recall, f1


def point_track_score(
    predicted: PointsByFrame,
    truth: PointsByFrame,
    masks: Callable[[int], Mapping[int, Mask]],
    *,
    pairing: Pairing = "id",
) -> PointTrackScore:
    """Score the point tracks of one video. Predictions on frames without a true point do not count.

    Args:
        predicted: of the model.
        truth: a place per object on the frames that are scored.
        masks: frame -> mask of every object, in the order of their ids.
        pairing: "id" compares a point that is paired with object i to the mask of i. "order" compares the k-th true
            point of a frame to the k-th mask, as the public evaluation does, which is another object where one has no
            true point there; for numbers to compare with its tables.
    """
    check_choice("pairing", pairing, get_args(Pairing))
    if not truth:
        return PointTrackScore(1.0, 1.0, 1.0, _hota(hota_counts([], [], []), any(predicted.values())))
    rows, mine_ids, true_ids, inside = [], [], [], []
    for frame in sorted(truth):
        mine, true, own = predicted.get(frame, {}), truth[frame], masks(frame)
        ordered = list(own.values())
        if pairing == "id":
            ordered = [own[i] for i in true if i in own] + [mask for i, mask in own.items() if i not in true]
        rows.append(frame_points(list(mine.values()), list(true.values()), ordered))
        mine_ids.append(list(mine))
        true_ids.append(list(true))
        inside.append([[float(i in own and point_in_mask(p, own[i])) for i in true] for p in mine.values()])
    precision, recall, f1 = (float(np.mean(column)) for column in zip(*rows, strict=True))
    counts = hota_counts(mine_ids, true_ids, [np.reshape(t, (len(p), len(g))) for t, p, g in
                                              zip(inside, mine_ids, true_ids, strict=True)],
                         matching="trackeval")  # fmt: skip
    return PointTrackScore(precision, recall, f1, _hota(counts, any(mine_ids)))


def _hota(counts: HotaCounts, any_predicted: bool) -> float:
    at = ALPHAS.index(0.5)
    tp, fn, fp, association = counts.tp[at], counts.fn[at], counts.fp[at], counts.association[at]
    if tp + fn + fp == 0:
        return float(not any_predicted)
    return float(np.sqrt(tp / (tp + fn + fp) * (association / max(tp, 1.0))))


class PointTracks(Metric):
    """Means of `point_track_score` over videos; sums, so that processes and merged runs give the value of one pass.

    Args:
        pairing: of `point_track_score`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    sums: Tensor
    videos: Tensor

    def __init__(self, *, pairing: Pairing = "id") -> None:
        super().__init__()
        self.pairing: Pairing = check_choice("pairing", pairing, get_args(Pairing))
        self.add_state("sums", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("videos", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, predicted: PointsByFrame, truth: PointsByFrame, masks: Callable[[int], Mapping[int, Mask]]
    ) -> None:
        """Add one whole video; arguments as in `point_track_score`."""
        score = point_track_score(predicted, truth, masks, pairing=self.pairing)
        self.sums += torch.tensor(list(vars(score).values()), dtype=torch.float64, device=self.sums.device)
        self.videos += 1

    def compute(self) -> dict[str, Tensor]:
        """``precision``, ``recall``, ``f1``, ``hota``; () float64 each, 0 where no video was seen."""
        means = self.sums / self.videos.clamp(min=1)
        return dict(zip(("precision", "recall", "f1", "hota"), means.unbind(), strict=True))
