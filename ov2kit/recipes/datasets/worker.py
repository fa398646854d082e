"""A worker process: does one video after the other, and may die of any of them.

parent -> worker: an item, or None to end.
worker -> parent: ("ready",) once; ("digest", sha256), answered with whether to go on; then ("done", sha256) or
("failed", kind, reason, fatal): fatal where the worker ends with it.
"""

import contextlib
import errno
import signal
import tempfile
from multiprocessing.connection import Connection
from typing import Any

from ov2kit.errors import OutputError
from ov2kit.recipes.datasets.limits import LimitError
from ov2kit.recipes.datasets.parent import end_with_parent
from ov2kit.recipes.datasets.storage import Storage
from ov2kit.recipes.datasets.work import Recipe, do_item, failure_kind


def serve(connection: "Connection[Any, Any]", recipe: Recipe, pieces: Storage) -> None:
    """What a worker process runs until it is asked to end, or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group: the parent decides
    end_with_parent()
    _bound_memory(recipe.limits.memory)
    with contextlib.suppress(EOFError, BrokenPipeError):
        connection.send(("ready",))
        while (item := connection.recv()) is not None:

            def wanted(sha256: str) -> bool:
                connection.send(("digest", sha256))
                return bool(connection.recv())

            try:
                connection.send(("done", do_item(item, recipe, pieces, wanted)))
            except OutputError as error:  # nothing of the video's: the run cannot go on
                connection.send(("output", str(error)))
                return
            except MemoryError as error:
                connection.send(("failed", "memory", f"more memory than limits.memory ({error})", True))
                return
            except (OSError, LimitError) as error:
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    connection.send(("output", f"{tempfile.gettempdir()}: no space for the copy of {item.url}"))
                    return
                reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
                connection.send(("failed", failure_kind(error), reason, False))


def _bound_memory(beyond: int) -> None:
    """Private memory beyond what the libraries hold already; where the system counts it, which is Linux."""
    try:
        import resource

        with open("/proc/self/status", encoding="ascii") as status:
            held = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (held + beyond, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (ImportError, OSError, StopIteration, ValueError):
        return
