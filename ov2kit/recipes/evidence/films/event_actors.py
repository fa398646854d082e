"""Objects to which something happens once: how they look, where they are, and what of them the event covers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ov2kit.recipes.evidence.films.actors import Picture
from ov2kit.recipes.evidence.films.event_world import stretched

if TYPE_CHECKING:
    from ov2kit.recipes.evidence.films.event_scene import EventScene

EventKind = Literal["jump", "appear", "vanish", "turn", "speak", "creep", "text", "glow", "grow", "blink", "recolor"]
#: kinds that no choice of blocks was tuned on
HELD_KINDS: tuple[EventKind, ...] = ("grow", "blink", "recolor")
#: kind -> shortest and longest, seconds
LENGTHS: dict[EventKind, tuple[float, float]] = {
    "jump": (0.3, 0.5),
    "appear": (0.4, 0.6),
    "vanish": (0.4, 0.6),
    "turn": (0.4, 0.9),
    "speak": (0.8, 1.6),
    "creep": (1.5, 3.0),
    "text": (0.4, 0.8),
    "glow": (0.8, 1.6),
    "grow": (0.4, 0.8),
    "blink": (0.8, 1.6),
    "recolor": (0.4, 0.8),
}
_AFTER = 0.1  # seconds in which something appears, vanishes or takes another color
_GROWN = 1.6  # times its edge
_HUE = (90.0, -46.0, 0.0)  # of equal luma (BT.601)


@dataclass(frozen=True)
class EventActor:
    """One object and its event.

    Args:
        kind: of the event.
        start: seconds.
        stop: seconds.
        x: column of its middle in the world, pixels.
        y: row of it.
        look: (n, n, 3) gray levels.
        other: (n, n, 3) what it looks like after the event; same as `look` where it stays the same.
        alpha: (n, n) opacity.
        reach: pixels that a jump, or a slow move, goes aside and up.
        rate: openings of a mouth, or flashes of a lamp, per second.
    """

    kind: EventKind
    start: float
    stop: float
    x: float
    y: float
    look: Picture
    other: Picture
    alpha: Picture
    reach: tuple[float, float]
    rate: float

    def draw(self, picture: Picture, body: Picture | None, now: float) -> None:
        """Draw it at a time, in place.

        Args:
            picture: (rows, columns, 3) of the world.
            body: (rows, columns) to mark what the event covers, 0 to 1; None marks nothing.
            now: seconds.
        """
        phase = float(np.clip((now - self.start) / (self.stop - self.start), 0, 1))
        look, alpha, x, y = self.look, self.alpha, self.x, self.y
        covers = alpha
        if self.kind in ("jump", "creep"):
            smooth = phase * phase * (3 - 2 * phase)
            x += self.reach[0] * smooth
            y -= self.reach[1] * (4 * phase * (1 - phase) if self.kind == "jump" else smooth)
        elif self.kind in ("appear", "vanish"):
            there = float(np.clip((now - self.start) / _AFTER, 0, 1))
            alpha = alpha * np.float32(there if self.kind == "appear" else 1 - there)
        elif self.kind == "turn":
            look = _turned(look, np.pi * phase)
        elif self.kind == "speak":
            mouth = _mouth(len(look))
            if self.start <= now <= self.stop:
                opened = np.float32(abs(np.sin(np.pi * self.rate * (now - self.start))))
                look = look + (mouth * opened)[..., None] * (20 - look)
            covers = mouth
        elif self.kind == "text":
            look = self.look if now < self.start else self.other
        elif self.kind == "glow":
            look = look + np.float32(4 * phase * (1 - phase) * 0.7) * (255 - look)
        elif self.kind == "grow":
            side = 2 * round(len(look) * (1 + (_GROWN - 1) * phase) / 2)
            look, alpha = stretched(look, (side, side)), stretched(alpha[..., None], (side, side))[..., 0]
            covers = alpha
        elif self.kind == "blink":
            covers = _lamp(len(look))
            if self.start <= now <= self.stop and (now - self.start) * self.rate % 1 < 0.5:
                look = look + covers[..., None] * (250 - look)
        elif self.kind == "recolor":
            changed = np.float32(np.clip((now - self.start) / _AFTER, 0, 1))
            look = look + changed * np.array(_HUE, dtype=np.float32)
        _paste(picture, look, alpha, x, y)
        if body is not None:
            _paste(body, np.ones_like(covers), covers, x, y)


def make_actor(
    rng: np.random.Generator,
    kind: EventKind,
    place: tuple[float, float],
    height: int,
    seconds: float,
    scene: "EventScene",
    background: Picture,
) -> EventActor:
    """An object at a place, its event at a random time.

    Args:
        rng: decides everything.
        kind: of the event.
        place: (x, y) in the world, pixels.
        height: of the picture, pixels.
        seconds: length of the clip.
        scene: knobs.
        background: of the world, to cut camouflaged objects from and to stand out against.
    """
    length = min(float(rng.uniform(*LENGTHS[kind])), 0.6 * seconds)
    start = float(rng.uniform(min(0.3, 0.1 * seconds), seconds - length - min(0.1, 0.1 * seconds)))
    side = 2 * round(height * rng.uniform(*scene.body) / 2)
    look = _text(rng, side) if kind == "text" else _body(rng, side, place, scene, background)
    other = _text(rng, side, like=look) if kind == "text" else look
    alpha = np.ones((side, side), dtype=np.float32) if kind == "text" else _disk(side)
    if kind == "text":
        alpha[: side // 4], alpha[-(side // 4) :] = 0, 0
    far = height * rng.uniform(0.1, 0.25) * rng.choice([-1, 1])
    up = height * rng.uniform(0.08, 0.2) if kind == "jump" else height * rng.uniform(-0.04, 0.04)
    return EventActor(
        kind, round(start, 3), round(start + length, 3), *place, look, other, alpha, (float(far), float(up)),
        float(rng.uniform(2.5, 4.5)),
    )  # fmt: skip


def _body(
    rng: np.random.Generator, side: int, place: tuple[float, float], scene: "EventScene", background: Picture
) -> Picture:
    """Made up, or cut from another place of the background."""
    rows, columns = background.shape[:2]
    if rng.random() < scene.camouflage:
        top, left = rng.integers(0, rows - side), rng.integers(0, columns - side)
        return background[top : top + side, left : left + side].copy()
    x, y = (round(p) for p in place)
    here = background[max(y - 8, 0) : y + 8, max(x - 8, 0) : x + 8].mean()
    mean = here + (1 if here < 128 else -1) * (scene.contrast + rng.uniform(0, 40))
    texture = stretched(rng.standard_normal((5, 5, 3)).astype(np.float32) * 22, (side, side))
    return (texture + np.float32(mean) + rng.uniform(-25, 25, size=3).astype(np.float32)).clip(5, 250)


def _disk(side: int) -> Picture:
    """(side, side) opacity of a round body with a soft rim."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    away = np.sqrt(at[:, None] ** 2 + at[None] ** 2)
    return ((1 - away) * side / 2 + 0.5).clip(0, 1)


def _mouth(side: int) -> Picture:
    """(side, side) a flat ellipse in the lower half."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    away = np.sqrt(((at[:, None] - 0.35) / 0.2) ** 2 + (at[None] / 0.4) ** 2)
    return ((1 - away) * 0.2 * side / 2 + 0.5).clip(0, 1)


def _lamp(side: int) -> Picture:
    """(side, side) a small disk in the upper half."""
    at = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    away = np.sqrt((at[:, None] + 0.3) ** 2 + at[None] ** 2) / 0.3
    return ((1 - away) * 0.15 * side + 0.5).clip(0, 1)


def _text(rng: np.random.Generator, side: int, like: Picture | None = None) -> Picture:
    """A light sign with three random characters of 3 x 5 cells; `like` has the same sign and other characters."""
    sign = np.full((side, side, 3), 225 if like is None else like[0, 0, 0], dtype=np.float32)
    cell = max(1, side // 14)
    for number in range(3):
        glyph = (rng.random((5, 3)) < 0.55).repeat(cell, axis=0).repeat(cell, axis=1)
        top, left = side // 2 - 5 * cell // 2, side // 2 - 6 * cell + number * 4 * cell
        part = sign[top : top + 5 * cell, left : left + 3 * cell]
        part[glyph[: part.shape[0], : part.shape[1]]] = 30
    return sign


def _turned(look: Picture, angle: float) -> Picture:
    """Turned about its middle, nearest pixel, clamped at the edge."""
    side = len(look)
    at = np.arange(side) - (side - 1) / 2
    y, x = at[:, None], at[None]
    rows = np.rint(np.cos(angle) * y - np.sin(angle) * x + (side - 1) / 2).astype(int).clip(0, side - 1)
    columns = np.rint(np.sin(angle) * y + np.cos(angle) * x + (side - 1) / 2).astype(int).clip(0, side - 1)
    turned: Picture = look[rows, columns]
    return turned


def _paste(target: NDArray[np.float32], look: Picture, alpha: Picture, x: float, y: float) -> None:
    """Blend a square into (rows, columns[, C]) in place, its middle at (x, y) to a whole pixel."""
    side = len(alpha)
    top, left = round(y) - side // 2, round(x) - side // 2
    rows = slice(max(top, 0), min(top + side, target.shape[0]))
    columns = slice(max(left, 0), min(left + side, target.shape[1]))
    part = target[rows, columns]
    own = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    share = alpha[own] if part.ndim == 2 else alpha[own][..., None]
    part += share * (look[own] - part)
