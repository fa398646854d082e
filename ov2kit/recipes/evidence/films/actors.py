"""Things that stand, move, jump or glow in a clip, and how they are drawn.

Lengths are shares of the picture's edge, times are seconds. Letters: T frames, H x W pixels.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ov2kit.recipes.evidence.films.difficulty import Difficulty

Picture = NDArray[np.float32]
Curve = NDArray[np.float64]
_MARGIN = 0.12  # from the sides, so that what happens can be seen


@dataclass(frozen=True)
class Actor:
    """One object over time.

    Args:
        x: (T,) center.
        ground: (T,) where its shadow lies.
        color: RGB, gray levels.
        size: of the body.
        air: (T,) height of the feet above the ground.
        squat: (T,) 0 upright .. 1 crouched.
        lit: (T,) how brightly it glows, 0 .. 1.
    """

    x: Curve
    ground: Curve
    color: Picture
    size: float
    air: Curve
    squat: Curve
    lit: Curve


def event_times(rng: np.random.Generator, seconds: float, d: Difficulty) -> list[tuple[float, float]]:
    """(start, length) of the events of one object: a refractory pause and an exponential one after each."""
    events: list[tuple[float, float]] = []
    at = 0.2 + rng.exponential(d.pause[1])
    while True:
        length = float(rng.uniform(*d.flight))
        if at + length > seconds - 0.1:
            return events
        events.append((round(float(at), 2), length))
        at = events[-1][0] + length + d.pause[0] + rng.exponential(d.pause[1])


def jumper(rng: np.random.Generator, times: Curve, seconds: float, d: Difficulty) -> tuple[Actor, list[float]]:
    """Something that jumps, often to another place; in some of the pauses it crouches or shuffles aside."""
    events = event_times(rng, seconds, d)
    x, air, squat = np.full(len(times), _place(rng)), np.zeros(len(times)), np.zeros(len(times))
    landed = 0.2
    for start, flight in [*events, (seconds, 0.0)]:
        if start - landed > 0.8 and rng.random() < d.feints:
            middle = rng.uniform(landed + 0.3, start - 0.4)
            if rng.random() < 0.5:
                squat += _bump(times, middle, 0.1)
            else:
                _move(x, times, middle - 0.25, 0.5, rng.uniform(-d.hop, d.hop))
        if not flight:
            break
        phase = ((times - start) / flight).clip(0, 1)
        air += 4 * rng.uniform(*d.height) * phase * (1 - phase)
        squat += _bump(times, start - 0.1, 0.1) + _bump(times, start + flight + 0.06, 0.08)
        _move(x, times, start, flight, rng.uniform(-d.hop, d.hop))
        landed = start + flight
    color = _color(rng, red=rng.random() >= d.camouflage)
    ground = np.full(len(times), rng.uniform(0.72, 0.9))
    actor = Actor(x, ground, color, rng.uniform(0.18, 0.26), air, squat.clip(0, 1), lit=np.zeros(len(times)))
    return actor, [start for start, _ in events]


def lamp(rng: np.random.Generator, times: Curve, seconds: float, d: Difficulty) -> tuple[Actor, list[float]]:
    """Something that stands still and slowly begins to glow and to fade again, for as long as a jump would last."""
    events = event_times(rng, seconds, d)
    lit = np.zeros(len(times))
    for start, length in events:
        phase = ((times - start) / length).clip(0, 1)
        lit += 4 * phase * (1 - phase)
    x, ground = np.full(len(times), _place(rng)), np.full(len(times), rng.uniform(0.72, 0.9))
    never = np.zeros(len(times))
    actor = Actor(x, ground, _color(rng, red=True), rng.uniform(0.18, 0.26), never, never, lit * d.glow)
    return actor, [start for start, _ in events]


def distractor(rng: np.random.Generator, times: Curve, seconds: float, d: Difficulty) -> Actor:
    """Something that slides along the ground, or floats and never touches it; by fits and starts or all the time."""
    x, air = np.full(len(times), _place(rng)), np.zeros(len(times))
    floats = bool(rng.random() < 0.5)
    if floats:
        air += rng.uniform(0.12, 0.3)
    at = rng.exponential(d.rest)
    while at < seconds:
        takes = rng.uniform(0.6, 1.8)
        if floats:
            _move(air, times, at, takes, rng.uniform(-0.2, 0.2), low=0.1, high=0.32)
        else:
            _move(x, times, at, takes, rng.uniform(-0.6, 0.6))
        at += takes + (rng.exponential(d.rest) if d.rest else 0.0)
    ground, never = np.full(len(times), rng.uniform(0.72, 0.9)), np.zeros(len(times))
    return Actor(x, ground, _color(rng, red=False), rng.uniform(0.18, 0.26), air, squat=never, lit=never)


def draw(picture: Picture, actor: Actor, t: int, pan: Curve) -> None:
    """Shadow, body and mark of one object in frame t, with soft edges; the camera's pan moves it too."""
    size = len(picture)
    x, ground = (actor.x[t] - pan[0]) * size, (actor.ground[t] - pan[1]) * size
    air = actor.air[t] * size
    half = actor.size * size / 2
    tall, wide = half * (1 - 0.35 * actor.squat[t]), half * (0.6 + 0.2 * actor.squat[t])
    draw_ellipse(picture, x, ground, wide * (1 - 0.5 * min(actor.air[t], 0.3)), 0.2 * half, np.float32(0), 0.45)
    middle = ground - air - tall
    draw_ellipse(picture, x, middle, wide, tall, actor.color, 1.0)
    draw_ellipse(picture, x, middle - 0.4 * tall, 0.45 * wide, 0.25 * tall, 255 - actor.color, 1.0)
    if actor.lit[t] > 0:
        draw_ellipse(picture, x, middle, wide, tall, np.float32(255), actor.lit[t])


def _place(rng: np.random.Generator) -> float:
    return float(rng.uniform(_MARGIN, 1 - _MARGIN))


def _move(
    curve: Curve, times: Curve, start: float, takes: float, by: float, low: float = _MARGIN, high: float = 1 - _MARGIN
) -> None:
    """Add a smooth step to `curve` in place; one that would leave [low, high] goes the other way."""
    here = curve[-1]
    if not low <= here + by <= high:
        by = -by
    phase = ((times - start) / takes).clip(0, 1)
    curve += (min(max(here + by, low), high) - here) * phase * phase * (3 - 2 * phase)


def _color(rng: np.random.Generator, *, red: bool) -> Picture:
    low, high = ((190, 20, 20), (245, 80, 80)) if red else ((10, 60, 60), (150, 235, 235))
    return rng.uniform(low, high).astype(np.float32)


def _bump(times: Curve, center: float, width: float) -> Curve:
    return cast(Curve, np.exp(-(((times - center) / (0.6 * width)) ** 2)))


def draw_ellipse(
    picture: Picture, x: float, y: float, a: float, b: float, color: Picture | np.float32, opacity: float
) -> None:
    """Paint an ellipse with a smooth rim over part of a picture, in place.

    Args:
        picture: (size, size, channels) float32, changed.
        x: of its center, in pixels.
        y: of its center.
        a: half of its width, in pixels.
        b: half of its height.
        color: of its pixels; broadcast over channels.
        opacity: from 0 to 1.
    """
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
    part += alpha * (color - part)
