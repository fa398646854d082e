"""JSON objects in the text of an answer: fenced or not, in a list or not, cut off or not."""

import json
from collections.abc import Iterator
from typing import Any

_DECODER = json.JSONDecoder()


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Every complete JSON object that is not inside another one, in order."""
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        if isinstance(value, dict):
            yield value
        at = text.find("{", end)


def numbers(value: object, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers of a JSON list; None for anything else."""
    if not isinstance(value, list) or len(value) != count:
        return None
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) < 1e12 for x in value):
        return None
    return tuple(float(x) for x in value)
