"""HOTA: one score for detecting, associating and localising tracked objects.

Source: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking"
(IJCV 2021, arXiv 2009.07736).
Letters: P predictions and G ground-truth detections of a frame, A = 19 localisation thresholds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric

from ov2kit.errors import check_choice
from ov2kit.recipes.metrics.assignment import assign
from ov2kit.recipes.metrics.plain import plain

ALPHAS = tuple(k / 20 for k in range(1, 20))
Matching = Literal["paper", "trackeval"]
Ids = Sequence[int] | Sequence[str] | NDArray[Any] | Tensor
_Array = NDArray[np.float64]
_SLACK = float(np.finfo(np.float64).eps)  # a similarity of exactly 0.15 reaches 0.15
_LEAST = 1e-9  # similarity only decides between matches that are equal in number and association


@dataclass(frozen=True)
class HotaCounts:
    """Sums of one sequence, (A,) float64 each; those of several sequences add up.

    Args:
        tp: matched pairs.
        fn: ground truth without a match.
        fp: predictions without a match.
        association: sum over matches c of A(c) = TPA / (TPA + FNA + FPA).
        recall: sum of TPA / (TPA + FNA).
        precision: sum of TPA / (TPA + FPA).
        similarity: sum of the similarity of matches.
    """

    tp: _Array
    fn: _Array
    fp: _Array
    association: _Array
    recall: _Array
    precision: _Array
    similarity: _Array


@dataclass(frozen=True)
class _Frame:
    predicted: NDArray[np.intp]  # (P,) row of each prediction in the tables of tracks
    target: NDArray[np.intp]  # (G,)
    similarity: _Array  # (P, G)


def hota_counts(
    predicted_ids: Sequence[Ids],
    target_ids: Sequence[Ids],
    similarity: Sequence[ArrayLike | Tensor],
    *,
    matching: Matching = "paper",
) -> HotaCounts:
    """Match a sequence at every threshold and count.

    Args:
        predicted_ids: per frame the P track ids, each once: whole numbers or text, as a list, array or tensor.
        target_ids: per frame the G object ids, in the same way.
        similarity: per frame (P, G) in [0, 1], of `box_similarity` or `mask_similarity`.
        matching: "paper" matches each frame separately at each threshold: most matches first, then
            association, then similarity. "trackeval" matches once, by association over the whole
            sequence times similarity, and then drops pairs below the threshold: what the
            public benchmarks' tool does, for numbers to compare with their tables.

    Raises:
        ValueError: lengths or shapes do not fit, an id stands twice in a frame or is neither a whole
            number nor text, a similarity is outside [0, 1].
    """
    check_choice("matching", matching, get_args(Matching))
    frames, predicted_frames, target_frames = _index(predicted_ids, target_ids, similarity)
    both = np.add.outer(predicted_frames, target_frames)  # |frames of p| + |frames of g|
    if matching == "trackeval":
        chosen = [_match_once(frames, both)] * len(ALPHAS)
    else:
        chosen = [_match_at(frames, both, alpha) for alpha in ALPHAS]
    found = sum(len(frame.predicted) for frame in frames), sum(len(frame.target) for frame in frames)
    sums = np.zeros((7, len(ALPHAS)))
    for a, (alpha, pairs) in enumerate(zip(ALPHAS, chosen, strict=True)):
        tpa = np.zeros_like(both)
        for frame, matches in zip(frames, pairs, strict=True):
            for p, g in matches:
                if frame.similarity[p, g] >= alpha - _SLACK:
                    tpa[frame.predicted[p], frame.target[g]] += 1
                    sums[6, a] += frame.similarity[p, g]
        tp = tpa.sum()
        sums[:3, a] = tp, found[1] - tp, found[0] - tp
        sums[3, a] = (tpa * tpa / np.maximum(both - tpa, 1)).sum()
        sums[4, a] = (tpa * tpa / np.maximum(target_frames[None], 1)).sum()
        sums[5, a] = (tpa * tpa / np.maximum(predicted_frames[:, None], 1)).sum()
    return HotaCounts(*sums)


def _match_at(frames: Sequence[_Frame], both: _Array, alpha: float) -> list[list[tuple[int, int]]]:
    """Per frame the pairs that the paper's matching takes at one threshold.

    A_max is the association that a pair of tracks would have if every possible match were one.
    The paper weighs 1/eps + A_max + eps * S. No sum of A_max and S over a frame reaches the
    weight used here for one match more, so a larger one would choose the same pairs.
    """
    possible = np.zeros_like(both)
    for frame in frames:
        np.add.at(possible, np.ix_(frame.predicted, frame.target), frame.similarity >= alpha - _SLACK)
    association = possible / np.maximum(both - possible, 1)
    chosen = []
    for frame in frames:
        allowed = frame.similarity >= alpha - _SLACK
        if (allowed.sum(0) <= 1).all() and (allowed.sum(1) <= 1).all():  # nothing to decide
            chosen.append([(int(p), int(g)) for p, g in np.argwhere(allowed)])
            continue
        first = 2.0 * (min(allowed.shape) + 1)
        score = first + association[np.ix_(frame.predicted, frame.target)] + _LEAST * frame.similarity
        chosen.append([(p, g) for p, g in assign(np.where(allowed, score, 0.0)) if allowed[p, g]])
    return chosen


def _match_once(frames: Sequence[_Frame], both: _Array) -> list[list[tuple[int, int]]]:
    """Per frame the pairs of the public tool, before thresholds."""
    together = np.zeros_like(both)
    for frame in frames:
        s = frame.similarity
        share = s.sum(0)[None] + s.sum(1)[:, None] - s
        np.add.at(
            together, np.ix_(frame.predicted, frame.target), np.where(share > _SLACK, s / np.maximum(share, _SLACK), 0)
        )
    association = together / np.maximum(both - together, _SLACK)
    return [assign(association[np.ix_(frame.predicted, frame.target)] * frame.similarity) for frame in frames]


def _index(
    predicted_ids: Sequence[Ids], target_ids: Sequence[Ids], similarity: Sequence[ArrayLike | Tensor]
) -> tuple[list[_Frame], _Array, _Array]:
    """Frames with ids counted from 0, and in how many frames each track and each object is seen."""
    lengths = (len(predicted_ids), len(target_ids), len(similarity))
    if len(set(lengths)) > 1:
        raise ValueError(
            f"predicted_ids, target_ids and similarity must have one entry per frame, got {lengths} entries"
        )
    tracks: dict[int | str, int] = {}
    objects: dict[int | str, int] = {}
    frames = []
    for t, (found, there, table) in enumerate(zip(predicted_ids, target_ids, similarity, strict=True)):
        mine, true = _keys("predicted_ids", t, found), _keys("target_ids", t, there)
        scores = np.asarray(plain(table), dtype=np.float64)
        if scores.size == 0 and len(mine) * len(true) == 0:
            scores = scores.reshape(len(mine), len(true))
        if scores.shape != (len(mine), len(true)):
            raise ValueError(f"similarity of frame {t} must be {(len(mine), len(true))}, got {scores.shape}")
        if scores.size and not (scores.min() >= 0 and scores.max() <= 1 + 1e-6):
            raise ValueError(f"similarity of frame {t} must lie in [0, 1], got {scores.min()} to {scores.max()}")
        rows = np.array([tracks.setdefault(i, len(tracks)) for i in mine], dtype=np.intp)
        columns = np.array([objects.setdefault(i, len(objects)) for i in true], dtype=np.intp)
        frames.append(_Frame(rows, columns, scores))
    seen = [np.zeros(len(tracks)), np.zeros(len(objects))]
    for frame in frames:
        seen[0][frame.predicted] += 1
        seen[1][frame.target] += 1
    return frames, seen[0], seen[1]


def _keys(name: str, frame: int, ids: Ids) -> list[int | str]:
    """The ids of a frame as whole numbers or text, whatever they came as."""
    keys: list[int | str] = []
    given = plain(ids)
    if not isinstance(given, list):
        raise ValueError(f"{name} of frame {frame} must be a list of ids, got {given!r:.60}")
    for key in given:
        if isinstance(key, float) and math.isfinite(key) and key == int(key):
            keys.append(int(key))
        elif isinstance(key, int | str):
            keys.append(key)
        else:
            raise ValueError(f"{name} of frame {frame} must be whole numbers or text, got {key!r:.60}")
    if len(set(keys)) != len(keys):
        raise ValueError(f"{name} of frame {frame} hold an id twice: {sorted(keys, key=str)}")
    return keys


class HOTA(Metric):
    """HOTA, DetA, AssA and their parts, averaged over 19 localisation thresholds.

    Sums of all sequences are scored as one: A(c) of a match depends on its own sequence only.

    Args:
        matching: of `hota_counts`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    counts: Tensor

    def __init__(self, *, matching: Matching = "paper") -> None:
        super().__init__()
        check_choice("matching", matching, get_args(Matching))
        self.matching: Matching = matching
        self.add_state("counts", torch.zeros(7, len(ALPHAS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(
        self,
        predicted_ids: Sequence[Ids],
        target_ids: Sequence[Ids],
        similarity: Sequence[ArrayLike | Tensor],
    ) -> None:
        """Add one whole sequence; arguments as in `hota_counts`."""
        counts = hota_counts(predicted_ids, target_ids, similarity, matching=self.matching)
        stacked = np.stack(list(vars(counts).values()))
        self.counts += torch.from_numpy(stacked).to(self.counts.device)

    def per_alpha(self) -> dict[str, Tensor]:
        """The parts of `compute` before averaging, (A,) float64 each."""
        tp, fn, fp, association, recall, precision, similarity = self.counts
        matched = tp.clamp(min=1)
        detection = tp / (tp + fn + fp).clamp(min=1)
        return {
            "hota": (association / (tp + fn + fp).clamp(min=1)).sqrt(),
            "deta": detection,
            "assa": association / matched,
            "detre": tp / (tp + fn).clamp(min=1),
            "detpr": tp / (tp + fp).clamp(min=1),
            "assre": recall / matched,
            "asspr": precision / matched,
            "loca": torch.where(tp > 0, similarity / matched, 1.0),
        }

    def compute(self) -> dict[str, Tensor]:
        """() float64 each: ``hota``, ``deta``, ``assa``, ``detre``, ``detpr``, ``assre``, ``asspr``, ``loca``.

        0 where there is nothing to divide by; ``loca`` of a threshold without a match is 1.
        """
        return {name: values.mean() for name, values in self.per_alpha().items()}
