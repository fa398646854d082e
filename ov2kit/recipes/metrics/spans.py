"""Time spans out of free text: "from 3.2 to 5.8 seconds", "0:03 - 0:06", [[3.2, 5.8], [10, 12]], ..."""

import re

from ov2kit.errors import check_type
from ov2kit.recipes.metrics.clock_times import Time, find_times
from ov2kit.recipes.metrics.commas import settle_commas

Span = tuple[float, float]

_ABOUT = r"(?:(?:about|around|approximately|roughly|at|the|~)\s*)*"
_TO = re.compile(rf"\s*(?:[-‐‑‒–—―−~〜→]|to|up\s+to|until|till|through)\s*{_ABOUT}")
_ARROW = re.compile(r"[-–—=]+>")
_MARKS = re.compile(r"[\"'`*<>”″]")
_AND = re.compile(rf"\s*and\s*{_ABOUT}")
_COMMA = re.compile(r"[\"']?\s*[,;]\s*[\"']?")
_END = re.compile(
    rf"""[\s"',;.]*(?:and\s+)?(?:it\s+)?(?:ends?|ending|finish(?:es)?|stops?)(?:[\s_-]*time)?["']?\s*[:=]?\s*["']?
    (?:is\s*)?{_ABOUT}""",
    re.VERBOSE,
)


def parse_spans(text: str) -> list[Span]:
    """Spans in seconds, in the order of the text, each with its start first.

    Two neighboring times are a span when something says so: "A to B", "A - B", "A --> B", "between A
    and B", a pair in brackets, "start: A, end: B". If nothing in the text does, its times are paired
    two by two; one time alone is no span. Signs are lost, for a dash stands between times.

    A first number without a unit has that of the second: "1 to 2 minutes", but "50 to 2 minutes" begins
    at 50 seconds.

    Args:
        text: times as seconds ("3.2", ".5", "3.2 s", "500 ms"), "mm:ss", "hh:mm:ss", "1'05\"", "1 min 5 s",
            "1 hour, 5 minutes and 3 seconds" or "1h30", with a point or a comma before decimals
            (`commas.settle_commas` decides which commas are).
    """
    text = _ARROW.sub("→", settle_commas(check_type("text", text, str, "a text").lower()))
    times = list(find_times(text))
    spans, k = [], 0
    while k + 1 < len(times):
        if _joined(text, times[k], times[k + 1]):
            spans.append((times[k], times[k + 1]))
            k += 1
        k += 1
    if not spans:
        spans = list(zip(times[::2], times[1::2], strict=False))
    return [ordered(_with_unit(text, first, second), second.seconds) for first, second in spans]


def ordered(a: float, b: float) -> Span:
    """A span with its start first."""
    return (a, b) if a <= b else (b, a)


def _with_unit(text: str, first: Time, second: Time) -> float:
    """Seconds of the first time of a span."""
    between = text[first.end : second.start]
    is_shared = first.unit == 0 and second.unit is not None and second.unit > 1 and first.number <= second.number
    if is_shared and (_TO.fullmatch(between) or _AND.fullmatch(between)):
        return first.number * float(second.unit or 1)
    return first.seconds


def _joined(text: str, first: Time, second: Time) -> bool:
    between = text[first.end : second.start]
    unmarked = _MARKS.sub("", between)
    if _TO.fullmatch(unmarked) or _END.fullmatch(between):
        return True
    before = text[max(0, first.start - 40) : first.start]
    if _AND.fullmatch(unmarked):
        return re.search(rf"\bbetween\s*{_ABOUT}$", _MARKS.sub("", before)) is not None
    after = text[second.end : second.end + 8].lstrip("\"' ")
    return (
        _COMMA.fullmatch(between) is not None
        and before.rstrip("\"' ")[-1:] in ("[", "(")
        and after[:1] in ("]", ")")
    )  # fmt: skip
