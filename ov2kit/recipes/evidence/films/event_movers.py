"""What moves all the time before the camera: leaves in the wind, people who pass by. None of it is an event."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov2kit.recipes.evidence.films.actors import Picture
from ov2kit.recipes.evidence.films.event_world import stretched


@dataclass(frozen=True)
class _Body:
    """A picture with its opacity."""

    look: Picture
    alpha: Picture

    def paste(self, picture: Picture, y: float, x: float) -> None:
        """Blend it into (rows, columns, 3), its upper left corner at a whole pixel."""
        rows, columns = self.alpha.shape
        top, left = round(y), round(x)
        ys = slice(max(top, 0), min(top + rows, picture.shape[0]))
        xs = slice(max(left, 0), min(left + columns, picture.shape[1]))
        if ys.start >= ys.stop or xs.start >= xs.stop:
            return
        own = slice(ys.start - top, ys.stop - top), slice(xs.start - left, xs.stop - left)
        picture[ys, xs] += self.alpha[own][..., None] * (self.look[own] - picture[ys, xs])


def leaves(rng: np.random.Generator, size: tuple[int, int]) -> Callable[[Picture, float], Picture]:
    """Leaves over a third of the world swing about their places, each by itself, more in gusts.

    Args:
        rng: decides where and how.
        size: (rows, columns) of the world.
    """
    rows, columns = size
    count, left = 160, columns * rng.uniform(0.15, 0.5)
    side = rng.integers(10, 20, size=count)
    bodies = [_body(rng, int(n), int(n), (40.0, 150.0)) for n in side]
    y, x = rng.uniform(0.1 * rows, 0.9 * rows, size=count), rng.uniform(left, left + 0.35 * columns, size=count)
    rate, phase, far = rng.uniform(0.6, 2.5, size=count), rng.random(count), rng.uniform(1, 5, size=count)
    gust, begin = rng.uniform(0.15, 0.4), rng.random()

    def swing(picture: Picture, now: float) -> Picture:
        strength = 0.4 + 0.6 * np.sin(np.pi * (gust * now + begin)) ** 2
        away = strength * far * np.sin(2 * np.pi * (rate * now + phase))
        for n, body in enumerate(bodies):
            body.paste(picture, y[n] + 0.5 * away[n], x[n] + away[n])
        return picture

    return swing


def crowd(rng: np.random.Generator, size: tuple[int, int]) -> Callable[[Picture, float], Picture]:
    """People pass by, one after the other and in both directions.

    Args:
        rng: decides who and when.
        size: (rows, columns) of the world.
    """
    rows, columns = size
    count = int(rng.integers(5, 9))
    tall = (rows * rng.uniform(0.1, 0.2, size=count)).astype(int)
    bodies = [_body(rng, int(n), max(4, int(0.4 * n)), (20.0, 230.0)) for n in tall]
    y, start = rng.uniform(0.2 * rows, 0.7 * rows, size=count), rng.random(count)
    speed = rng.uniform(0.08, 0.25, size=count) * rng.choice([-1, 1], size=count)  # worlds per second
    step = rng.uniform(1, 2.5, size=count)

    def pass_by(picture: Picture, now: float) -> Picture:
        x = ((start + speed * now) % 1.2 - 0.1) * columns
        bob = 1.5 * np.abs(np.sin(np.pi * step * now))
        for n, body in enumerate(bodies):
            body.paste(picture, y[n] - bob[n], x[n])
        return picture

    return pass_by


def _body(rng: np.random.Generator, tall: int, wide: int, mean: tuple[float, float]) -> _Body:
    """An ellipse with texture."""
    y, x = ((np.arange(n, dtype=np.float32) + 0.5) / n * 2 - 1 for n in (tall, wide))
    away = np.sqrt(y[:, None] ** 2 + x[None] ** 2)
    alpha: NDArray[np.float32] = ((1 - away) * min(tall, wide) / 2 + 0.5).clip(0, 1)
    texture = stretched(rng.standard_normal((4, 4, 3)).astype(np.float32) * 20, (tall, wide))
    look = texture + np.float32(rng.uniform(*mean)) + rng.uniform(-20, 20, size=3).astype(np.float32)
    return _Body(look.clip(5, 250), alpha)
