"""How hard the procedural clips are: every knob of a scene."""

from dataclasses import dataclass
from typing import Literal, get_args

from ov2kit.errors import check_choice, check_number, check_numbers, check_order

Event = Literal["jump", "glow"]


@dataclass(frozen=True)
class Difficulty:
    """Knobs of the procedural clips. Lengths are shares of the picture's edge, times are seconds.

    Args:
        event: what is asked for. "jump": a red object jumps. "glow": nothing jumps; a red object that stands still
            slowly glows up and fades, which costs few bits.
        seconds: shortest and longest clip.
        jumpers: fewest and most objects that jump (or glow).
        pause: between two events of one object: the shortest, and the mean of what an exponential draw adds.
        flight: shortest and longest event.
        height: how high a jump goes, least and most.
        hop: how far aside a jump, or a shuffle, can end.
        feints: share of long pauses in which a jumper crouches or shuffles aside without a jump.
        distractors: fewest and most objects that slide or float about without jumping.
        rest: mean pause of a distractor between two moves; 0 keeps it moving.
        drift: farthest that the camera pans from the middle, at most 0.4.
        snow: share of the picture, from the top, that shows television snow: new noise in every frame.
        noise: standard deviation of the sensor noise, gray levels of 255.
        lighting: largest relative change of the light.
        switches: sudden changes of the light per second, each by up to `lighting`.
        texture: contrast of the background, gray levels of 255.
        camouflage: share of clips in which the jumping object may have any color; it is red in the others.
        glow: brightest glow, 1 is white.
    """

    event: Event = "jump"
    seconds: tuple[float, float] = (8.0, 10.0)
    jumpers: tuple[int, int] = (1, 2)
    pause: tuple[float, float] = (0.4, 1.0)
    flight: tuple[float, float] = (0.32, 0.5)
    height: tuple[float, float] = (0.12, 0.25)
    hop: float = 0.3
    feints: float = 0.3
    distractors: tuple[int, int] = (1, 3)
    rest: float = 1.5
    drift: float = 0.06
    snow: float = 0.0
    noise: float = 3.0
    lighting: float = 0.15
    switches: float = 0.1
    texture: float = 30.0
    camouflage: float = 0.0
    glow: float = 0.8

    def __post_init__(self) -> None:
        check_choice("event", self.event, get_args(Event))
        check_numbers("pause", self.pause, length=2, low=0)
        for name in ("seconds", "jumpers", "flight", "height", "distractors"):
            counts = name in ("jumpers", "distractors")
            low, high = check_numbers(name, getattr(self, name), length=2, low=0, integer=counts)
            check_order(f"{name}[0]", low, f"{name}[1]", high)
        check_number("flight[0]", self.flight[0], above=0)
        for name in ("feints", "snow", "camouflage", "glow"):
            check_number(name, getattr(self, name), low=0, high=1)
        check_number("drift", self.drift, low=0, high=0.4)  # where the background ends
        for name in ("hop", "rest", "noise", "lighting", "switches", "texture"):
            check_number(name, getattr(self, name), low=0)
