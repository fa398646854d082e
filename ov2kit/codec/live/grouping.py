"""RunningGrouping: where to cut a stream, from the bins that have been seen.

The walk of `BitCostGrouping` with two things changed, because the future is not there: the quota comes
from a running mean of the energy, and the search for a cheap bin looks ahead only as far as a delay allows.
Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2) for quota, limits and valley.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ov2kit.codec.grouping.bitcost_walk import SpanLimits
from ov2kit.errors import check_number, check_order

_NOTHING = 1e-12


@dataclass(frozen=True)
class Cut:
    """The end of a group, in bins counted from the first that was added.

    Args:
        start: first bin of the group.
        end: one past its last bin.
        trigger: the bin at which the cut was asked for.
        spent: energy of the group up to its end.
        threshold: its quota.
        reason: the quota was spent, or the group was as long as may be.
    """

    start: int
    end: int
    trigger: int
    spent: float
    threshold: float
    reason: Literal["quota", "longest"]

    @property
    def share(self) -> float:
        """What was spent over the quota; 1 where there is none."""
        return self.spent / self.threshold if self.threshold > 0 else 1.0


class RunningGrouping:
    """Take energy bin by bin, and say where groups end.

    A cut is asked for as in `BitCostGrouping`. It is made at the cheapest bin within r of that point, where r
    is as there, but no later than the delay allows: a group's end is known at most `delay_seconds` of bins
    after its last bin. With the quota of a whole clip and a long delay, the cuts are those of the clip.

    Args:
        seconds_per_group: length of an ordinary group: its quota is the mean energy of so many seconds.
        delay_seconds: how much of what comes after a group may be waited for.
        bin_seconds: width of a bin.
        min_seconds: shortest group.
        max_seconds: longest group.
        smooth_bins: radius of the moving average over bins, cut short where the delay is.
        half_life_seconds: after so long a bin counts half in the mean.
        threshold: a quota to use in place of the running one.

    Raises:
        OptionError: a number is out of range.
    """

    def __init__(
        self,
        seconds_per_group: float,
        *,
        delay_seconds: float = 2.0,
        bin_seconds: float = 0.5,
        min_seconds: float = 1.5,
        max_seconds: float = 6.0,
        smooth_bins: int = 1,
        half_life_seconds: float = 60.0,
        threshold: float | None = None,
    ) -> None:
        check_number("delay_seconds", delay_seconds, low=0)
        check_number("smooth_bins", smooth_bins, low=0, integer=True)
        for name, seconds in (
            ("seconds_per_group", seconds_per_group), ("bin_seconds", bin_seconds), ("min_seconds", min_seconds),
            ("max_seconds", max_seconds), ("half_life_seconds", half_life_seconds),
        ):  # fmt: skip
            check_number(name, seconds, above=0)
        check_order("min_seconds", min_seconds, "max_seconds", max_seconds)
        check_number("threshold", threshold, low=0, optional=True)
        self.bin_seconds = bin_seconds
        self.min_bins, self.max_bins = SpanLimits(min_seconds, max_seconds).in_bins(bin_seconds)
        wait = int(delay_seconds / bin_seconds + 1e-9)
        radius = max(1, min(3, self.max_bins // 3))
        self.smooth = min(smooth_bins, wait)
        self.ahead = min(radius, (wait - self.smooth + 1) // 2)
        self.behind = min(radius, wait - self.smooth - self.ahead)
        self.seconds_per_group = seconds_per_group
        self._decay = 0.5 ** (bin_seconds / half_life_seconds)
        self._quota = threshold
        self._sum = self._weight = 0.0
        self._raw: list[float] = []  # from bin `_first` on
        self._smoothed: list[float] = []
        self._first = self._start = 0
        self._spent = 0.0
        self._at = 0  # the next bin to be looked at
        self._trigger: int | None = None
        self._reason: Literal["quota", "longest"] = "quota"

    @property
    def threshold(self) -> float:
        """The quota now."""
        if self._quota is not None:
            return self._quota
        bins = self.seconds_per_group / self.bin_seconds
        return self._sum / self._weight * bins if self._sum > _NOTHING else bins

    @property
    def start(self) -> int:
        """First bin of the open group."""
        return self._start

    @property
    def is_due(self) -> bool:
        """Whether a cut has been asked for that is still looked for."""
        return self._trigger is not None

    @property
    def spent(self) -> float:
        """Energy of the open group so far."""
        return sum(self._energy(at) for at in range(self._start, self._first + len(self._raw)))

    def add(self, energy: float, may_cut: Callable[[int], bool] = lambda end: True) -> Cut | None:
        """Add the next bin.

        Args:
            energy: spent in it; negative counts as 0.
            may_cut: whether there are tokens for a group that ends with a bin (one past it is given).

        Returns:
            The end of a group, if it is known now. Call `more` until it returns None.
        """
        energy = max(0.0, energy)
        self._raw.append(energy)
        self._sum = self._sum * self._decay + energy
        self._weight = self._weight * self._decay + 1.0
        ready = self._first + len(self._raw) - self.smooth
        for at in range(self._first + len(self._smoothed), ready):
            low, high = max(0, at - self.smooth - self._first), at + self.smooth - self._first + 1
            window = self._raw[low:high]
            self._smoothed.append(sum(window) / len(window))
        return self.more(may_cut)

    def more(self, may_cut: Callable[[int], bool] = lambda end: True) -> Cut | None:
        """The next end of a group that is known, see `add`."""
        newest = self._first + len(self._smoothed) - 1
        while self._trigger is None and self._at <= newest:
            self._spent += self._energy(self._at)
            span = self._at - self._start + 1
            is_full = span >= self.min_bins and self._spent >= self.threshold
            if span >= self.max_bins or (is_full and may_cut(self._at + 1)):
                self._trigger, self._reason = self._at, "longest" if span >= self.max_bins else "quota"
            self._at += 1
        if self._trigger is None or newest < min(self._trigger + self.ahead, self._start + self.max_bins - 1):
            return None
        return self._cut(newest)

    def close(self) -> Cut | None:
        """End the open group with the last bin, as at the end of a stream or before a gap; None if it has no bin."""
        end = self._first + len(self._raw)
        if end <= self._start:
            return None
        cut = Cut(self._start, end, end - 1, self.spent, self.threshold, "quota")
        self._begin(end)
        return cut

    def decide(self) -> Cut | None:
        """Make the cut that has been asked for with what has been seen; None if none has."""
        return None if self._trigger is None else self._cut(self._first + len(self._smoothed) - 1)

    def _cut(self, newest: int) -> Cut:
        trigger, start = self._trigger, self._start
        assert trigger is not None
        first = min(max(start + self.min_bins - 1, trigger - self.behind), trigger)
        last = max(first, min(start + self.max_bins - 1, newest, trigger + self.ahead))
        _, _, at = min((self._energy(at), abs(at - trigger), at) for at in range(first, last + 1))
        spent = sum(self._energy(each) for each in range(start, at + 1))
        cut = Cut(start, at + 1, trigger, spent, self.threshold, self._reason)
        self._begin(at + 1)
        return cut

    def _begin(self, start: int) -> None:
        """The next group; what lies more than the smoothing before it is forgotten."""
        self._start = self._at = start
        self._spent, self._trigger = 0.0, None
        drop = max(0, min(start - self.smooth - self._first, len(self._smoothed)))
        del self._raw[:drop], self._smoothed[:drop]
        self._first += drop

    def _energy(self, at: int) -> float:
        if self._sum <= _NOTHING and self._quota is None:
            return 1.0  # nothing was ever spent: every bin is equal
        place = at - self._first
        return self._smoothed[place] if place < len(self._smoothed) else self._raw[place]
