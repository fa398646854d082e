"""Files of records: where each record lies, and reading any of them without holding the others.

JSONL has one object per line; a JSON file is one list of objects. Both are kept as byte ranges, so
that a file of any size costs 24 bytes per record, and reading is safe from threads and processes.
"""

import json
import mmap
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ov2kit.errors import DataError, check_number
from ov2kit.files import check_file
from ov2kit.recipes.data.faults import BadRecord

_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
#: of one record: two thousand pages of text
MAX_RECORD_BYTES = 2**23
_UTF8_BOM = b"\xef\xbb\xbf"
# Strings as a whole, so that brackets and commas in them do not count. Possessive: no backtracking.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)


class RecordFile:
    """Records of one JSON or JSONL file, read by number.

    Args:
        path: UTF-8, with or without a byte order mark. A file that begins with "[" is a list.
        max_record_bytes: a longer record is bad, and is not even read.

    Raises:
        DataError: no such file, a pipe or a folder, another encoding, or a list that never ends.
    """

    def __init__(self, path: str | os.PathLike[str], max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        check_number("max_record_bytes", max_record_bytes, low=1, integer=True)
        self.path, self.max_record_bytes = Path(path), max_record_bytes
        try:
            with check_file(self.path, "a JSON or JSONL file of conversations").open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                ranges = list(self._ranges(file, size))
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror}); check the path") from error
        table = np.array(ranges, dtype=np.int64).reshape(-1, 3)
        self.starts, self.lengths, self.lines = (np.ascontiguousarray(table[:, i]) for i in range(3))
        self._local = threading.local()

    def __len__(self) -> int:
        return len(self.starts)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_local"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._local = threading.local()

    def place(self, number: int) -> str:
        """ "file:line" of a record; lines count from 1. Of several on one line, "file:line#1" and so on."""
        return f"{self.path}:{self.line(number)}"

    def line(self, number: int) -> str:
        """The line of a record, different for each: "7", or "7#1" and so on of several on one line."""
        line = self.lines[number]
        first, end = (int(np.searchsorted(self.lines, line, side)) for side in ("left", "right"))
        return f"{line}" if end - first == 1 else f"{line}#{number - first + 1}"

    def read(self, number: int) -> Any:
        """The record, parsed.

        Raises:
            BadRecord: it is too long, not UTF-8 or not JSON.
        """
        start, length = int(self.starts[number]), int(self.lengths[number])
        if length > self.max_record_bytes:
            raise BadRecord(f"{length} bytes are more than max_record_bytes={self.max_record_bytes}")
        try:
            raw = os.pread(self._handle(), length, start)
        except OSError as error:
            raise BadRecord(f"the file cannot be read ({error.strerror})") from error
        if len(raw) < length:
            raise BadRecord("the file is shorter than when it was opened")
        try:
            return json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadRecord(f"not UTF-8 at byte {error.start} of the record") from error
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
            raise BadRecord(f"not JSON ({reason})") from error

    def _handle(self) -> int:
        """A file handle of this thread in this process: `pread` shares no position, forks share no handle."""
        if getattr(self._local, "process", None) != os.getpid():
            self._local.file = self.path.open("rb")
            self._local.process = os.getpid()
        handle: int = self._local.file.fileno()
        return handle

    def _ranges(self, file: Any, size: int) -> Iterator[tuple[int, int, int]]:
        """(first byte, bytes, line) of each record."""
        head = file.read(4096)
        for mark, encoding in _BOMS.items():
            if head.startswith(mark):
                raise DataError(f"{self.path}: expected UTF-8, got {encoding}; convert it")
        start = len(_UTF8_BOM) if head.startswith(_UTF8_BOM) else 0
        if start >= size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            is_list = head[start:].lstrip().startswith(b"[")
            yield from self._list_ranges(data) if is_list else self._line_ranges(data, start)

    def _line_ranges(self, data: mmap.mmap, at: int) -> Iterator[tuple[int, int, int]]:
        line = 0
        while at < len(data):
            line += 1
            end = data.find(b"\n", at)
            end = len(data) if end < 0 else end
            if end - at > self.max_record_bytes:  # as it is, without a copy to strip
                yield at, end - at, line
            else:
                raw = data[at:end]
                if text := raw.strip():
                    yield at + raw.index(text[:1]), len(text), line
            at = end + 1

    def _list_ranges(self, data: mmap.mmap) -> Iterator[tuple[int, int, int]]:
        depth, element, line, counted = 0, 0, 1, 0
        for token in _STRUCTURE.finditer(data):
            sign = token.group() if token.end() - token.start() == 1 else b""
            if sign in (b"[", b"{"):
                depth += 1
                if depth == 1:
                    element = token.end()
            ends = (sign == b"," and depth == 1) or (sign == b"]" and depth == 1)
            if ends:
                length = token.start() - element
                # Of what is too long only the start is looked at.
                raw = data[element : min(token.start(), element + self.max_record_bytes)]
                text = raw.strip()
                if text or sign == b",":
                    first = element + (raw.index(text[:1]) if text else 0)
                    line += _newlines(data, counted, first)
                    counted = first
                    yield first, len(text) if len(raw) == length else length, line
                element = token.end()
            if sign in (b"]", b"}"):
                depth -= 1
                if depth == 0:
                    if rest := data[token.end() : token.end() + 4096].strip():
                        raise DataError(f"{self.path}: expected the end after the list, got {rest[:20]!r}")
                    return
        line += _newlines(data, counted, len(data))
        raise DataError(f"{self.path}: the list is not closed (line {line}); the file is cut short or not JSON")


def _newlines(data: mmap.mmap, start: int, end: int, piece: int = 2**20) -> int:
    return sum(data[at : min(at + piece, end)].count(b"\n") for at in range(start, end, piece))
