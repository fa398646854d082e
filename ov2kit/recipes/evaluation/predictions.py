"""Files of predictions: one JSON object a line, written as answers come, read back after any end.

A run may be killed at any byte: a line counts once its newline is there.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ov2kit.errors import DataError, OutputError
from ov2kit.files import append_to, check_file, check_format, format_name, kind_of, write_text

Line = dict[str, Any]
PREDICTIONS, SETTINGS = "predictions.jsonl", "settings.json"
_KIND, _VERSION = "evaluation", 1  # of a folder: its settings say it for the predictions beside them
#: what a file should have been
EXPECTED = "expected predictions as 'ov2kit evaluate' writes them, one JSON object a line"
_START = b'{"id": '  # of every line that `PredictionLog` writes


def read_lines(path: Path) -> list[Line]:
    """All whole lines of a file; what follows the last newline was never finished.

    Raises:
        DataError: a whole line is not an object with an "id", no line of a file that is not empty is whole, or the
            settings beside it are of a newer format.
    """
    check_file(path, "a file of predictions")
    settings = path.with_name(SETTINGS)
    if kind_of(settings) == "file" and b'"ov2kit.' in settings.read_bytes():  # others may have settings of their own
        _read_settings(settings)
    lines: list[Line] = []
    faults: list[str] = []
    *whole, rest = path.read_bytes().split(b"\n")
    for number, text in enumerate(whole, start=1):
        if not text.strip():
            continue
        try:
            lines.append(_line(text))
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    if not lines and (faults or not rest.startswith(_START[: len(rest)])):
        found = f"; {faults[0]}" if faults else ""
        raise DataError(f"{path}: {EXPECTED}, got something else{found}; name another file")
    if faults:
        raise DataError(f"{path}, {faults[0]}; remove the line to answer it again")
    return lines


def _line(text: bytes) -> Line:
    """The object in a line. Raises ValueError when it is none, or has no id."""
    try:
        line = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(line, dict) or not isinstance(line.get("id"), str):
        raise ValueError(f'expected an object with an "id" of text, got {line!r:.60}')
    return line


def by_id(lines: Iterable[Line]) -> dict[str, Line]:
    """The line that counts for each id: an answer before an error, then the later one."""
    chosen: dict[str, Line] = {}
    for line in lines:
        before = chosen.get(line["id"])
        if before is None or before.get("error") is not None or line.get("error") is None:
            chosen[line["id"]] = line
    return chosen


def read_folder(out: Path) -> dict[str, Line]:
    """What all processes and earlier runs have answered so far."""
    return by_id(line for path in sorted(out.glob("predictions*.jsonl")) for line in read_lines(path))


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Write a file of lines at once."""
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines), sync=True)


def claim_settings(out: Path, settings: Mapping[str, Any]) -> None:
    """Note how the predictions of a folder are made, or check that they were made so before.

    Raises:
        DataError: they were made with other settings, or nobody noted with which.
    """
    path = out / SETTINGS
    wanted = json.loads(json.dumps(settings))
    if "format" in wanted:
        raise DataError('settings must not have a "format": it is that of the folder; choose another name')
    written = {"format": format_name(_KIND, _VERSION), **wanted}
    if not path.exists():
        predictions = any(out.glob("predictions*.jsonl"))
        if not predictions:
            write_text(path, json.dumps(written, indent=2) + "\n")
        elif not path.exists():  # looked for again: another process of this run may just have begun
            raise DataError(f"{out}: holds predictions without {SETTINGS}; use another folder, or overwrite")
    noted = _read_settings(path)
    differ = [name for name in sorted({*noted, *wanted}) if noted.get(name) != wanted.get(name)]
    if differ:
        facts = ", ".join(f"{name} {noted.get(name)!r:.60} (now {wanted.get(name)!r:.60})" for name in differ)
        raise DataError(f"{out}: its predictions were made with {facts}; use another folder, or overwrite")


def _read_settings(path: Path) -> dict[str, Any]:
    """The settings in a file, of any format that is known."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); use another folder, or overwrite") from error
    if not isinstance(noted, dict):
        raise DataError(f"{path}: expected an object, got {type(noted).__name__}")
    check_format(noted.pop("format", None), _KIND, _VERSION, path)
    return noted


class PredictionLog:
    """A predictions file to add to, held by one process at a time.

    Args:
        path: created if missing. Of what is there, only a last line that a run began and never ended is cut off.

    Raises:
        DataError: another process is adding to it, or its end was not written by `add`.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists():
            check_file(path, "a file of predictions")
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
        try:
            self._lock()
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if not data[whole:].startswith(_START[: len(data) - whole]):
                raise DataError(f"{path}: does not end in a line of predictions; nothing was changed, use another file")
            self._file.truncate(whole)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            import fcntl
        except ModuleNotFoundError:  # not on this system: two runs at once are then the user's to avoid
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"{self._path}: another run is writing it; wait, or use another folder") from error

    def add(self, line: Line) -> None:
        """Add one line; when this returns, it is on the disk.

        Raises:
            OutputError: it cannot be written; the lines before it are as they were.
        """
        with append_to(self._path) as file:
            file.write(json.dumps({"id": line["id"], **line}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def __enter__(self) -> "PredictionLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
