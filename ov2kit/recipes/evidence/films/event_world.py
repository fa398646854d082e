"""Backgrounds of the event clips: made-up worlds with edges and texture, or footage; cut and faded between."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov2kit.recipes.evidence.films.actors import Picture

_FADE_SECONDS = 1.0


@dataclass(frozen=True)
class World:
    """What is behind the objects over time.

    Args:
        made: pictures, each until the next of `cuts`.
        real: one picture per frame instead.
        change: "none", "cut" or "fade" (through black).
        cuts: seconds of the changes.
    """

    made: Sequence[Picture]
    real: Sequence[NDArray[np.uint8]] | None
    change: str
    cuts: tuple[float, ...]

    def picture(self, t: int, now: float) -> Picture:
        """A copy to draw on: (rows, columns, 3) gray levels of frame t."""
        if self.real is not None:
            return self.real[t].astype(np.float32)
        if self.change == "none":
            return self.made[0].copy()
        place = sum(now >= cut for cut in self.cuts)
        shown: Picture = self.made[place].copy()
        if self.change == "fade":
            away = min(abs(now - cut) for cut in self.cuts)
            shown *= np.float32(min(1.0, away / _FADE_SECONDS))
        return shown


def made_world(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """(rows, columns, 3): texture of several scales, boxes, and railings: thin lines close together."""
    rows, columns = size
    picture = np.zeros((rows, columns, 3), dtype=np.float32)
    for cells, share in ((5, 1.0), (14, 0.7), (45, 0.45), (120, 0.25)):
        picture += share * stretched(rng.standard_normal((cells, 2 * cells, 3)).astype(np.float32), size)
    picture = 0.7 * picture.mean(axis=2, keepdims=True) + 0.3 * picture
    picture *= rng.uniform(14, 30) / float(picture.std())
    picture += (rng.uniform(90, 160) + rng.uniform(-15, 15, size=3)).astype(np.float32)
    for _ in range(rng.integers(5, 14)):
        top, left = rng.integers(0, rows - 12), rng.integers(0, columns - 12)
        tall, wide = rng.integers(8, rows // 3), rng.integers(8, columns // 4)
        picture[top : top + tall, left : left + wide] += rng.uniform(-45, 45, size=3).astype(np.float32)
    for _ in range(rng.integers(1, 4)):
        top, left, step = rng.integers(0, rows // 2), rng.integers(0, columns // 2), int(rng.integers(5, 12))
        lines = picture[top : top + rows // 3, left : left + columns // 3 : step]
        lines += np.float32(rng.uniform(-60, 60))
    made: Picture = picture.clip(10, 245)
    return made


def stretched(coarse: Picture, size: tuple[int, int]) -> Picture:
    """(h, w, C) enlarged to `size`, bilinear."""
    y, x = (np.linspace(0, n - 1 - 1e-4, side) for n, side in zip(coarse.shape[:2], size, strict=True))
    top, left = y.astype(int), x.astype(int)
    down, right = (y - top).astype(np.float32)[:, None, None], (x - left).astype(np.float32)[None, :, None]
    rows = coarse[top] * (1 - down) + coarse[top + 1] * down
    picture: Picture = rows[:, left] * (1 - right) + rows[:, left + 1] * right
    return picture
