"""The walk over bins of energy that decides where a group is cut. Letters: B bins, G groups."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bins:
    """Energy per bin of time, as the walk takes it; made by `bins_of`.

    Args:
        energy: (B,) float64 on the host, never negative, not all zero.
        seconds: width of a bin.
        start_seconds: where bin 0 begins.
        end_seconds: where the clip ends.
    """

    energy: Tensor
    seconds: float
    start_seconds: float
    end_seconds: float

    def __len__(self) -> int:
        return len(self.energy)


@dataclass(frozen=True)
class SpanLimits:
    """Shortest and longest group.

    Args:
        min_seconds: shortest, before stretching.
        max_seconds: longest, before stretching.
        stretch: what both are multiplied by.
    """

    min_seconds: float
    max_seconds: float
    stretch: float = 1.0

    def in_bins(self, bin_seconds: float) -> tuple[int, int]:
        """(shortest, longest) in bins, rounded up; at least one bin."""
        shortest = max(1, round_up(self.min_seconds * self.stretch / bin_seconds))
        return shortest, max(shortest, round_up(self.max_seconds * self.stretch / bin_seconds))


@dataclass(frozen=True)
class GroupTrace:
    """How a partition came about; all numbers on the host.

    Args:
        spans: half-open [first bin, one past the last bin) of each group.
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

    spans: tuple[tuple[int, int], ...]
    triggers: tuple[int, ...]
    cuts: tuple[int, ...]
    threshold: float
    min_bins: int
    max_bins: int
    bin_seconds: float
    stretch: float
    quota_groups: float
    energy: Tensor
    start_seconds: float
    end_seconds: float

    def __len__(self) -> int:
        return len(self.spans)

    def seconds(self) -> Tensor:
        """(G, 2) float64 [start, end) of each group in seconds, without gaps."""
        starts = [self.start_seconds + first * self.bin_seconds for first, _ in self.spans]
        return torch.tensor(list(zip(starts, [*starts[1:], self.end_seconds], strict=True)), dtype=torch.float64)


def bins_of(energy: Tensor, seconds: float, start_seconds: float, end_seconds: float) -> Bins:
    """(B,) energy of any dtype and device -> `Bins`: negative and unknown count as 0, all zero as all equal."""
    energy = energy.detach().to("cpu", torch.float64).nan_to_num(nan=0.0, posinf=0.0).clamp(min=0.0)
    energy = energy if float(energy.sum()) > 1e-12 else torch.ones_like(energy)
    return Bins(energy, seconds, start_seconds, end_seconds)


def walk(bins: Bins, limits: SpanLimits, quota_groups: float) -> GroupTrace:
    """Cut time wherever a quota of energy is spent, at the cheapest bin nearby.

    Args:
        bins: what was spent when.
        limits: shortest and longest group.
        quota_groups: K; total energy / K is the quota.
    """
    min_bins, max_bins = limits.in_bins(bins.seconds)
    threshold = float(bins.energy.sum()) / quota_groups
    energy: list[float] = bins.energy.tolist()
    radius = max(1, min(3, max_bins // 3))
    spans: list[tuple[int, int]] = []
    triggers: list[int] = []
    cuts: list[int] = []
    start = 0
    while start < len(energy):
        trigger = _trigger(energy, start, min_bins, max_bins, threshold)
        if trigger is None:
            spans.append((start, len(energy)))
            break
        first = max(start + min_bins - 1, trigger - radius)
        last = min(start + max_bins - 1, len(energy) - 1, trigger + radius)
        _, _, cut = min((energy[at], abs(at - trigger), at) for at in range(first, last + 1))
        triggers.append(trigger)
        cuts.append(cut)
        spans.append((start, cut + 1))
        start = cut + 1
    if len(spans) > 1:
        end = min(len(energy) * bins.seconds, bins.end_seconds - bins.start_seconds)
        if end - spans[-1][0] * bins.seconds < limits.min_seconds * limits.stretch / 2:
            spans[-2:] = [(spans[-2][0], spans[-1][1])]
    return GroupTrace(
        tuple(spans), tuple(triggers), tuple(cuts), threshold, min_bins, max_bins, bins.seconds, limits.stretch,
        quota_groups, bins.energy, bins.start_seconds, bins.end_seconds,
    )  # fmt: skip


def _trigger(energy: list[float], start: int, min_bins: int, max_bins: int, threshold: float) -> int | None:
    """The bin that asks for the end of the group that begins at `start`; None if no bin does."""
    spent = 0.0
    for at in range(start, len(energy)):
        spent += energy[at]
        span = at - start + 1
        if span >= max_bins or (span >= min_bins and spent >= threshold):
            return at
    return None


def round_up(bins: float) -> int:
    """Round up, but not for a rounding error: 1.2 / 0.4 is 3 bins."""
    return math.ceil(bins - 1e-9)
