"""A segmenter without weights: grow a region of one color around a point, and follow it.

For tests and for clips of plain objects, so that the whole path from points to masks runs anywhere. On real footage use
`SamSegmenter`. Letters: H x W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ov2kit.errors import check_number
from ov2kit.recipes.spatial.frames import Frames
from ov2kit.recipes.spatial.regions import centroid, components, connected, fill_holes
from ov2kit.recipes.spatial.rle import Mask
from ov2kit.recipes.spatial.segmenter import Prompts

_Floats = NDArray[np.float32]
_CORE = 16.0  # gray levels of 255, at which a region is sure to be of one thing
_WIDEST = 60.0
_RING = 4  # pixels around the core, from which the color of the surroundings is taken
_LARGEST = 0.3  # share of the picture


@dataclass(frozen=True)
class _Object:
    """What is known of an object.

    Args:
        color: (3,) of its region.
        tolerance: distance of colors that still belong to it.
        mask: where it is now; empty while it is lost.
        seen: where it was seen last.
        step: how far its center moved between the last two frames that show it, (rows, columns).
        missed: frames since it was seen.
    """

    color: _Floats
    tolerance: float
    mask: Mask
    seen: Mask
    step: tuple[float, float] = (0.0, 0.0)
    missed: int = 0


class RegionGrowing:
    """Connected pixels whose color is near that of the point, with their holes filled.

    How near is chosen at the point: half of the way to the color around the region, so that its edge is where the two
    are mixed in equal parts. On the next frame the region is looked for around where the object should be, in a
    neighborhood that widens while it is lost.

    Args:
        reach: how far an object may move from one frame to the next, in lengths of its own size.
        least: fewest pixels of an object.
    """

    def __init__(self, *, reach: float = 1.5, least: int = 6) -> None:
        self.reach = check_number("reach", reach, low=0)
        self.least = check_number("least", least, low=1, integer=True)

    def segment(self, frames: Frames, prompts: Prompts) -> Iterator[tuple[int, dict[int, Mask]]]:
        """As `PointSegmenter.segment`."""
        if not prompts:
            return
        first = min(prompts)
        known: dict[int, _Object] = {}
        at_first: dict[int, _Object] = {}
        for number in range(first, len(frames)):
            picture = frames[number].astype(np.float32)
            for object_id, was in known.items():
                known[object_id] = self._follow(was, picture)
            for object_id, points in prompts.get(number, {}).items():
                known[object_id] = self._start(picture, points)
            if number == first:
                at_first = dict(known)
            yield number, {object_id: is_now.mask for object_id, is_now in known.items()}
        for number in range(first - 1, -1, -1):
            picture = frames[number].astype(np.float32)
            for object_id, was in at_first.items():
                at_first[object_id] = self._follow(was, picture)
            yield number, {object_id: is_now.mask for object_id, is_now in at_first.items()}

    def _start(self, picture: _Floats, points: Sequence[tuple[float, float]]) -> _Object:
        """A new object that holds its points."""
        height, width = picture.shape[:2]
        seeds = np.zeros((height, width), dtype=bool)
        for x, y in points:
            seeds[min(max(round(y), 0), height - 1), min(max(round(x), 0), width - 1)] = True
        near = seeds.copy()
        for axis in (0, 1):  # the median of a small neighborhood: one odd pixel is no color
            near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
        color = np.median(picture[near], axis=0).astype(np.float32)
        core = _region(picture, color, _CORE, seeds)
        if core.sum() <= _LARGEST * core.size:
            color = np.median(picture[core], axis=0).astype(np.float32)
        outer = _dilated(core, 2 + _RING) & ~_dilated(core, 2)
        around = _distance(picture, color)[outer]
        tolerance = float(np.clip(0.5 * np.median(around), _CORE, _WIDEST)) if around.size else _CORE
        region = _region(picture, color, tolerance, seeds)
        while region.sum() > _LARGEST * region.size and tolerance > 1:
            tolerance *= 0.75
            region = _region(picture, color, tolerance, seeds)
        return _Object(color, tolerance, region, region)

    def _follow(self, was: _Object, picture: _Floats) -> _Object:
        """The object on the next frame."""
        waited = was.missed + 1
        size = float(was.seen.sum()) ** 0.5
        row, column = centroid(was.seen) if was.seen.any() else (0.0, 0.0)
        expected = row + was.step[0] * waited, column + was.step[1] * waited
        reach = max(2.0, self.reach * size * waited**0.5)
        rows, columns = np.ogrid[: picture.shape[0], : picture.shape[1]]
        around = np.hypot(rows - expected[0], columns - expected[1]) <= reach + size / 2
        around |= np.hypot(rows - row, columns - column) <= reach + size / 2
        alike = _alike(picture, was.color, was.tolerance)
        best, best_score = None, 0.0
        for region in components(alike, around):
            area = float(region.sum())
            if area < self.least or area > _LARGEST * region.size:
                continue
            center = centroid(region)
            away = min(_apart(center, expected), _apart(center, (row, column))) / (reach + size)
            score = min(area, size**2) / max(area, size**2) * (1 - 0.5 * min(away, 1.0))
            if score > best_score:
                best, best_score = region, score
        if best is None or best_score < 0.1:
            return replace(was, mask=np.zeros_like(was.mask), missed=waited)
        filled = fill_holes(best)
        center = centroid(filled)
        step = ((center[0] - row) / waited, (center[1] - column) / waited)
        color = (0.8 * was.color + 0.2 * np.median(picture[best], axis=0)).astype(np.float32)
        return _Object(color, was.tolerance, filled, filled, step)


def _distance(picture: _Floats, color: _Floats) -> _Floats:
    away: _Floats = np.sqrt(((picture - color) ** 2).mean(axis=-1))
    return away


def _alike(picture: _Floats, color: _Floats, tolerance: float) -> Mask:
    near: Mask = _distance(picture, color) < tolerance
    return near


def _dilated(mask: Mask, radius: int) -> Mask:
    """The mask grown by `radius` pixels, 8-neighbors each step."""
    grown = np.pad(mask, radius)
    for axis in (0, 1):
        grown = np.logical_or.reduce([np.roll(grown, by, axis) for by in range(-radius, radius + 1)])
    inner: Mask = grown[radius:-radius, radius:-radius]
    return inner


def _region(picture: _Floats, color: _Floats, tolerance: float, seeds: Mask) -> Mask:
    return fill_holes(connected(_alike(picture, color, tolerance) | seeds, seeds))


def _apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    return float(np.hypot(a[0] - b[0], a[1] - b[1]))
