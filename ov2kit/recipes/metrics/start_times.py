"""Start times out of free text: what a model said, and what the annotation holds.

Source: the JumpScore task of lmms-eval (commit 75571cf), by its inputs and outputs. Its habits are
kept where they surprise: a count in prose ("3 jumps") is a time, a sign outside a list is lost.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

# A number that ends in "s" at a word end. Possessive, so that a page of digits stays linear.
_WITH_UNIT = re.compile(r"(?<!\d)(\d++(?:\.\d++)?+)\s*+s\b")
_BARE = re.compile(r"\b\d+(?:\.\d+)?\b")
_ITEM = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(?:s|sec|secs|second|seconds)?\s*")
_TRAILING_COMMA = re.compile(r",\s*\]$")


def parse_times(text: str) -> list[float]:
    """Times in seconds of a prediction, in the order of the text.

    Numbers with an ``s`` win over everything else; then the longest bracketed stretch (the first
    of equals), read as JSON or else as the bare numbers in it; then all bare numbers.
    """
    text = text.lower()
    if found := [float(number) for number in _WITH_UNIT.findall(text)]:
        return _finite(found)
    if stretches := _bracketed(text):
        stretch = max(stretches, key=len)
        items = _json_list(stretch)
        found = _bare_numbers(stretch) if items is None else _times(items)
    return found or _bare_numbers(text)


def parse_starts(text: str) -> list[float]:
    """Times in seconds of a prediction, in increasing order."""
    return sorted(parse_times(text))


def parse_answer(answer: str | Sequence[float]) -> list[float]:
    """Times in seconds of an annotation, in increasing order.

    Args:
        answer: text whose first bracketed stretch is a JSON list, or seconds as they are.

    Returns:
        Empty when there is no such list, or when it cannot be read.
    """
    return sorted(_times(_answer_items(answer) or []))


def is_explicit_empty(answer: str | Sequence[float]) -> bool:
    """True for an annotation that says "nothing happens": an empty list, not a missing one."""
    items = _answer_items(answer)
    return items is not None and len(items) == 0


def _answer_items(answer: str | Sequence[float]) -> list[Any] | None:
    if not isinstance(answer, str):
        return list(answer)
    stretches = _bracketed(answer.lower())
    return _json_list(stretches[0]) if stretches else None


def _bracketed(text: str) -> list[str]:
    """Stretches from a ``[`` to the next ``]``; what is nested is not told apart."""
    stretches, position = [], 0
    while (start := text.find("[", position)) >= 0 and (end := text.find("]", start)) >= 0:
        stretches.append(text[start : end + 1])
        position = end + 1
    return stretches


def _json_list(stretch: str) -> list[Any] | None:
    try:
        items = json.loads(_TRAILING_COMMA.sub("]", stretch))
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, list) else None


def _times(items: Sequence[Any]) -> list[float]:
    """Numbers of a list; ``true`` is 1, text counts when it is a number, all else is passed over."""
    found = []
    for item in items:
        if isinstance(item, int | float):
            try:
                found.append(float(item))
            except OverflowError:
                continue
        elif isinstance(item, str) and (match := _ITEM.fullmatch(item)):
            found.append(float(match[1]))
    return _finite(found)


def _bare_numbers(text: str) -> list[float]:
    return _finite([float(number) for number in _BARE.findall(text)])


def _finite(numbers: Sequence[float]) -> list[float]:
    return [number for number in numbers if math.isfinite(number)]
