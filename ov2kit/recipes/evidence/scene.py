"""A small world in which something jumps: exact start times, and everything else that moves.

Drawn frame by frame; what the codec makes of it is decided by a real encoder later.
Letters: T frames, H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Difficulty:
    """Knobs of the procedural clips. Lengths are shares of the picture height, times are seconds.

    Args:
        seconds: shortest and longest clip.
        jumpers: fewest and most objects that jump.
        interval: between the starts of two jumps of one object.
        flight: how long a jump lasts.
        height: how high it goes.
        distractors: fewest and most objects that slide or float about without jumping.
        feints: share of intervals between jumps that hold a crouch without a jump.
        drift: fastest camera drift, per second.
        noise: standard deviation of the sensor noise, grey levels of 255.
        lighting: largest relative change of the light.
        texture: contrast of the background, grey levels of 255.
        camouflage: share of clips in which the jumping object may have any colour; it is red in the others.
        glow: nothing jumps: objects glide in smooth curves, and what is asked for is when a red one that stands still
            begins to glow, slowly up and down for as long as a jump would last. The case in which codec tokens
            should lose: much moves that does not matter, and what matters costs few bits.
    """

    seconds: tuple[float, float] = (5.0, 6.0)
    jumpers: tuple[int, int] = (1, 1)
    interval: tuple[float, float] = (0.7, 1.4)
    flight: tuple[float, float] = (0.32, 0.5)
    height: tuple[float, float] = (0.12, 0.25)
    distractors: tuple[int, int] = (1, 3)
    feints: float = 0.3
    drift: float = 0.06
    noise: float = 3.0
    lighting: float = 0.15
    texture: float = 30.0
    camouflage: float = 0.0
    glow: bool = False


@dataclass(frozen=True)
class Clip:
    """One rendered clip.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        fps: frames per second.
        starts: start of every jump in seconds, increasing.
    """

    frames: NDArray[np.uint8]
    fps: int
    starts: tuple[float, ...]


@dataclass(frozen=True)
class _Actor:
    """One object: where it stands or moves, how it looks, when it jumps."""

    x: NDArray[np.float64]  # (T,) centre, share of the width
    y: NDArray[np.float64]  # (T,) feet, share of the height
    air: NDArray[np.float64]  # (T,) height above the ground, share of the height
    squat: NDArray[np.float64]  # (T,) 0 upright .. 1 crouched
    lit: NDArray[np.float64]  # (T,) how bright it glows, 0 .. 1
    size: float
    colour: Picture


def render(seed: int | Sequence[int], difficulty: Difficulty, size: int = 64, fps: int = 25) -> Clip:
    """Draw one clip.

    Args:
        seed: decides everything; the same seed and difficulty give the same pixels and times.
        size: H = W, in pixels.
    """
    rng = np.random.default_rng(seed)
    seconds = rng.uniform(*difficulty.seconds)
    times = np.arange(round(seconds * fps)) / fps
    actors: list[_Actor] = []
    starts: list[float] = []
    for _ in range(rng.integers(difficulty.jumpers[0], difficulty.jumpers[1] + 1)):
        actor, own = _jumper(rng, times, seconds, difficulty)
        actors.append(actor)
        starts += own
    for _ in range(rng.integers(difficulty.distractors[0], difficulty.distractors[1] + 1)):
        actors.append(_distractor(rng, times, difficulty))
    rng.shuffle(actors)  # who stands in front is no hint
    background = _background(rng, size, difficulty.texture)
    pan = _slow_curve(rng, times, 2) * difficulty.drift
    light = 1 + difficulty.lighting * _slow_curve(rng, times, 1)[0]
    frames = np.empty((len(times), size, size, 3), dtype=np.uint8)
    for t in range(len(times)):
        picture = _shifted(background, pan[0, t] * size, pan[1, t] * size, size)
        for actor in actors:
            _draw(picture, actor, t, pan[:, t])
        picture *= light[t]
        picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(difficulty.noise)
        frames[t] = picture.clip(0, 255)
    return Clip(frames, fps, tuple(sorted(starts)))


def _jumper(
    rng: np.random.Generator, times: NDArray[np.float64], seconds: float, d: Difficulty
) -> tuple[_Actor, list[float]]:
    air, squat, lit = np.zeros(len(times)), np.zeros(len(times)), np.zeros(len(times))
    starts = []
    at = rng.uniform(0.2, d.interval[1])
    while True:
        flight = rng.uniform(*d.flight)
        if at + flight > seconds - 0.1:
            break
        starts.append(round(float(at), 2))
        phase = (times - starts[-1]) / flight
        flying = (phase > 0) & (phase < 1)
        air += np.where(flying, 4 * rng.uniform(*d.height) * phase * (1 - phase), 0.0)
        squat += _bump(times, starts[-1] - 0.1, 0.1) + _bump(times, starts[-1] + flight + 0.06, 0.08)
        lit += np.where(flying, 4 * phase * (1 - phase), 0.0)
        pause = flight + rng.uniform(d.interval[0] - d.flight[0], d.interval[1] - d.flight[1])
        if rng.random() < d.feints:
            squat += _bump(times, at + (flight + pause) / 2, 0.1)
        at += pause
    x, y = _place(rng, times, d)
    if d.glow:
        air, squat = np.zeros(len(times)), np.zeros(len(times))
        x, y = np.full(len(times), rng.uniform(0.1, 0.9)), np.full(len(times), rng.uniform(0.2, 0.9))
    colour = _colour(rng, red=rng.random() >= d.camouflage)
    if d.glow:
        return _actor(rng, x, y, air, squat, lit, colour), starts
    return _actor(rng, x, y, air, squat, np.zeros(len(times)), colour), starts


def _distractor(rng: np.random.Generator, times: NDArray[np.float64], d: Difficulty) -> _Actor:
    x, y = _place(rng, times, d)
    air, squat = np.zeros(len(times)), np.zeros(len(times))
    if d.glow:
        pass
    elif rng.random() < 0.5:  # slides along the ground
        x = 0.5 + 0.4 * np.sin(2 * np.pi * (rng.uniform(0.15, 0.5) * times + rng.random()))
    else:  # floats up and down, never touching the ground
        air = 0.2 + 0.1 * np.sin(2 * np.pi * (rng.uniform(0.3, 1.0) * times + rng.random()))
    return _actor(rng, x, y, air, squat, np.zeros(len(times)), _colour(rng, red=False))


def _place(
    rng: np.random.Generator, times: NDArray[np.float64], d: Difficulty
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where an object is over time: standing, or gliding."""
    x = np.full(len(times), rng.uniform(0.15, 0.85))
    y = np.full(len(times), rng.uniform(0.72, 0.9))
    if d.glow:
        curve = _slow_curve(rng, times, 2)
        x, y = 0.5 + 0.35 * curve[0], 0.62 + 0.28 * curve[1]
    return x, y


def _actor(
    rng: np.random.Generator,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    air: NDArray[np.float64],
    squat: NDArray[np.float64],
    lit: NDArray[np.float64],
    colour: Picture,
) -> _Actor:
    return _Actor(x, y, air, squat.clip(0, 1), lit, rng.uniform(0.18, 0.26), colour)


def _colour(rng: np.random.Generator, *, red: bool) -> Picture:
    low, high = ((190, 20, 20), (245, 80, 80)) if red else ((10, 60, 60), (150, 235, 235))
    return rng.uniform(low, high).astype(np.float32)


def _bump(times: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    return cast(NDArray[np.float64], np.exp(-(((times - centre) / (0.6 * width)) ** 2)))


def _slow_curve(rng: np.random.Generator, times: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """(n, T) smooth curves within [-1, 1], a few seconds a turn."""
    rate, phase = rng.uniform(0.08, 0.35, size=(2, n, 1)), rng.random((2, n, 1))
    waves = np.sin(2 * np.pi * (rate * times + phase))
    return cast(NDArray[np.float64], waves.mean(axis=0))


def _background(rng: np.random.Generator, size: int, contrast: float) -> Picture:
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


def _shifted(background: Picture, dx: float, dy: float, size: int) -> Picture:
    """(size, size, 3) window of the background, to a fraction of a pixel."""
    x, y = size / 2 + dx, size / 2 + dy
    left, top = int(x), int(y)
    fx, fy = np.float32(x - left), np.float32(y - top)
    part = background[top : top + size + 1, left : left + size + 1]
    rows = part[:-1] * (1 - fy) + part[1:] * fy
    return cast(Picture, rows[:, :-1] * (1 - fx) + rows[:, 1:] * fx)


def _draw(picture: Picture, actor: _Actor, t: int, pan: NDArray[np.float64]) -> None:
    """Shadow, body and mark of one object, with soft edges; the camera's pan moves it too."""
    size = len(picture)
    x, ground = (actor.x[t] - pan[0]) * size, (actor.y[t] - pan[1]) * size
    air = actor.air[t] * size
    half = actor.size * size / 2
    tall, wide = half * (1 - 0.35 * actor.squat[t]), half * (0.6 + 0.2 * actor.squat[t])
    _ellipse(picture, x, ground, wide * (1 - 0.5 * min(air / size, 0.3)), 0.2 * half, np.float32(0), 0.45)
    middle = ground - air - tall
    _ellipse(picture, x, middle, wide, tall, actor.colour, 1.0)
    _ellipse(picture, x, middle - 0.4 * tall, 0.45 * wide, 0.25 * tall, 255 - actor.colour, 1.0)
    if actor.lit[t] > 0:
        _ellipse(picture, x, middle, wide, tall, np.float32(255), 0.8 * actor.lit[t])


def _ellipse(
    picture: Picture, x: float, y: float, a: float, b: float, colour: Picture | np.float32, opacity: float
) -> None:
    size = len(picture)
    top, bottom = max(0, int(y - b - 2)), min(size, int(y + b + 3))
    left, right = max(0, int(x - a - 2)), min(size, int(x + a + 3))
    if top >= bottom or left >= right:
        return
    v = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)) / np.float32(b)
    u = (np.arange(left, right, dtype=np.float32)[None] - np.float32(x)) / np.float32(a)
    edge = (1 - np.sqrt(u * u + v * v)) * np.float32(min(a, b))  # about the distance to the rim, in pixels
    alpha = ((edge + 0.5).clip(0, 1) * np.float32(opacity))[..., None]
    part = picture[top:bottom, left:right]
    part += alpha * (colour - part)
