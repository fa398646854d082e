"""EnergyBins: packets on the clock of a stream -> cuts, as soon as bins are complete."""

import math
from collections.abc import Callable, Iterator

from ov2kit.codec.grouping.energy import Cost
from ov2kit.codec.live.grouping import Cut, RunningGrouping
from ov2kit.codec.live.window import HeldPacket

_EDGE = 1e-9


class EnergyBins:
    """Add up what packets cost, bin by bin, and ask a grouping where to cut.

    Args:
        grouping: takes the bins.
        cost: of a packet, see `CodecTokenizer`.
        begin_seconds: where the first bin begins.
        may_cut: whether there are tokens for a group that ends at a time.
    """

    def __init__(
        self, grouping: RunningGrouping, cost: Cost, begin_seconds: float, may_cut: Callable[[float], bool]
    ) -> None:
        self.grouping, self._cost, self._may_cut = grouping, cost, may_cut
        self._energy: dict[int, float] = {}  # of bins that are not complete
        self._next = 0  # the bin that is complete next
        self._zero = begin_seconds

    @property
    def open_seconds(self) -> float:
        """Where the open group begins."""
        return self._time(self.grouping.start)

    def add(self, item: HeldPacket) -> None:
        """Count a packet; packets of complete bins do not count, nor do key packets."""
        at = int((item.seconds - self._zero) // self.grouping.bin_seconds)
        if at >= self._next and not item.is_key:
            self._energy[at] = self._energy.get(at, 0.0) + _spent(item.nbytes, self._cost)

    def until(self, seconds: float) -> Iterator[tuple[Cut, float]]:
        """Complete the bins that end by a time; cuts with the time of their end."""
        while self._time(self._next + 1) <= seconds + _EDGE:
            yield from self._complete()

    def close(self, seconds: float) -> Iterator[tuple[Cut, float]]:
        """End the open group with what came in, at no time of its own (inf); the next begins at `seconds`."""
        while self._energy:
            yield from self._complete()
        cut = self.grouping.close()
        if cut is not None:
            yield cut, math.inf
        self._zero = seconds - self._next * self.grouping.bin_seconds

    def decide(self) -> Iterator[tuple[Cut, float]]:
        """Make the cut that is due with what came in."""
        cut = self.grouping.decide()
        if cut is not None:
            yield cut, self._time(cut.end)

    def _complete(self) -> Iterator[tuple[Cut, float]]:
        energy, self._next = self._energy.pop(self._next, 0.0), self._next + 1
        cut = self.grouping.add(energy, self._may_end)
        while cut is not None:
            yield cut, self._time(cut.end)
            cut = self.grouping.more(self._may_end)

    def _may_end(self, end: int) -> bool:
        return self._may_cut(self._time(end))

    def _time(self, at: int) -> float:
        return self._zero + at * self.grouping.bin_seconds


def _spent(nbytes: int, cost: Cost) -> float:
    return math.log1p(nbytes) if cost == "log1p" else float(nbytes)
