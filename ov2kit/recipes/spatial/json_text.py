"""JSON objects in the text of an answer: fenced or not, in a list or not, cut off or not, or as Python writes them."""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

_DECODER = json.JSONDecoder()
_FLAT = re.compile(r"\{[^{}]*\}")


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """Every complete object that is not inside another one, in order: JSON, or flat and in single quotes."""
    at = text.find("{")
    while at >= 0:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except RecursionError:  # nothing that deep is an answer, and each of its braces would be tried
            return
        except ValueError:
            flat = _FLAT.match(text, at)
            value, end = (read_object(flat[0]), flat.end()) if flat else (None, at + 1)
        if isinstance(value, dict):
            yield value
        at = text.find("{", end)


def read_object(text: str) -> dict[Any, Any] | None:
    """An object as JSON or as Python writes it; None for anything else. Nothing of it is run."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def label_of(entry: dict[str, Any]) -> str:
    """The label of an object, "" where it has none."""
    label = entry.get("label")
    return "" if label is None else str(label)


def each_list(value: object) -> list[Any]:
    """The lists of a list of lists; anything else alone."""
    return value if isinstance(value, list) and value and all(isinstance(one, list) for one in value) else [value]


def numbers(value: object, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers of a list; None for anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != count:
        return None
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) < 1e12 for x in value):
        return None
    return tuple(float(x) for x in value)
