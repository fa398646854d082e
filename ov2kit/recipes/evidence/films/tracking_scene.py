"""A small world to point at: objects of named colors that stand, slide, hop, cross and hide, with a mask each.

Drawn on the backgrounds of the event set; what the codec makes of it is decided by a real encoder later. Lengths are
shares of the picture's edge, times are seconds. Letters: O objects, T frames, H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov2kit.errors import check_number, check_numbers, check_order
from ov2kit.recipes.evidence.films.actors import Curve, Picture, draw_ellipse
from ov2kit.recipes.evidence.films.scene import make_background, shifted_window, slow_curve

#: name -> RGB, gray levels
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (225, 45, 45),
    "green": (40, 190, 60),
    "blue": (50, 80, 225),
    "yellow": (230, 215, 50),
}


@dataclass(frozen=True)
class _Mover:
    """One object over time: (T,) center, ground and height of its feet above it; its size and color."""

    x: Curve
    ground: Curve
    air: Curve
    size: float
    color: Picture


@dataclass(frozen=True)
class TrackingScene:
    """Knobs of the clips.

    Args:
        seconds: length.
        fps: frames per second.
        size: H = W in pixels.
        objects: fewest and most; each has its own color.
        body: smallest and largest object.
        pace: mean pause between two moves; 0 keeps everything moving.
        travel: farthest that a move goes.
        takes: shortest and longest move.
        hops: share of moves that go through the air.
        pillars: share of clips with a pillar in front, behind which objects can vanish.
        drift: farthest that the camera pans from the middle, at most 0.4.
        noise: standard deviation of the sensor noise, gray levels.
        texture: contrast of the background, gray levels.
    """

    seconds: float = 4.0
    fps: int = 24
    size: int = 96
    objects: tuple[int, int] = (2, 3)
    body: tuple[float, float] = (0.16, 0.26)
    pace: float = 0.5
    travel: float = 0.6
    takes: tuple[float, float] = (0.4, 1.4)
    hops: float = 0.4
    pillars: float = 0.4
    drift: float = 0.05
    noise: float = 3.0
    texture: float = 22.0

    def __post_init__(self) -> None:
        check_number("seconds", self.seconds, above=0)
        for name, least in (("fps", 1), ("size", 16)):
            check_number(name, getattr(self, name), low=least, integer=True)
        check_numbers("objects", self.objects, length=2, low=1, high=len(COLORS), integer=True)
        for name in ("body", "takes"):
            check_numbers(name, getattr(self, name), length=2, above=0)
        for name in ("objects", "body", "takes"):
            check_order(f"{name}[0]", getattr(self, name)[0], f"{name}[1]", getattr(self, name)[1])
        for name in ("pace", "travel", "noise", "texture"):
            check_number(name, getattr(self, name), low=0)
        for name in ("hops", "pillars"):
            check_number(name, getattr(self, name), low=0, high=1)
        check_number("drift", self.drift, low=0, high=0.4)  # where the background ends


@dataclass(frozen=True)
class TrackedClip:
    """One rendered clip and its truth.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        masks: (O, T, H, W) bool, what can be seen of each object.
        colors: name of each object's color.
        fps: frames per second.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    colors: tuple[str, ...]
    fps: int


def render_tracking(seed: int | Sequence[int], scene: TrackingScene) -> TrackedClip:
    """Draw one clip; the same seed and scene give the same pixels and masks."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(scene.seconds * scene.fps)) / scene.fps
    count = int(rng.integers(scene.objects[0], scene.objects[1] + 1))
    names = [str(name) for name in rng.permutation(list(COLORS))[:count]]
    actors = [_mover(rng, times, scene, name) for name in names]
    pillar = _pillar(rng) if rng.random() < scene.pillars else None
    background = make_background(rng, scene.size, scene.texture)
    pan = slow_curve(rng, times, 2) * scene.drift
    frames = np.empty((len(times), scene.size, scene.size, 3), dtype=np.uint8)
    masks = np.zeros((count, len(times), scene.size, scene.size), dtype=bool)
    for t in range(len(times)):
        picture = shifted_window(background, pan[0, t] * scene.size, pan[1, t] * scene.size, scene.size)
        for number, actor in enumerate(actors):
            body = _draw(picture, actor, t, pan[:, t])
            masks[:number, t] &= ~body
            masks[number, t] = body
        if pillar is not None:
            left, right = (round((x - pan[0, t]) * scene.size) for x in pillar)
            picture[:, max(left, 0) : max(right, 0)] = (95, 92, 88)
            masks[:, t, :, max(left, 0) : max(right, 0)] = False
        picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(scene.noise)
        frames[t] = picture.clip(0, 255)
    return TrackedClip(frames, masks, tuple(names), scene.fps)


def _draw(picture: Picture, mover: _Mover, t: int, pan: Curve) -> NDArray[np.bool_]:
    """Draw shadow and body of one object; where the body covers more than half of a pixel."""
    size = len(picture)
    x, ground = (mover.x[t] - pan[0]) * size, (mover.ground[t] - pan[1]) * size
    tall, wide = mover.size * size / 2, 0.35 * mover.size * size
    middle = ground - mover.air[t] * size - tall
    draw_ellipse(picture, x, ground, wide * (1 - 0.5 * min(mover.air[t], 0.3)), 0.2 * tall, np.float32(0), 0.45)
    draw_ellipse(picture, x, middle, wide, tall, mover.color, 1.0)
    alone: Picture = np.zeros((size, size, 1), dtype=np.float32)
    draw_ellipse(alone, x, middle, wide, tall, np.float32(1), 1.0)
    covered: NDArray[np.bool_] = alone[..., 0] > 0.5
    return covered


def _mover(rng: np.random.Generator, times: Curve, scene: TrackingScene, color: str) -> _Mover:
    """An object that moves from place to place, now and then through the air."""
    x = np.full(len(times), rng.uniform(0.12, 0.88))
    ground = np.full(len(times), rng.uniform(0.45, 0.9))
    air = np.zeros(len(times))
    at = float(rng.exponential(scene.pace)) if scene.pace else 0.0
    while at < times[-1]:
        takes = float(rng.uniform(*scene.takes))
        phase = ((times - at) / takes).clip(0, 1)
        smooth = phase * phase * (3 - 2 * phase)
        goal = float(np.clip(x[-1] + rng.uniform(-scene.travel, scene.travel), 0.1, 0.9))
        x += (goal - x[-1]) * smooth
        if rng.random() < scene.hops:
            air += 4 * rng.uniform(0.1, 0.25) * phase * (1 - phase)
        at += takes + (float(rng.exponential(scene.pace)) if scene.pace else 0.0)
    shade = rng.uniform(0.85, 1.1)
    rgb = np.clip(np.array(COLORS[color]) * shade, 0, 255).astype(np.float32)
    return _Mover(x, ground, air, float(rng.uniform(*scene.body)), rgb)


def _pillar(rng: np.random.Generator) -> tuple[float, float]:
    """Left and right edge of something tall in front."""
    middle, half = rng.uniform(0.3, 0.7), rng.uniform(0.06, 0.12)
    return middle - half, middle + half
