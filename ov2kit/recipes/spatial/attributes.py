"""What makes a video hard, read from its true masks: tables that say where tracking fails.

Letters: T frames.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ov2kit.recipes.metrics.overlap import mask_similarity
from ov2kit.recipes.spatial.regions import centroid
from ov2kit.recipes.spatial.segmenter import MaskTracks

#: attribute -> what it says
ATTRIBUTES: Mapping[str, str] = {
    "several objects": "more than one object belongs to the expression",
    "occlusion": "an object vanishes and comes back, or shrinks to under half of its usual size for a while",
    "out of view": "an object is not to be seen at the start or at the end",
    "fast motion": "an object moves by more than half of its own size between two frames",
    "small": "the objects cover under 1 % of the picture on average",
    "large": "the objects cover over 20 % of the picture on average",
}
_SHRUNK, _FAST, _SMALL, _LARGE = 0.5, 0.5, 0.01, 0.2


def attributes_of(truth: MaskTracks) -> tuple[str, ...]:
    """The attributes of a video, in the order of `ATTRIBUTES`."""
    found = set()
    shares = np.zeros(truth.frames)
    if len(truth.objects) > 1:
        found.add("several objects")
    for object_id in truth.objects:
        masks = [truth.mask(object_id, frame) for frame in range(truth.frames)]
        areas = np.array([int(mask.sum()) for mask in masks])
        shares += areas / (truth.size[0] * truth.size[1])
        seen = np.nonzero(areas)[0]
        if not len(seen):
            found.add("out of view")
            continue
        if seen[0] > 0 or seen[-1] < truth.frames - 1:
            found.add("out of view")
        between = areas[seen[0] : seen[-1] + 1]
        if (between < _SHRUNK * np.median(areas[seen])).any():
            found.add("occlusion")
        centers = {int(frame): centroid(masks[frame]) for frame in seen}
        for frame in seen[1:]:
            before = centers.get(int(frame) - 1)
            if before is not None:
                here = centers[int(frame)]
                step = float(np.hypot(here[0] - before[0], here[1] - before[1]))
                if step > _FAST * float(areas[frame]) ** 0.5:
                    found.add("fast motion")
    if 0 < shares.mean() < _SMALL:
        found.add("small")
    if shares.mean() > _LARGE:
        found.add("large")
    return tuple(name for name in ATTRIBUTES if name in found)


def id_switches(found: MaskTracks, truth: MaskTracks, *, least: float = 0.5) -> int:
    """How often the object that covers a true one changes its id.

    Args:
        found: predicted masks.
        truth: true masks.
        least: intersection over union from which a mask covers an object.
    """
    import torch

    switches = 0
    owner: dict[int, int] = {}
    for frame in range(truth.frames):
        mine = [i for i in sorted(found.objects) if found.objects[i][frame] is not None]
        true = [i for i in sorted(truth.objects) if truth.objects[i][frame] is not None]
        if not mine or not true:
            continue
        table = mask_similarity(
            torch.from_numpy(np.stack([found.mask(i, frame) for i in mine])),
            torch.from_numpy(np.stack([truth.mask(i, frame) for i in true])),
        ).numpy()
        for column, object_id in enumerate(true):
            row = int(table[:, column].argmax())
            if table[row, column] >= least:
                switches += owner.get(object_id, mine[row]) != mine[row]
                owner[object_id] = mine[row]
    return switches


def attribute_table(rows: Sequence[Mapping[str, Any]], score: str = "j&f") -> dict[str, dict[str, float | None]]:
    """Mean score with and without each attribute.

    Args:
        rows: each with "attributes" and the score.
        score: which one.

    Returns:
        Attribute -> {"videos", "with", "without"}; None where there is no video. "all" comes first.
    """
    values = np.array([float(row[score]) for row in rows])
    table: dict[str, dict[str, float | None]] = {
        "all": {"videos": float(len(rows)), "with": _mean(values), "without": None}
    }
    for name in ATTRIBUTES:
        has = np.array([name in row["attributes"] for row in rows], dtype=np.bool_)
        table[name] = {"videos": float(has.sum()), "with": _mean(values[has]), "without": _mean(values[~has])}
    return table


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
