"""Start times out of free text: what a model said, and what the annotation holds.

Source: the JumpScore task of lmms-eval (commit 75571cf), by its inputs and outputs. Its habits are
kept where they surprise: a count in prose ("3 jumps") is a time, a sign outside a list is lost, and
"1.5 sec" in quotes is no number because only the letter s is taken out of it.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from ov2kit.errors import check_type
from ov2kit.recipes.metrics.plain import plain

# A number that ends in "s" at a word end. Possessive, so that a page of digits stays linear.
_WITH_UNIT = re.compile(r"(?<!\d)(\d++(?:\.\d++)?+)\s*+s\b")
_BARE = re.compile(r"\b\d+(?:\.\d+)?\b")
_OPENING = re.compile(r"(?P<fence>```json\s*+)?+\[")
_CLOSING = re.compile(r"\]\s*+```")
_TRAILING_COMMA = re.compile(r",\s*\]$")


def parse_times(text: str) -> list[float]:
    """Times in seconds of a prediction, in the order of the text.

    Numbers with an ``s`` win over everything else; then the longest bracketed stretch (the first
    of equals), read as JSON or else as the bare numbers in it; then all bare numbers. Times that
    are not finite are left out.
    """
    text = check_type("text", text, str, "a text").lower()
    if found := [float(number) for number in _WITH_UNIT.findall(text)]:
        return _finite(found)
    if stretches := _bracketed(text):
        stretch = max(stretches, key=len)
        items = _json_list(_TRAILING_COMMA.sub("]", stretch))
        found = _bare_numbers(stretch) if items is None else _times(items)
    return found or _bare_numbers(text)


def parse_starts(text: str) -> list[float]:
    """Times in seconds of a prediction, in increasing order."""
    return sorted(parse_times(text))


def parse_answer(answer: str | Sequence[float]) -> list[float]:
    """Times in seconds of an annotation, in increasing order.

    Args:
        answer: text whose first bracketed stretch is a JSON list, in the letters of JSON and
            without a trailing comma; or seconds as they are, also as an array or a tensor.

    Returns:
        Empty when there is no such list, or when it cannot be read. Times that are not finite are
        left out.
    """
    return sorted(_times(_answer_items(answer) or []))


def is_explicit_empty(answer: str | Sequence[float]) -> bool:
    """True for an annotation that says "nothing happens": an empty list, not a missing one."""
    items = _answer_items(answer)
    return items is not None and len(items) == 0


def _answer_items(answer: str | Sequence[float]) -> list[Any] | None:
    if not isinstance(answer, str):
        return list(plain(answer))
    stretches = _bracketed(answer)
    return _json_list(stretches[0]) if stretches else None


def _bracketed(text: str) -> list[str]:
    """Stretches from a ``[`` to the next ``]``; nested ones are not separated.

    But where the ``[`` is the first thing in a block fenced as ``json``, up to the last ``]`` before the
    fence that closes the block, with all that is nested.
    """
    stretches, position, is_closed = [], 0, True
    while opening := _OPENING.search(text, position):
        start = opening.end() - 1
        closing = _CLOSING.search(text, start) if opening["fence"] and is_closed else None
        if opening["fence"] and closing is None:
            is_closed = False  # nor will a later block be: do not look again
        end = closing.start() if closing else text.find("]", start)
        if end < 0:
            break
        stretches.append(text[start : end + 1])
        position = closing.end() if closing else end + 1
    return stretches


def _json_list(stretch: str) -> list[Any] | None:
    try:
        items = json.loads(stretch)
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, list) else None


def _times(items: Sequence[Any]) -> list[float]:
    """Numbers of a list; ``true`` is 1, text counts if it is a number once every s is gone, all else is passed over."""
    found = []
    for item in items:
        if isinstance(item, int | float | str):
            try:
                found.append(float(item.replace("s", "") if isinstance(item, str) else item))
            except (ValueError, OverflowError):
                continue
    return _finite(found)


def _bare_numbers(text: str) -> list[float]:
    return _finite([float(number) for number in _BARE.findall(text)])


def _finite(numbers: Sequence[float]) -> list[float]:
    return [number for number in numbers if math.isfinite(number)]
