"""A worker ends with its parent, whatever ended that: nobody is left who would take its results."""

import os
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import wait


def end_with_parent(end: Callable[[], object] = lambda: os._exit(1)) -> None:
    """Watch the parent of this process in a thread; nothing where multiprocessing did not start the process.

    Args:
        end: called when the parent is gone.
    """
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        end()

    threading.Thread(target=watch, daemon=True).start()
