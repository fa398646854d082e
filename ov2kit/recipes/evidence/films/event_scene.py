"""Small events on footage of many kinds, with the mask of each event in every frame.

A world larger than the picture holds the background and the objects; a camera looks at a part of it, and rain, snow,
noise and flicker come last, as they do in front of a lens or in the sensor. Lengths are shares of the picture's
height, times are seconds. Letters: E events, T frames, H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov2kit.errors import check_number, check_numbers, check_order
from ov2kit.recipes.evidence.films.event_actors import EventActor, EventKind, make_actor
from ov2kit.recipes.evidence.films.event_camera import CAMERAS, Camera, look
from ov2kit.recipes.evidence.films.event_screen import screen_world
from ov2kit.recipes.evidence.films.event_weather import WEATHERS, weather
from ov2kit.recipes.evidence.films.event_world import World, made_world

#: footage kind -> (camera, weather, how the background changes)
FOOTAGE: dict[str, tuple[str, str, str]] = {
    "still": ("still", "none", "none"),
    "pan": ("pan", "none", "none"),
    "shake": ("shake", "none", "none"),
    "zoom": ("zoom", "none", "none"),
    "sensor": ("still", "sensor", "none"),
    "rain": ("still", "rain", "none"),
    "snow": ("still", "snow", "none"),
    "flicker": ("still", "flicker", "none"),
    "water": ("still", "water", "none"),
    "cut": ("still", "none", "cut"),
    "fade": ("still", "none", "fade"),
    "real": ("still", "none", "none"),
    "real-shake": ("shake", "none", "none"),
    "screen": ("still", "screen", "none"),
    "leaves": ("still", "leaves", "none"),
    "crowd": ("still", "crowd", "none"),
    "shake-rain": ("shake", "rain", "none"),
}
#: kinds that need footage of the caller's
REAL = ("real", "real-shake")
#: kinds that no choice of blocks was tuned on
HELD_FOOTAGE = ("screen", "leaves", "crowd", "shake-rain")
_WORLD = 1.6  # edge of the world over that of the picture


@dataclass(frozen=True)
class EventScene:
    """Knobs of the clips.

    Args:
        seconds: length.
        size: (H, W) in pixels.
        events: fewest and most of a clip.
        body: smallest and largest object, its height over that of the picture.
        noise: standard deviation of the sensor noise in all footage, gray levels.
        contrast: of objects made up, gray levels between an object's mean and the place where it stands, at least.
        camouflage: share of objects that are cut from the background, as a real one may be.
    """

    seconds: float = 8.0
    size: tuple[int, int] = (196, 336)
    events: tuple[int, int] = (4, 6)
    body: tuple[float, float] = (0.12, 0.24)
    noise: float = 1.5
    contrast: float = 40.0
    camouflage: float = 0.5

    def __post_init__(self) -> None:
        check_number("seconds", self.seconds, low=1)
        check_numbers("size", self.size, length=2, low=64, integer=True)
        check_numbers("events", self.events, length=2, low=1, integer=True)
        check_numbers("body", self.body, length=2, above=0, high=0.5)
        for name in ("events", "body"):
            check_order(f"{name}[0]", getattr(self, name)[0], f"{name}[1]", getattr(self, name)[1])
        for name in ("noise", "contrast"):
            check_number(name, getattr(self, name), low=0)
        check_number("camouflage", self.camouflage, low=0, high=1)


@dataclass(frozen=True)
class Event:
    """What happened.

    Args:
        kind: see `EventKind`.
        start: seconds at which it begins.
        stop: seconds at which it is over.
        masks: frame -> (H, W) bool, what of it can be seen while it happens; frames without are left out.
    """

    kind: EventKind
    start: float
    stop: float
    masks: dict[int, NDArray[np.bool_]]


@dataclass(frozen=True)
class EventClip:
    """One rendered clip and its truth.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        seconds: (T,) time of each frame.
        events: what happens, by start.
    """

    frames: NDArray[np.uint8]
    seconds: NDArray[np.float64]
    events: tuple[Event, ...]


def frame_seconds(rng: np.random.Generator, seconds: float, fps: float, *, variable: bool) -> NDArray[np.float64]:
    """(T,) times from 0: steps of 1 / fps, or of 0.5 to 2 times that where the rate is variable, in milliseconds."""
    count = round(seconds * fps)
    if not variable:
        return np.arange(count) / fps
    steps = rng.choice([0.5, 1.0, 1.0, 2.0], size=count) / fps
    at = np.concatenate([[0.0], np.cumsum(steps)])
    return np.round(at[at < seconds], 3)


def world_size(scene: EventScene) -> tuple[int, int]:
    """(rows, columns) of the world in pixels, even."""
    rows, columns = (2 * round(side * _WORLD / 2) for side in scene.size)
    return rows, columns


def render_events(
    seed: int | Sequence[int],
    scene: EventScene,
    footage: str,
    times: NDArray[np.float64],
    kinds: Sequence[EventKind],
    real: Sequence[NDArray[np.uint8]] | None = None,
) -> EventClip:
    """Draw one clip; the same arguments give the same pixels and masks.

    Args:
        seed: of everything random.
        scene: knobs.
        footage: a name of `FOOTAGE`.
        times: (T,) seconds of the frames.
        kinds: of events, to draw from; at least one.
        real: pictures (rows, columns, 3) of `world_size` to stand in for a made background, one per frame.
    """
    rng = np.random.default_rng(seed)
    camera_name, weather_name, change = FOOTAGE[footage]
    size, seconds = world_size(scene), float(times[-1])
    made = screen_world if weather_name == "screen" else made_world
    world = World(
        tuple(made(rng, size) for _ in range(1 if change == "none" else 3)) if real is None else (),
        real, change, cuts=(seconds * rng.uniform(0.25, 0.4), seconds * rng.uniform(0.6, 0.75)),
    )  # fmt: skip
    camera: Camera = CAMERAS[camera_name](rng, times, scene.size)
    actors = _actors(rng, scene, size, times, kinds, world.picture(0, 0.0))
    lens = weather(rng, WEATHERS[weather_name], scene.size, size, seconds)
    frames = np.empty((len(times), *scene.size, 3), dtype=np.uint8)
    masks: list[dict[int, NDArray[np.bool_]]] = [{} for _ in actors]
    for t, now in enumerate(times):
        picture = lens.in_world(world.picture(t, float(now)), float(now))
        active = [number for number, actor in enumerate(actors) if actor.start <= now <= actor.stop]
        layers = {number: np.zeros(size, dtype=np.float32) for number in active}
        for number, actor in enumerate(actors):
            actor.draw(picture, layers.get(number), float(now))
        seen = look(np.dstack([picture, *layers.values()]), camera, t, scene.size)
        shown = lens.in_picture(seen[..., :3], float(now), rng)
        shown += rng.standard_normal(shown.shape, dtype=np.float32) * np.float32(scene.noise)
        frames[t] = np.rint(shown.clip(0, 255))
        for layer, number in enumerate(active):
            body = (seen[..., 3 + layer] > 0.5) & ~lens.hidden
            if body.any():
                masks[number][t] = body
    events = [Event(a.kind, a.start, a.stop, mask) for a, mask in zip(actors, masks, strict=True) if mask]
    return EventClip(frames, times, tuple(sorted(events, key=lambda event: event.start)))


def _actors(
    rng: np.random.Generator,
    scene: EventScene,
    size: tuple[int, int],
    times: NDArray[np.float64],
    kinds: Sequence[EventKind],
    background: NDArray[np.float32],
) -> list[EventActor]:
    """Objects at places of their own in the middle of the world, each with one event."""
    count = int(rng.integers(scene.events[0], scene.events[1] + 1))
    columns, rows = 4, 3  # places, so that no two objects stand in front of each other
    places = rng.permutation(columns * rows)[:count]
    height, width = scene.size
    actors = []
    for place in places:
        row, column = divmod(int(place), columns)
        x = size[1] / 2 + width * (-0.36 + 0.72 * (column + rng.uniform(0.35, 0.65)) / columns)
        y = size[0] / 2 + height * (-0.36 + 0.72 * (row + rng.uniform(0.35, 0.65)) / rows)
        kind = kinds[int(rng.integers(len(kinds)))]
        actors.append(make_actor(rng, kind, (x, y), height, float(times[-1]), scene, background))
    return actors
