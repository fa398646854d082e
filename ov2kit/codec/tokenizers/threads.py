"""One torch thread for small work that runs beside decoding.

The arrays of a group are small; with decoders on every core, torch's own threads wait for each
other far longer than they save (measured: five times slower scoring on two busy cores).
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

_T = TypeVar("_T")
_END = object()


class _Blocks:
    """Blocks that run with one torch thread now, and the number that holds outside of them.

    A thread that has not asked torch for anything yet starts with the number of whoever set one last, so the
    number that a block finds may be another block's 1.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.here = threading.local()
        self.open = 0
        self.outside = 1


_blocks = _Blocks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_blocks.__init__)  # type: ignore[misc] # only the forking thread goes on there


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run a block with torch's intra-op threads set to 1, and put the number back after it; safe in threads."""
    depth = getattr(_blocks.here, "depth", 0)
    with _blocks.lock:
        found = torch.get_num_threads()  # asked by every block: later a thread no longer looks at what others set
        if not _blocks.open:
            _blocks.outside = found
        _blocks.open += 1
        torch.set_num_threads(1)
    _blocks.here.depth = depth + 1
    try:
        yield
    finally:
        _blocks.here.depth = depth
        with _blocks.lock:
            _blocks.open -= 1
            if not depth:
                torch.set_num_threads(_blocks.outside)


def in_one_torch_thread(items: Iterator[_T]) -> Iterator[_T]:
    """Each step of an iterator with one torch thread; whoever loops over it keeps his own number between them."""
    while True:
        with one_torch_thread():
            item = next(items, _END)
        if item is _END:
            return
        yield item  # type: ignore[misc]
