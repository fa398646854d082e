"""A clock that tests move, in place of the system's: nothing is late because the machine is busy."""

from types import ModuleType

import pytest

from ov2kit.codec.live import reader, run, shedding, watch


class Clock:
    """Stands still. `seconds` is what it shows, on no scale in particular."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What live sources measure with, for the rest of a test."""
    clock = Clock()
    modules: list[ModuleType] = [reader, run, shedding, watch]
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
