"""Time spans out of free text: "from 3.2 to 5.8 seconds", "0:03 - 0:06", [[3.2, 5.8], [10, 12]], ..."""

import math
import re

Span = tuple[float, float]

_TIME = re.compile(
    r"""(?<![\w.])(?:
        (?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d{1,2}(?:\.\d+)?)                # 1:02:03.5  02:03.5
      | (?P<long_minutes>\d+)\s*m(?:in(?:ute)?s?)?(?![a-z])
        (?:\s*(?P<rest>\d+(?:\.\d+)?)\s*s(?:ec(?:ond)?s?)?(?![a-z]))?                      # 1 min 5 s   2m
      | (?P<plain>\d+(?:\.\d+)?)(?:\s*s(?:ec(?:ond)?s?)?\b)?                               # 3.2 seconds  3.2
    )""",
    re.VERBOSE,
)
_ABOUT = r"(?:(?:about|around|approximately|roughly|at|the|~)\s*)*"
_TO = re.compile(rf"\s*(?:-|–|—|~|→|->|to|until|till|through)\s*{_ABOUT}")
_AND = re.compile(rf"\s*and\s*{_ABOUT}")
_COMMA = re.compile(r"[\"']?\s*[,;]\s*[\"']?")
_END = re.compile(
    rf"""[\s"',;.]*(?:and\s+)?(?:it\s+)?(?:ends?|ending|finish(?:es)?|stops?)(?:[\s_-]*time)?["']?\s*[:=]?\s*["']?
    (?:is\s*)?{_ABOUT}""",
    re.VERBOSE,
)


def parse_spans(text: str) -> list[Span]:
    """Spans in seconds, in the order of the text, each with its start first.

    Two neighbouring times are a span when something says so: "A to B", "A - B", "between A and B",
    a pair in brackets, "start: A, end: B". If nothing in the text does, its times are paired two
    by two; one time alone is no span. Signs are lost, for a dash stands between times.

    Args:
        text: times as seconds ("3.2", "3.2 s"), "mm:ss", "hh:mm:ss", or "1 min 5 s".
    """
    text = text.lower()
    times = [found for found in _TIME.finditer(text) if math.isfinite(_seconds(found))]
    spans, k = [], 0
    while k + 1 < len(times):
        if _joined(text, times[k], times[k + 1]):
            spans.append((times[k], times[k + 1]))
            k += 1
        k += 1
    if not spans:
        spans = list(zip(times[::2], times[1::2], strict=False))
    return [ordered(_seconds(first), _seconds(second)) for first, second in spans]


def ordered(a: float, b: float) -> Span:
    """A span with its start first."""
    return (a, b) if a <= b else (b, a)


def _seconds(found: re.Match[str]) -> float:
    part = {name: float(value or 0) for name, value in found.groupdict().items()}
    minutes = part["minutes"] + part["long_minutes"] + 60 * part["hours"]
    return 60 * minutes + part["seconds"] + part["rest"] + part["plain"]


def _joined(text: str, first: re.Match[str], second: re.Match[str]) -> bool:
    between = text[first.end() : second.start()]
    if _TO.fullmatch(between) or _END.fullmatch(between):
        return True
    before = text[max(0, first.start() - 40) : first.start()]
    if _AND.fullmatch(between):
        return re.search(rf"\bbetween\s*{_ABOUT}$", before) is not None
    after = text[second.end() : second.end() + 8].lstrip("\"' ")
    return (
        _COMMA.fullmatch(between) is not None
        and before.rstrip("\"' ")[-1:] in ("[", "(")
        and after[:1] in ("]", ")")
    )  # fmt: skip
