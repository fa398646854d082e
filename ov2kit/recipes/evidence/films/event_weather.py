"""What costs bits and is no event: rain, snow on a screen, water, flicker, a noisy sensor, and what moves always."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov2kit.recipes.evidence.films.actors import Picture
from ov2kit.recipes.evidence.films.event_movers import crowd, leaves
from ov2kit.recipes.evidence.films.event_screen import scrolling

#: name of a footage's weather -> name of what is drawn
WEATHERS = {name: name for name in ("none", "sensor", "rain", "snow", "flicker", "water", "screen", "leaves", "crowd")}
_InWorld = Callable[[Picture, float], Picture]
_Change = Callable[[Picture, float, np.random.Generator], Picture]


@dataclass(frozen=True)
class Weather:
    """What happens to the world, and to the picture of it.

    Args:
        world: changes the world at a time, before objects are drawn.
        picture: changes what the camera saw.
        hidden: (H, W) bool, where it covers everything.
    """

    hidden: NDArray[np.bool_]
    world: _InWorld = lambda picture, now: picture
    picture: _Change = lambda picture, now, rng: picture

    def in_world(self, picture: Picture, now: float) -> Picture:
        """The world at a time."""
        return self.world(picture, now)

    def in_picture(self, picture: Picture, now: float, rng: np.random.Generator) -> Picture:
        """The picture at a time."""
        return self.picture(picture, now, rng)


def weather(
    rng: np.random.Generator, name: str, size: tuple[int, int], world_size: tuple[int, int], seconds: float
) -> Weather:
    """The weather of one clip.

    Args:
        rng: decides its strength and place.
        name: of `WEATHERS`.
        size: (H, W) of the picture.
        world_size: (rows, columns) of the world.
        seconds: length of the clip.
    """
    clear = np.zeros(size, dtype=bool)
    if name == "sensor":
        level = np.float32(rng.uniform(7, 12))
        return Weather(clear, picture=lambda p, now, r: p + level * r.standard_normal(p.shape, dtype=np.float32))
    if name == "rain":
        return Weather(clear, picture=_rain(rng, size))
    if name == "snow":
        left = bool(rng.random() < 0.5)
        wide = 2 * round(size[1] * rng.uniform(0.2, 0.3) / 2)
        panel = slice(0, wide) if left else slice(size[1] - wide, size[1])
        hidden = clear.copy()
        hidden[:, panel] = True
        return Weather(hidden, picture=_screen(panel, size, wide))
    if name == "flicker":
        rate, depth, shift = rng.uniform(3, 11), rng.uniform(0.05, 0.1), rng.random()
        rows = np.arange(size[0], dtype=np.float32)[:, None, None] / size[0]

        def hum(picture: Picture, now: float, r: np.random.Generator) -> Picture:
            wave = np.sin(2 * np.pi * (rate * now + shift + 1.5 * rows))
            return picture * (1 + depth * wave).astype(np.float32)

        return Weather(clear, picture=hum)
    if name == "water":
        return Weather(clear, world=_water(rng, world_size))
    if name == "screen":
        return Weather(clear, world=scrolling(rng, world_size, seconds))
    if name in ("leaves", "crowd"):
        return Weather(clear, world=(leaves if name == "leaves" else crowd)(rng, world_size))
    return Weather(clear)


def _rain(rng: np.random.Generator, size: tuple[int, int]) -> _Change:
    drops, slant, bright = int(rng.integers(60, 140)), rng.uniform(-0.3, 0.3), np.float32(rng.uniform(25, 55))

    def fall(picture: Picture, now: float, r: np.random.Generator) -> Picture:
        length = round(0.07 * size[0])
        y, x = r.uniform(-length, size[0], size=drops), r.uniform(0, size[1], size=drops)
        for along in range(length):
            rows, columns = (y + along).astype(int), (x + slant * along).astype(int) % size[1]
            seen = (rows >= 0) & (rows < size[0])
            picture[rows[seen], columns[seen]] += bright
        return picture

    return fall


def _screen(panel: slice, size: tuple[int, int], wide: int) -> _Change:
    def snow(picture: Picture, now: float, r: np.random.Generator) -> Picture:
        cells = r.integers(0, 256, size=(size[0] // 2 + 1, wide // 2, 1))
        picture[:, panel] = cells.repeat(2, axis=0).repeat(2, axis=1)[: size[0]]
        return picture

    return snow


def _water(rng: np.random.Generator, world_size: tuple[int, int]) -> _InWorld:
    """The lower part of the world ripples."""
    top = round(world_size[0] * rng.uniform(0.5, 0.6))
    waves = [(rng.uniform(0.08, 0.3), rng.uniform(0.5, 2.0), rng.random(), rng.uniform(0.8, 1.8)) for _ in range(3)]
    y, x = np.mgrid[top : world_size[0], 0 : world_size[1]]

    def ripple(picture: Picture, now: float) -> Picture:
        shift = sum(a * np.sin(k * (x + 0.6 * y) + 2 * np.pi * (f * now + p)) for k, f, p, a in waves)
        shift = np.asarray(shift)
        light = (1 + 0.03 * shift)[..., None].astype(np.float32)
        rows = np.rint(y + shift).astype(int).clip(top, world_size[0] - 1)
        columns = np.rint(x + 1.5 * shift).astype(int).clip(0, world_size[1] - 1)
        picture[top:] = picture[rows, columns] * light
        return picture

    return ripple
