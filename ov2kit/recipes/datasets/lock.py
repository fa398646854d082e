"""One run at a time in one place, whichever processes and machines want to be there."""

import fcntl
import hashlib
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ov2kit.errors import OutputError
from ov2kit.recipes.datasets.lease import Lease, is_lease
from ov2kit.recipes.datasets.storage import RemoteStorage, Storage

_LOCK = "lock"


def is_of_locks(name: str) -> bool:
    """Whether a file in state/ belongs to whoever is at work, and to no dataset."""
    return name == _LOCK or is_lease(name)


@contextmanager
def locked(storage: Storage) -> Iterator[Callable[[], None]]:
    """Hold a place while the block runs; what comes is to be called before changes: it raises where the place is lost.

    Raises:
        OutputError: another run is at work there.
    """
    if isinstance(storage, RemoteStorage):
        name = f"ov2kit-{hashlib.sha256(storage.root.encode()).hexdigest()[:16]}.lock"
        with _lock(Path(tempfile.gettempdir(), name), storage.root) as lock:
            lease = Lease(storage, lock)
            lease.take()
            try:
                yield lease.check
            except Exception:
                lease.check()  # what was seen of a place that is lost says nothing
                raise
            finally:
                lease.end()
    else:
        with _lock(Path(storage.place(f"state/{_LOCK}")), storage.root):
            yield lambda: None


@contextmanager
def _lock(path: Path, root: str) -> Iterator[str]:
    """Lock a file of this machine; gives the name that it has as long as it lies there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"{root}: another run is at work there; wait for it, or choose another place") from error
        file.seek(0)
        name = file.read()
        if not name:
            name = uuid.uuid4().hex
            file.write(name)
            file.flush()
        yield name
