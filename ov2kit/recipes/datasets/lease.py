"""Who is at work in a store: a run holds a lease there, and renews it for as long as it lives.

    state/lease-000001.json   of the run that came first, state/lease-000002.json of the one after it, ...

A run creates the lease behind the last one, when that was given back or has not been renewed for as long as one holds.
Only one run can create it, where the store has a conditional put; where it has none, the first renewal sees it. Each
machine measures with its own clock: those of two machines are never compared.
"""

import contextlib
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from typing import Any

from ov2kit.errors import OutputError
from ov2kit.recipes.datasets.storage import RemoteStorage

#: for which a lease holds after it was renewed
SECONDS = 60.0
_RENEWALS = 4  # in that time
_NAME = re.compile(r"lease-(\d+)\.json")
_log = logging.getLogger("ov2kit")


def is_lease(name: str) -> bool:
    """Whether a file in state/ is one."""
    return _NAME.fullmatch(name) is not None


class Lease:
    """The right of one run to change what lies in a store.

    Args:
        storage: the store.
        lock: names a lock that the run holds for as long as it lives. A lease of the same lock is one of a run that
            has ended, so nobody waits for it.
    """

    def __init__(self, storage: RemoteStorage, lock: str) -> None:
        self.storage = storage
        self.facts = {"run": uuid.uuid4().hex, "lock": lock, "host": socket.gethostname(), "process": os.getpid()}
        self._number, self._renewals, self._until, self._lost = 0, 0, 0.0, ""
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def take(self) -> None:
        """Begin to hold it.

        Raises:
            OutputError: another run is at work there, or the store cannot be read or written.
        """
        first = number, found = self._newest()
        begin = time.monotonic()
        if not self._is_over(found):
            _log.warning(
                "%s: waits up to %g s to see whether the run of %s is still at work", self._root, SECONDS, _who(found)
            )
        while not self._is_over(found) and time.monotonic() < begin + SECONDS:
            time.sleep(SECONDS / _RENEWALS / 4)
            number, found = self._newest()
            if (number, found) != first and not self._is_over(found):
                raise self._refused(found)
        self._number, self._until = number + 1, time.monotonic() + SECONDS
        if not self.storage.create(self._name(self._number), self._content()):
            raise self._refused(self._newest()[1])
        if number:
            self.storage.remove(self._name(number))
        self._keeper.start()

    def check(self) -> None:
        """Whether it is still held.

        Raises:
            OutputError: it is not.
        """
        if not self._lost and time.monotonic() > self._until:
            self._lost = f"could not be renewed for {SECONDS:g} s"
        if self._lost:
            raise OutputError(f"{self._root}: this run ends: its lease {self._lost}; what is finished is kept")

    def end(self) -> None:
        """Give it back; where that is not possible it ends by itself."""
        self._ended.set()
        self._keeper.join(SECONDS)
        with contextlib.suppress(OutputError, OSError):
            self.check()
            self._renew(ended=True)

    @property
    def _root(self) -> str:
        return self.storage.root

    def _is_over(self, found: dict[str, Any]) -> bool:
        return not found or found.get("ended") is True or found.get("lock") == self.facts["lock"]

    def _keep(self) -> None:
        while not self._lost and not self._ended.wait(SECONDS / _RENEWALS):
            begin = time.monotonic()
            with contextlib.suppress(OutputError, OSError):  # the next one may do; `check` knows how long none did
                self._renew()
                self._until = begin + SECONDS

    def _renew(self, *, ended: bool = False) -> None:
        number, found = self._newest()
        if found and (number != self._number or found.get("run") != self.facts["run"]):
            self._lost = f"is now that of {_who(found)}"
        elif ended or not self._ended.is_set():
            self._renewals += 1
            with self.storage.write(self._name(self._number)) as file:
                file.write(self._content(ended=ended))

    def _newest(self) -> tuple[int, dict[str, Any]]:
        """Number and content of the last lease; 0 and nothing where there is none."""
        try:
            numbers = [int(match[1]) for name in self.storage.names("state") if (match := _NAME.fullmatch(name))]
            number = max(numbers, default=0)
            found = json.loads(self.storage.read(self._name(number))) if number else {}
        except (OSError, ValueError) as error:
            raise OutputError(f"{self._root}: cannot be read ({error}); run the command again") from error
        return number, found

    def _name(self, number: int) -> str:
        return f"state/lease-{number:06d}.json"

    def _content(self, *, ended: bool = False) -> bytes:
        return json.dumps({**self.facts, "renewals": self._renewals, "ended": ended}).encode()

    def _refused(self, found: dict[str, Any]) -> OutputError:
        return OutputError(
            f"{self._root}: another run is at work there, {_who(found)}; wait for it, or choose another place"
        )


def _who(found: dict[str, Any]) -> str:
    return f"process {found.get('process', '?')} of {found.get('host', 'another machine')}"
