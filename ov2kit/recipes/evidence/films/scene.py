"""A small world in which something jumps: exact start times, and everything else that moves.

Drawn frame by frame; what the codec makes of it is decided by a real encoder later.
Letters: T frames, H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ov2kit.recipes.evidence.films.actors import Actor, Picture, distractor, draw, jumper, lamp
from ov2kit.recipes.evidence.films.difficulty import Difficulty


@dataclass(frozen=True)
class Clip:
    """One rendered clip.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        fps: frames per second.
        starts: start of every event in seconds, increasing.
    """

    frames: NDArray[np.uint8]
    fps: int
    starts: tuple[float, ...]


def render(seed: int | Sequence[int], difficulty: Difficulty, size: int = 64, fps: int = 25) -> Clip:
    """Draw one clip.

    Args:
        seed: decides everything; the same seed and difficulty give the same pixels and times.
        difficulty: knobs of the scene.
        size: H = W, in pixels.
        fps: frames per second.
    """
    rng = np.random.default_rng(seed)
    seconds = rng.uniform(*difficulty.seconds)
    times = np.arange(round(seconds * fps)) / fps
    found = stars(rng, times, seconds, difficulty)
    actors = [actor for actor, _ in found]
    starts = [start for _, own in found for start in own]
    for _ in range(rng.integers(difficulty.distractors[0], difficulty.distractors[1] + 1)):
        actors.append(distractor(rng, times, seconds, difficulty))
    rng.shuffle(actors)  # who stands in front is no hint
    background = make_background(rng, size, difficulty.texture)
    pan = slow_curve(rng, times, 2) * difficulty.drift
    light = 1 + difficulty.lighting * slow_curve(rng, times, 1)[0]
    for at in rng.uniform(0, seconds, size=rng.poisson(difficulty.switches * seconds)):
        light[times >= at] *= 1 + difficulty.lighting * rng.uniform(-1, 1)
    screen = round(difficulty.snow * size)
    frames = np.empty((len(times), size, size, 3), dtype=np.uint8)
    for t in range(len(times)):
        picture = shifted_window(background, pan[0, t] * size, pan[1, t] * size, size)
        for actor in actors:
            draw(picture, actor, t, pan[:, t])
        if screen:
            picture[:screen] = _snow(rng, screen, size)
        picture *= light[t]
        picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(difficulty.noise)
        frames[t] = picture.clip(0, 255)
    return Clip(frames, fps, tuple(sorted(starts)))


def stars(
    rng: np.random.Generator, times: NDArray[np.float64], seconds: float, difficulty: Difficulty
) -> list[tuple[Actor, list[float]]]:
    """Those that jump or glow, each with the starts of its events: what `render` draws first from its generator."""
    star = lamp if difficulty.event == "glow" else jumper
    count = rng.integers(difficulty.jumpers[0], difficulty.jumpers[1] + 1)
    return [star(rng, times, seconds, difficulty) for _ in range(count)]


def _snow(rng: np.random.Generator, rows: int, size: int) -> NDArray[np.int64]:
    """(rows, size, 1) gray cells of 2 x 2 pixels; `size` is even."""
    cells = rng.integers(0, 256, size=(rows // 2 + 1, size // 2, 1))
    return cells.repeat(2, axis=0).repeat(2, axis=1)[:rows]


def slow_curve(rng: np.random.Generator, times: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """(n, T) smooth curves within [-1, 1], a few seconds a turn."""
    rate, phase = rng.uniform(0.08, 0.35, size=(2, n, 1)), rng.random((2, n, 1))
    waves = np.sin(2 * np.pi * (rate * times + phase))
    return cast(NDArray[np.float64], waves.mean(axis=0))


def make_background(rng: np.random.Generator, size: int, contrast: float) -> Picture:
    """(2 size, 2 size, 3) texture of several scales; the lower part is ground."""
    side = 2 * size
    picture: Picture = np.zeros((side, side, 3), dtype=np.float32)
    for cells, share in ((6, 1.0), (16, 0.6), (48, 0.4)):
        coarse = rng.standard_normal((cells + 1, cells + 1, 3)).astype(np.float32)
        picture += share * _stretch(coarse, side)
    picture = 0.7 * picture.mean(axis=2, keepdims=True) + 0.3 * picture
    picture *= contrast / max(float(picture.std()), 1e-6)
    picture += (rng.uniform(90, 170) + rng.uniform(-20, 20, size=3)).astype(np.float32)
    horizon = int(side * 0.5 + size * rng.uniform(0.1, 0.2))
    picture[horizon:] = 0.6 * picture[horizon:] + np.float32(rng.uniform(20, 80))
    return picture


def _stretch(coarse: Picture, side: int) -> Picture:
    """Bilinear enlargement to (side, side, 3)."""
    at = np.linspace(0, len(coarse) - 1 - 1e-4, side)
    low = at.astype(int)
    share = (at - low).astype(np.float32)
    rows: Picture = coarse[low] * (1 - share)[:, None, None] + coarse[low + 1] * share[:, None, None]
    stretched: Picture = rows[:, low] * (1 - share)[None, :, None] + rows[:, low + 1] * share[None, :, None]
    return stretched


def shifted_window(background: Picture, dx: float, dy: float, size: int) -> Picture:
    """(size, size, 3) window of the background, to a fraction of a pixel."""
    x, y = size / 2 + dx, size / 2 + dy
    left, top = int(x), int(y)
    fx, fy = np.float32(x - left), np.float32(y - top)
    part = background[top : top + size + 1, left : left + size + 1]
    rows = part[:-1] * (1 - fy) + part[1:] * fy
    return cast(Picture, rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx)
