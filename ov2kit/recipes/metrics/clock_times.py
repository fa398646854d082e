"""Times in a text: "3.2 s", "1:02:03.5", "1 hour 5 minutes", "1'05\"", ..."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_NUMBER = r"(?:\d++(?:\.\d++)?+|\.\d++)"
_UNITS = {
    "h": r"(?:hours?|hrs?|h)(?![a-z])",
    "m": r"(?:minutes?|mins?|m)(?![a-z])",
    "s": r"(?:seconds?|secs?|s)(?![a-z])",
}
_MORE = rf"[\d:]|\.\d|\s*(?:{'|'.join(_UNITS.values())})|[a-z]"  # what follows a number that is not the rest of a time
_BETWEEN = re.compile(r"\bbetween\W*(?:(?:about|around|approximately|roughly|the)\W*)*$")
_AND = re.compile(r"\s*and\b")


def _pattern(glue: str) -> re.Pattern[str]:
    return re.compile(
        rf"""(?<![\w.])(?:
            (?:(?P<hours>\d++):)?(?P<minutes>\d++):(?P<seconds>\d{{1,2}}(?!\d)(?:\.\d++)?+)      # 1:02:03.5  02:03.5
            (?:\s*(?:(?P<as_hours>{_UNITS["h"]})|{_UNITS["m"]}|{_UNITS["s"]}))?
          | (?<!['’"])(?P<prime>\d++)['’′](?P<double_prime>\d{{1,2}}(?!\d)(?:\.\d++)?+)["”″]?    # 1'05"
          | (?P<h>{_NUMBER})\s*{_UNITS["h"]}   # 1 h 2 min 3 s  1h30  1 h 30
            (?:{glue}(?P<h_m>{_NUMBER})\s*{_UNITS["m"]}|\s?(?P<h_bare>\d{{1,2}})(?!{_MORE}))?
            (?:{glue}(?P<h_s>{_NUMBER})\s*{_UNITS["s"]})?
          | (?P<m>{_NUMBER})\s*(?:{_UNITS["m"]}|′)   # 1 min 5 s  2m  2m30  2 min 30
            (?:{glue}(?P<m_s>{_NUMBER})\s*{_UNITS["s"]}|\s?(?P<m_bare>\d{{1,2}})(?!{_MORE}))?
          | (?P<ms>{_NUMBER})\s*(?:milliseconds?|msecs?|ms)(?![a-z])                             # 500 ms
          | (?P<plain>{_NUMBER})(?!(?:st|nd|rd|th)\b)(?:\s*(?P<unit>{_UNITS["s"]}|″))?           # 3.2 seconds  3.2
        )""",
        re.VERBOSE,
    )


# The parts of a time may be joined by a comma or "and", unless that is what parts two times.
_LOOSE, _TIGHT = _pattern(r"\s*(?:,\s*(?:and\s+)?|and\s+)?"), _pattern(r"\s*")
_WEIGHTS: dict[str, float] = {"hours": 3600, "minutes": 60, "seconds": 1, "prime": 60, "double_prime": 1}
_WEIGHTS |= {"h": 3600, "h_m": 60, "h_bare": 60, "h_s": 1, "m": 60, "m_s": 1, "m_bare": 1, "ms": 0.001, "plain": 1}


@dataclass(frozen=True)
class Time:
    """A time and where it stands.

    Args:
        start: of its characters in the text.
        end: one past the last of them.
        number: as written, in its largest unit.
        seconds: what it says.
        unit: seconds of its unit if it is one number with one, 0 for a number without, else None.
    """

    start: int
    end: int
    number: float
    seconds: float
    unit: float | None


def find_times(text: str) -> Iterator[Time]:
    """Times of a text in small letters, in order; decimals have a point. Signs are not read."""
    position = 0
    while found := _LOOSE.search(text, position):
        if _parts_two_times(text, found):
            found = _TIGHT.match(text, found.start()) or found
        position = found.end()
        time = _time(found)
        if math.isfinite(time.seconds):
            yield time


def _parts_two_times(text: str, found: re.Match[str]) -> bool:
    """Whether the comma or "and" in a time stands between two: "between 1 min and 5 s", "[1 min, 5 s]"."""
    if found["h_s"] is None and found["h_m"] is None and found["m_s"] is None:
        return False
    before = text[max(0, found.start() - 40) : found.start()]
    after = text[found.end() : found.end() + 8].lstrip("\"' ")
    if "," in found[0] and before.rstrip("\"' ")[-1:] in ("[", "(") and after[:1] in ("]", ")"):
        return True
    smaller = [float(found[name]) for name in ("h_m", "h_s", "m_s") if found[name]]
    if re.search(r",|and", found[0]) and max(smaller) >= 60:
        return True
    return "and" in found[0] and _BETWEEN.search(before) is not None and not _AND.match(text, found.end())


def _time(found: re.Match[str]) -> Time:
    parts = {name: float(value) for name, value in found.groupdict().items() if value and name in _WEIGHTS}
    seconds = sum(_WEIGHTS[name] * value for name, value in parts.items())
    if found["as_hours"] and "hours" not in parts:  # 1:30 hours
        seconds *= 60
    unit: float | None = None
    if len(parts) == 1:
        name = next(iter(parts))
        unit = 0 if name == "plain" and found["unit"] is None else _WEIGHTS[name]
    return Time(found.start(), found.end(), next(iter(parts.values())), seconds, unit)
