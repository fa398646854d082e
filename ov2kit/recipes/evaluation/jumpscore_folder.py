"""Read a folder of questions about videos whose answers are start times.

The format is in docs/evaluating.md: `annotations.json` or `.jsonl`, or `<split>.json[l]`, and videos
beside it or in `videos/`.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeGuard

from ov2kit.errors import DataError, shorten
from ov2kit.files import check_folder, is_safe_name
from ov2kit.recipes.inputs.nulls import is_null

_SUFFIXES = (".json", ".jsonl")


@dataclass(frozen=True)
class Question:
    """One question.

    Args:
        id: unique in its folder.
        video: as the annotation names it.
        path: the file or directory, None if it is not there.
        question: text for the model.
        answer: text with a JSON list of seconds, or the seconds.
        confidence: one number per predicted time, if the annotation gives some.
    """

    id: str
    video: str
    path: Path | None
    question: str
    answer: str | list[float]
    confidence: list[float] | None = None


@dataclass(frozen=True)
class JumpScoreFolder:
    """What was read: questions, what was wrong with the other rows, and the file's SHA-256."""

    annotations: Path
    digest: str
    items: tuple[Question, ...]
    bad_rows: tuple[str, ...]


def read_jumpscore_folder(folder: str | os.PathLike[str], split: str | None = None) -> JumpScoreFolder:
    """Read annotations and find their videos.

    Args:
        folder: with the annotation file.
        split: name of that file without its suffix; "annotations" when omitted.

    Raises:
        DataError: there is no such file, it is no JSON, or no row of it can be used.
    """
    root = Path(folder)
    path = _annotations(root, split)
    data = path.read_bytes()
    items: dict[str, Question] = {}
    bad = []
    for number, row in _rows(path, data):
        try:
            item = _item(root, row, number)
            if item.id in items:
                raise ValueError(f"id {item.id!r} stands in an earlier row too")
            items[item.id] = item
        except ValueError as error:
            bad.append(f"{path.name}, row {number}: {error}")
    if not items:
        raise DataError(f"{path}: no row can be used" + (f"; the first: {bad[0]}" if bad else "; the list is empty"))
    return JumpScoreFolder(path, hashlib.sha256(data).hexdigest(), tuple(items.values()), tuple(bad))


def _annotations(root: Path, split: str | None) -> Path:
    check_folder(root, "a folder with annotations.json or annotations.jsonl")
    name = split or "annotations"
    if not is_safe_name(name):
        raise DataError(f"split must be the name of a file in {root} without its suffix, got {shorten(name)}")
    found = [root / (name + suffix) for suffix in _SUFFIXES if (root / (name + suffix)).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{root}: both {found[0].name} and {found[1].name} are there; keep one")
    others = sorted({path.stem for path in root.iterdir() if path.suffix in _SUFFIXES})
    hint = f"; pass split as one of {others}" if others else ""
    raise DataError(f"{root}: found neither {name}.json nor {name}.jsonl{hint}")


def _rows(path: Path, data: bytes) -> Iterator[tuple[int, Any]]:
    """(number from 1, row); a line that is no JSON comes as the error."""
    try:
        text = data.decode("utf-8-sig")
        if path.suffix == ".json":
            rows = json.loads(text)
            if not isinstance(rows, list):
                raise DataError(f"{path}: expected a list of rows, got {type(rows).__name__}")
            yield from enumerate(rows, start=1)
            return
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, ValueError(f"not JSON ({error})")


def _item(root: Path, row: Any, number: int) -> Question:
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, got {type(row).__name__}")
    row = {key: value for key, value in row.items() if not is_null(value)}
    for name in ("video", "question"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ValueError(f"{name!r} must be text, got {row.get(name)!r:.60}")
    answer, confidence = row.get("answer"), row.get("confidence")
    if not isinstance(answer, str) and not _is_numbers(answer):
        raise ValueError(f"'answer' must be text or a list of seconds, got {answer!r:.60}")
    if confidence is not None and not _is_numbers(confidence):
        raise ValueError(f"'confidence' must be a list of numbers, got {confidence!r:.60}")
    name = row.get("id", f"row-{number}")
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError(f"'id' must be text or a whole number, got {name!r:.60}")
    return Question(str(name), row["video"], _find(root, row["video"]), row["question"], answer, confidence)


def _is_numbers(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number) for number in value
    )


def _find(root: Path, video: str) -> Path | None:
    pure = PurePosixPath(video)
    if pure.is_absolute() or PureWindowsPath(video).drive or ".." in pure.parts or "\0" in video:
        raise ValueError(f"'video' must be a path inside the folder, got {video!r}")
    return next((path for path in (root / pure, root / "videos" / pure) if path.exists()), None)
