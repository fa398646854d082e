"""Records that could not be used: what they are, and how a run counts and reports them."""

import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ov2kit.errors import DataError, Ov2kitError
from ov2kit.files import append_to, kind_of
from ov2kit.recipes.inputs.json_lines import json_line

Action = Literal["skipped", "replaced", "truncated", "rebuilt"]
_BAD: tuple[Action, ...] = ("skipped", "replaced")
_SHOWN = 5
_ALL_BAD = 20  # so many bad records in a row from the start mean that something else is wrong
_log = logging.getLogger("ov2kit")


class BadRecord(Ov2kitError, ValueError):  # noqa: N818 - it is a record that is bad, not the program
    """One record cannot be used; the message says why."""


@dataclass(frozen=True)
class Fault:
    """One record that was not used as it stands.

    Args:
        place: "file:line" of the record.
        name: its id.
        reason: one line.
        action: "skipped", "replaced" (a batch had no other record, so that another one stands in),
            "truncated", or "rebuilt" (the record is used; what was kept of it on disk was damaged).
    """

    place: str
    name: str
    reason: str
    action: Action = "skipped"

    def __str__(self) -> str:
        known = "" if self.name == self.place else f" ({self.name})"
        return f"{self.place}{known}: {self.reason} [{self.action}]"


class FaultLog:
    """Counts faults once per record, writes them down, and stops a run that has too many.

    Args:
        total: records that the run has in all; bad ones included.
        max_bad_share: most bad records, as a share of `total`; above 0, a single one is always allowed.
            Truncated ones are not bad, nor are those with something rebuilt.
        path: JSONL file to append to, one object per fault; faults that it already holds are not
            written again. None: only the log.

    Raises:
        OutputError: `path` cannot be written.
    """

    def __init__(self, total: int, max_bad_share: float, path: str | os.PathLike[str] | None = None) -> None:
        if not 0 <= max_bad_share <= 1:
            raise ValueError(f"max_bad_share must be between 0 and 1, got {max_bad_share}")
        self.total, self.max_bad_share = total, max_bad_share
        self.path: Path | None = None
        self.faults: dict[tuple[str, str], Fault] = {}
        self._written: set[tuple[str, str]] = set()
        self._good = self._before = 0
        self.write_to(path)

    def write_to(self, path: str | os.PathLike[str] | None) -> None:
        """Append to this file from now on, what is known so far included.

        Raises:
            OutputError: it cannot be written.
        """
        if path is None or Path(path) == self.path:
            return
        self.path = Path(path)
        if kind_of(self.path) == "file":
            for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
                try:
                    known = json.loads(line)
                    self._written.add((known["place"], known["reason"]))
                except (ValueError, LookupError, TypeError):
                    continue  # a line cut short by a crash
        self._write(self.faults.values())

    @property
    def bad(self) -> int:
        """Records that were skipped or replaced."""
        return self._count("bad")

    def _count(self, kind: str) -> int:
        return sum(1 for _, found in self.faults if found == kind)

    def good(self, count: int = 1) -> None:
        """Say that records were read without a fault."""
        self._good += count

    def add(self, faults: Iterable[Fault], *, before_reading: bool = False) -> None:
        """Take in faults; those of a record that is known already change nothing.

        Args:
            faults: of records.
            before_reading: they were found while records were counted, which says nothing of those
                that are left.

        Raises:
            DataError: more than the share is bad, or everything so far.
        """
        new = []
        for fault in faults:
            key = (fault.place, "bad" if fault.action in _BAD else fault.action)
            if key not in self.faults:
                self.faults[key] = fault
                new.append(fault)
        if not new:
            return
        self._before += sum(fault.action in _BAD for fault in new) if before_reading else 0
        shown = len(self.faults) - len(new)
        for fault in new[: max(0, _SHOWN - shown)]:
            _log.warning(
                "%s", str(fault).encode("utf-8", "backslashreplace").decode()
            )  # not every log takes surrogates
        if shown < _SHOWN <= shown + len(new):
            _log.warning("further faults are counted%s", f" and written to {self.path}" if self.path else "")
        self._write(new)
        self.check()

    def check(self) -> None:
        """Stop where too much is bad.

        Raises:
            DataError: says how much, and shows the first faults.
        """
        bad = self.bad
        if not bad:
            return
        tried = bad - self._before
        hopeless = tried >= min(_ALL_BAD, max(1, self.total - self._before)) and self._good == 0
        is_few = bad <= max(self.max_bad_share * self.total, self.max_bad_share > 0)
        if is_few and not hopeless:
            return
        first = "; ".join(str(fault) for fault in list(self.faults.values())[:3])
        where = f"; all of them are in {self.path}" if self.path else ""
        if is_few:
            raise DataError(f"none of the first {tried} records could be used, for example {first}{where}")
        raise DataError(
            f"{bad} of {self.total} records cannot be used, more than max_bad_share={self.max_bad_share:g}: {first}"
            f"{where}; repair them or allow a larger share"
        )

    def summary(self) -> str:
        """One line for the end of a run."""
        rebuilt = f", {n} with damaged files in the cache" if (n := self._count("rebuilt")) else ""
        return f"{self.bad} of {self.total} records not used, {self._count('truncated')} truncated{rebuilt}"

    def _write(self, faults: Iterable[Fault]) -> None:
        if self.path is None:
            return
        lines = []
        for fault in faults:
            if (fault.place, fault.reason) not in self._written:
                self._written.add((fault.place, fault.reason))
                lines.append(json_line(asdict(fault)))
        if lines:
            with append_to(self.path) as file:
                file.write("".join(lines).encode())
