"""A recorded screen: windows with text, one of which scrolls, and a cursor that wanders. None of it is an event."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ov2kit.recipes.evidence.films.actors import Picture

_LINE = 9  # rows of a line of text
_CELL = 4  # columns of a character
_CURSOR = 11  # rows


def screen_world(rng: np.random.Generator, size: tuple[int, int]) -> Picture:
    """(rows, columns, 3): a plain desktop with a few windows of text."""
    rows, columns = size
    picture = np.empty((rows, columns, 3), dtype=np.float32)
    picture[:] = rng.uniform(40, 200, size=3)
    for _ in range(rng.integers(3, 6)):
        tall, wide = int(rows * rng.uniform(0.25, 0.5)), int(columns * rng.uniform(0.25, 0.5))
        top, left = int(rng.integers(0, rows - tall)), int(rng.integers(0, columns - wide))
        picture[top : top + tall, left : left + wide] = _window(rng, tall, wide)
    return picture


def scrolling(rng: np.random.Generator, size: tuple[int, int], seconds: float) -> Callable[[Picture, float], Picture]:
    """What a screen does all the time: a window scrolls by fits and starts, a cursor goes from place to place.

    Args:
        rng: decides where and when.
        size: (rows, columns) of the world.
        seconds: length of the clip.
    """
    rows, columns = size
    tall, wide = int(rows * rng.uniform(0.3, 0.45)), int(columns * rng.uniform(0.25, 0.4))
    top, left = (int(n * rng.uniform(0.25, 0.4)) for n in (rows, columns))
    page = _window(rng, 4 * tall, wide)
    at = np.cumsum(np.concatenate([[0.0], rng.uniform(0.3, 1.2, size=int(seconds / 0.3) + 2)]))
    steps = rng.choice([0, 0, 1, 2, -1], size=len(at)) * rng.integers(2, 5, size=len(at)) * _LINE
    scrolled = np.clip(np.cumsum(steps), 0, 3 * tall)
    goals = rng.uniform(0.25, 0.75, size=(len(at), 2)) * (rows, columns)
    arrow = _arrow()

    def change(picture: Picture, now: float) -> Picture:
        place = float(np.interp(now, at, scrolled))
        picture[top : top + tall, left : left + wide] = page[int(place) : int(place) + tall]
        number = int(np.searchsorted(at, now, side="right")) - 1
        share = min(1.0, 2 * (now - at[number]) / (at[number + 1] - at[number]))  # it rests half of the time
        y, x = (goals[number] + share * (goals[number + 1] - goals[number])).astype(int)
        part = picture[y : y + _CURSOR, x : x + _CURSOR]
        part[arrow > 0] = 250
        part[arrow > 1] = 10
        return picture

    return change


def _window(rng: np.random.Generator, tall: int, wide: int) -> Picture:
    """Dark text on light paper, or the other way round, below a bar."""
    paper, ink = (rng.uniform(215, 245), rng.uniform(10, 60))[:: int(rng.choice([1, -1]))]
    window = np.full((tall, wide, 3), paper, dtype=np.float32)
    lines, characters = (tall - _LINE) // _LINE, (wide - _CELL) // _CELL
    glyphs = rng.random((lines, characters, 5, 3)) < 0.5
    glyphs &= (rng.random((lines, characters)) < 0.85)[:, :, None, None]  # spaces
    glyphs &= (np.arange(characters) < rng.integers(characters // 3, characters + 1, size=(lines, 1)))[..., None, None]
    text = np.zeros((lines, _LINE, characters, _CELL), dtype=bool)
    text[:, 2:7, :, :3] = glyphs.transpose(0, 2, 1, 3)
    body = window[_LINE : _LINE + lines * _LINE, _CELL // 2 : _CELL // 2 + characters * _CELL]
    body[text.reshape(lines * _LINE, characters * _CELL)] = ink
    window[:_LINE] = rng.uniform(60, 180, size=3)
    return window


def _arrow() -> NDArray[np.int64]:
    """(n, n) 1 for the rim of a cursor, 2 for its inside, 0 beside it."""
    y, x = np.mgrid[0:_CURSOR, 0:_CURSOR]
    arrow: NDArray[np.int64] = (x <= 0.8 * y).astype(int) + ((x > 0) & (x < 0.8 * y - 1) & (y < _CURSOR - 1))
    return arrow
