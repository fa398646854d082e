"""The walk over bins of energy that decides where a group is cut."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ov2kit.codec.grouping.bitcost import BitCostGrouping

_QUOTA_STEPS = 40  # halvings of the search for a quota


@dataclass(frozen=True)
class GroupTrace:
    """How a partition came about; all numbers on the host.

    Args:
        ranges: inclusive (first bin, last bin) of each group.
        triggers: bin at which each cut was asked for.
        cuts: bin at which it was made, the last bin of its group (before the tail was merged).
        threshold: quota of energy that asks for a cut.
        min_bins: shortest span, in bins.
        max_bins: longest span, in bins.
        bin_seconds: width of a bin.
        stretch: what the span limits were multiplied by to keep the budget; 1 without a budget.
        quota_groups: K of the quota, total energy / threshold.
        energy: (B,) float64 energy of each bin, never negative.
        start_seconds: where bin 0 begins.
        end_seconds: where the last group ends.
    """

    ranges: tuple[tuple[int, int], ...]
    triggers: tuple[int, ...]
    cuts: tuple[int, ...]
    threshold: float
    min_bins: int
    max_bins: int
    bin_seconds: float
    stretch: float
    quota_groups: float
    energy: Tensor
    start_seconds: float = 0.0
    end_seconds: float = math.inf

    def __len__(self) -> int:
        return len(self.ranges)

    def seconds(self) -> Tensor:
        """(G, 2) float64 [start, end) of each group in seconds, without gaps."""
        starts = [self.start_seconds + first * self.bin_seconds for first, _ in self.ranges]
        end = min(self.end_seconds, self.start_seconds + len(self.energy) * self.bin_seconds)
        end = self.end_seconds if math.isfinite(self.end_seconds) else end
        return torch.tensor(list(zip(starts, [*starts[1:], end], strict=True)), dtype=torch.float64)


class _Walk:
    """The walk over one array of bins, and the searches that repeat it with other limits."""

    def __init__(self, grouping: "BitCostGrouping", energy: Tensor, width: float, duration: float | None) -> None:
        self.min_seconds, self.max_seconds = grouping.min_seconds, grouping.max_seconds
        self.width = width
        self.duration = len(energy) * width if duration is None else duration
        energy = energy.detach().to("cpu", torch.float64).nan_to_num(nan=0.0, posinf=0.0).clamp(min=0.0)
        self.energy = energy if float(energy.sum()) > 1e-12 else torch.ones_like(energy)
        self.bins: list[float] = self.energy.tolist()
        self.total = float(self.energy.sum())

    def __call__(self, stretch: float, quota_groups: float) -> GroupTrace:
        min_bins = max(1, _ceil(self.min_seconds * stretch / self.width))
        max_bins = max(min_bins, _ceil(self.max_seconds * stretch / self.width))
        threshold = self.total / quota_groups
        energy, count = self.bins, len(self.bins)
        radius = max(1, min(3, max_bins // 3))
        ranges: list[tuple[int, int]] = []
        triggers: list[int] = []
        cuts: list[int] = []
        start = 0
        while start < count:
            spent, trigger = 0.0, -1
            for i in range(start, count):
                spent += energy[i]
                span = i - start + 1
                if span >= max_bins or (span >= min_bins and spent >= threshold):
                    trigger = i
                    break
            if trigger < 0:
                ranges.append((start, count - 1))
                break
            first = max(start + min_bins - 1, trigger - radius)
            last = min(start + max_bins - 1, count - 1, trigger + radius)
            cut = min(range(first, last + 1), key=lambda b, trigger=trigger: (energy[b], abs(b - trigger)))  # type: ignore[misc]
            triggers.append(trigger)
            cuts.append(cut)
            ranges.append((start, cut))
            start = cut + 1
        if len(ranges) > 1:
            tail = min(count * self.width, self.duration) - ranges[-1][0] * self.width
            if tail < self.min_seconds * stretch / 2:
                ranges[-2:] = [(ranges[-2][0], ranges[-1][1])]
        return GroupTrace(
            tuple(ranges), tuple(triggers), tuple(cuts), threshold, min_bins, max_bins, self.width, stretch,
            quota_groups, self.energy,
        )  # fmt: skip

    def stretched(self, quota_groups: float, most: int) -> GroupTrace:
        """The smallest stretch above 1, in whole bins of the longest span, with at most `most` groups."""

        def at(max_bins: int) -> GroupTrace:
            return self(max_bins * self.width / self.max_seconds, quota_groups)

        fails = max(1, _ceil(self.max_seconds / self.width))
        fits, found = 2 * fails, at(2 * fails)
        while len(found) > most:  # ends: once the shortest span reaches all bins there is one group
            fails, fits = fits, 2 * fits
            found = at(fits)
        while fits - fails > 1:
            middle = (fits + fails) // 2
            trial = at(middle)
            if len(trial) > most:
                fails = middle
            else:
                fits, found = middle, trial
        return found

    def fill(self, found: GroupTrace, most: int) -> GroupTrace:
        """Shrink the quota of a partition that fits until it has as many groups as may be."""
        low, best = found.quota_groups, found
        high = low
        while len(best) < most and high < 16 * len(self.bins):
            high *= 2
            trial = self(found.stretch, high)
            if len(trial) > most:
                return self._between(found.stretch, low, high, best, most)
            low, best = high, trial if len(trial) > len(best) else best
        return best

    def near(self, stretch: float, quota_groups: float, most: int) -> GroupTrace | None:
        """The most groups within the budget at one stretch; None where even a huge quota gives more."""
        found = self(stretch, quota_groups)
        if len(found) <= most:
            return self.fill(found, most)
        low = self(stretch, 0.5)  # a quota never reached: groups of the longest span
        return None if len(low) > most else self._between(stretch, 0.5, quota_groups, low, most)

    def _between(self, stretch: float, low: float, high: float, best: GroupTrace, most: int) -> GroupTrace:
        """Halve between a quota that gives few enough groups and one that gives too many."""
        for _ in range(_QUOTA_STEPS):
            if len(best) == most or high - low < 1e-9 * high:
                break
            middle = (low + high) / 2
            trial = self(stretch, middle)
            if len(trial) > most:
                high = middle
            else:
                low, best = middle, trial if len(trial) > len(best) else best
        return best


def _ceil(bins: float) -> int:
    """Round up, but not for a rounding error: 1.2 / 0.4 is 3 bins."""
    return math.ceil(bins - 1e-9)
