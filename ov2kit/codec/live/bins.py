"""EnergyBins: packets on the clock of a stream -> cuts, as soon as bins are complete."""

import math
from collections.abc import Callable, Iterator

from ov2kit.codec.grouping.energy import Cost
from ov2kit.codec.live.closing import Ending
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
    def longest_seconds(self) -> float:
        """Of any group."""
        return self.grouping.max_bins * self.grouping.bin_seconds

    @property
    def seconds_per_group(self) -> float:
        """Length of an ordinary group; may be set when the pictures change their size."""
        return self.grouping.seconds_per_group

    @seconds_per_group.setter
    def seconds_per_group(self, seconds: float) -> None:
        self.grouping.seconds_per_group = seconds

    def add(self, item: HeldPacket) -> None:
        """Count a packet; packets of complete bins do not count, nor do key packets."""
        at = int((item.seconds - self._zero) // self.grouping.bin_seconds)
        if at >= self._next and not item.is_key:
            self._energy[at] = self._energy.get(at, 0.0) + packet_cost(item.nbytes, self._cost)

    def until(self, seconds: float) -> Iterator[Ending]:
        """Complete the bins that end by a time; the ends of groups that are known then."""
        while self._time(self._next + 1) <= seconds + _EDGE:
            yield from self._complete()

    def close(self, seconds: float) -> Iterator[Ending]:
        """End the open group with what came in, at no time of its own (inf); the next begins at `seconds`."""
        while self._energy:
            yield from self._complete()
        cut = self.grouping.close()
        if cut is not None:
            yield Ending(math.inf, cut.reason, cut.share)
        self._zero = seconds - self._next * self.grouping.bin_seconds

    def decide(self) -> Iterator[Ending]:
        """Make the cut that is due with what came in."""
        cut = self.grouping.decide()
        if cut is not None:
            yield self._ending(cut)

    def _complete(self) -> Iterator[Ending]:
        energy, self._next = self._energy.pop(self._next, 0.0), self._next + 1
        cut = self.grouping.add(energy, self._may_end)
        while cut is not None:
            yield self._ending(cut)
            cut = self.grouping.more(self._may_end)

    def _ending(self, cut: Cut) -> Ending:
        return Ending(self._time(cut.end), cut.reason, cut.share)

    def _may_end(self, end: int) -> bool:
        return self._may_cut(self._time(end))

    def _time(self, at: int) -> float:
        return self._zero + at * self.grouping.bin_seconds


def packet_cost(nbytes: int, cost: Cost) -> float:
    """What a packet adds to the energy."""
    return math.log1p(nbytes) if cost == "log1p" else float(nbytes)
