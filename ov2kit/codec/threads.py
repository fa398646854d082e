"""One torch thread for small work that runs beside decoding.

The arrays of a group are small; with decoders on every core, torch's own threads wait for each
other far longer than they save (measured: five times slower scoring on two busy cores).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run a block with torch's intra-op threads set to 1, and put the number back after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
