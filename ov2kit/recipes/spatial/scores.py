"""Scores of one video: its points alone, and the masks that a segmenter makes of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ov2kit.recipes.metrics.hota import HOTA
from ov2kit.recipes.metrics.overlap import mask_similarity
from ov2kit.recipes.metrics.point_tracks import PointsByFrame, point_track_score
from ov2kit.recipes.metrics.video_masks import boundary_f, region_iou
from ov2kit.recipes.spatial.regions import inner_point
from ov2kit.recipes.spatial.segmenter import MaskTracks
from ov2kit.recipes.spatial.tracks import TrackPoint, Tracks

_ALPHAS = np.arange(0.05, 1.0, 0.05)


def places_by_frame(tracks: Tracks, size: tuple[int, int], fps: float) -> PointsByFrame:
    """Points of an answer by frame, in pixels; of two times on one frame the later one counts, with all its points.

    Args:
        tracks: of an answer.
        size: (H, W).
        fps: frame = round(seconds x fps), halves to the even one.
    """
    height, width = size
    return {
        round(seconds * fps): {i: (p.x * width, p.y * height) for i, p in points.items()}
        for seconds, points in tracks.by_time().items()
    }


def true_places(truth: MaskTracks, every: int = 1) -> PointsByFrame:
    """A place inside each visible object on every so many frames: the pixel of its mask nearest to the centroid."""
    found: dict[int, dict[int, tuple[float, float]]] = {}
    for frame in range(0, truth.frames, every):
        places = {}
        for object_id in sorted(truth.objects):
            if truth.objects[object_id][frame] is not None:
                row, column = inner_point(truth.mask(object_id, frame))
                places[object_id] = (float(column), float(row))
        if places:
            found[frame] = places
    return found


def true_tracks(truth: MaskTracks, *, fps: float, every: int = 1, label: str = "") -> Tracks:
    """The answer that true masks would give: what the segmenter alone is worth, and what a model learns from.

    Pixels count as whole numbers from 0, so a share of the width is (column) / W, which falls on the same pixel again.
    """
    height, width = truth.size
    return Tracks.of(
        (
            TrackPoint(frame / fps, object_id, x / width, y / height)
            for frame, places in true_places(truth, every).items()
            for object_id, (x, y) in places.items()
        ),
        label,
    )


def point_scores(
    tracks: Tracks, truth: MaskTracks, *, fps: float, every: int = 1, places: PointsByFrame | None = None
) -> dict[str, float]:
    """Precision, recall, F1 and HOTA of points in masks; "public_" where objects are paired by order.

    Args:
        tracks: of an answer.
        truth: masks.
        fps: of the frames of `truth`.
        every: frames between two true points.
        places: true points by frame, where the set brings its own; read from the masks otherwise.
    """
    predicted = places_by_frame(tracks, truth.size, fps)
    places = true_places(truth, every) if places is None else places

    def masks(frame: int) -> Mapping[int, np.ndarray]:
        return {object_id: truth.mask(object_id, frame) for object_id in sorted(truth.objects)}

    ours = vars(point_track_score(predicted, places, masks))
    public = vars(point_track_score(predicted, places, masks, pairing="order"))
    return {f"point_{name}": value for name, value in ours.items()} | {
        f"public_point_{name}": value for name, value in public.items()
    }


def mask_scores(found: MaskTracks, truth: MaskTracks) -> dict[str, Any]:
    """J, F and J&F of the union of objects over all frames, HOTA of the objects, and the public "HOTA" of the union.

    The public evaluation joins all objects before it scores, so that nothing is left to associate: its "HOTA" is the
    mean over thresholds of the square root of DetA. It stands as "public_hota"; "hota" keeps objects apart.

    Raises:
        ValueError: other frames or another size.
    """
    if (found.frames, found.size) != (truth.frames, truth.size):
        raise ValueError(
            f"masks must have the truth's {truth.frames} frames of {truth.size}, got {found.frames} of {found.size}"
        )
    regions, outlines, seen, there = [], [], [], []
    ids: tuple[list[list[int]], list[list[int]]] = ([], [])
    similarity = []
    for frame in range(truth.frames):
        mine, true = torch.from_numpy(found.union(frame)), torch.from_numpy(truth.union(frame))
        regions.append(float(region_iou(mine, true)))
        outlines.append(float(boundary_f(mine, true)))
        seen.append(bool(mine.any()))
        there.append(bool(true.any()))
        shown = [[i for i in sorted(t.objects) if t.objects[i][frame] is not None] for t in (found, truth)]
        ids[0].append(shown[0])
        ids[1].append(shown[1])
        stacks = [
            torch.from_numpy(np.stack([t.mask(i, frame) for i in own]))
            if own
            else torch.zeros(0, *t.size, dtype=torch.bool)
            for t, own in zip((found, truth), shown, strict=True)
        ]
        similarity.append(mask_similarity(stacks[0], stacks[1]).numpy())
    hota = HOTA(matching="trackeval")
    hota.update(*ids, similarity)
    parts = hota.compute()
    j, f = float(np.mean(regions)), float(np.mean(outlines))
    return {
        "j": j,
        "f": f,
        "j&f": (j + f) / 2,
        "hota": float(parts["hota"]),
        "assa": float(parts["assa"]),
        "public_hota": _without_association(np.array(regions), np.array(seen), np.array(there)),
        "j_frames": [round(value, 4) for value in regions],
    }


def _without_association(regions: np.ndarray, seen: np.ndarray, there: np.ndarray) -> float:
    """The public "HOTA" of one region per frame."""
    values = []
    for alpha in _ALPHAS:
        hit = seen & there & (regions >= alpha)
        tp = int(hit.sum())
        wrong = int((there & ~hit).sum() + (seen & ~hit).sum())
        values.append(np.sqrt(tp / (tp + wrong)) if tp + wrong else 1.0)
    return float(np.mean(values))
