"""How tests wait for other threads and processes: for what is to happen, and never for a time."""

import time
from collections.abc import Callable

#: seconds after which a test stops waiting: on the busiest machine only a fault takes as long
PATIENCE = 900.0


def wait_until(condition: Callable[[], object]) -> None:
    """Return when a condition holds.

    Raises:
        AssertionError: it never does.
    """
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)
