"""Grouping by bit cost: cut time where a quota of bytes is spent, at the cheapest moment nearby.

Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2), adaptive groups; limits and edge cases
as in the offline packing of the release. Letters: T packets, B bins, G groups.
"""

from typing import get_args

import torch
from torch import Tensor, nn

from ov2kit.codec.grouping.bitcost_search import search
from ov2kit.codec.grouping.bitcost_walk import Bins, GroupTrace, SpanLimits, bins_of, walk
from ov2kit.codec.grouping.energy import Cost, bin_energy, covered_span, frame_gap, sort_packets
from ov2kit.codec.grouping.interface import check_budget
from ov2kit.errors import VideoError, check_choice, check_number

_LEAST_SPAN_SECONDS = 0.25


class BitCostGrouping(nn.Module):
    """Walk the bins of energy; cut once the quota is spent, at the cheapest bin near that point.

    A cut is asked for at the first bin where the span reaches `max_seconds`, or reaches
    `min_seconds` with total energy / `target_groups` spent since the last cut. It is made at the
    cheapest bin within r = clamp(max_bins // 3, 1, 3) bins that keeps the span limits, the nearest
    of equals, then the earlier. A tail under half of `min_seconds` joins the group before it.
    `target_groups` sets the quota alone: the number of groups follows from the video, unless a
    call gives `max_groups`.

    Args:
        target_groups: K of the quota; 0 counts as 1.
        bin_seconds: width of a bin; 0 counts as 0.5, as in the release.
        min_seconds: shortest group; less than 0.25 counts as 0.25, as in the release.
        max_seconds: longest group; less than `min_seconds` counts as that, as in the release.
        smooth_bins: radius of the moving average over bins.
        cost: ``"bytes"`` (paper) or ``"log1p"`` (released tool).

    Raises:
        OptionError: an option is unknown, negative or no number.
    """

    def __init__(
        self,
        target_groups: int,
        bin_seconds: float = 0.5,
        min_seconds: float = 1.5,
        max_seconds: float = 6.0,
        smooth_bins: int = 1,
        cost: Cost = "bytes",
    ) -> None:
        super().__init__()
        check_number("target_groups", target_groups, low=0, integer=True)
        for name, seconds in (("bin_seconds", bin_seconds), ("min_seconds", min_seconds), ("max_seconds", max_seconds)):
            check_number(name, seconds, low=0)
        check_number("smooth_bins", smooth_bins, low=0, integer=True)
        check_choice("cost", cost, get_args(Cost))
        self.target_groups = max(1, target_groups)
        self.bin_seconds = bin_seconds if bin_seconds > 0 else 0.5
        self.min_seconds = max(_LEAST_SPAN_SECONDS, min_seconds)
        self.max_seconds = max(self.min_seconds, max_seconds)
        self.smooth_bins = smooth_bins
        self.cost: Cost = cost

    def extra_repr(self) -> str:
        return (
            f"target_groups={self.target_groups}, bin_seconds={self.bin_seconds}, min_seconds={self.min_seconds}, "
            f"max_seconds={self.max_seconds}, smooth_bins={self.smooth_bins}, cost={self.cost!r}"
        )

    def forward(
        self,
        times: Tensor,
        nbytes: Tensor,
        is_key: Tensor,
        block_scores: Tensor | None = None,
        *,
        max_groups: int | None = None,
    ) -> Tensor:
        """Packets -> groups.

        Args:
            times: (T,) presentation times in seconds, any order, any start; NaN is dropped.
            nbytes: (T,) packet sizes in bytes.
            is_key: (T,) bool.
            block_scores: not used; every grouping takes it.
            max_groups: the budget, see `explain`.

        Returns:
            (G, 2) float64 [start, end) in seconds on the device of `times`: no gap, from the first
            time to one frame past the last.

        Raises:
            OptionError: `max_groups` is no whole number from 1 on.
            VideoError: no packet has a time.
        """
        return self.explain(times, nbytes, is_key, max_groups=max_groups).seconds().to(times.device)

    def explain(self, times: Tensor, nbytes: Tensor, is_key: Tensor, *, max_groups: int | None = None) -> GroupTrace:
        """As `forward`, with all that led to the cuts.

        With `max_groups` there are never more groups than that, and as many as the search finds
        (`ov2kit.codec.grouping.bitcost_search`). Groups shorter than `min_seconds` need finer bins, so below a
        stretch of 1 the bins shrink by the same factor, down to two frames per shortest group.
        """
        check_budget(max_groups)
        times, nbytes, is_key = sort_packets(times, nbytes, is_key)
        start, end = covered_span(times)

        def bins_at(stretch: float) -> Bins:
            width = self.bin_seconds * min(stretch, 1.0)
            energy = bin_energy(times, nbytes, is_key, bin_seconds=width, smooth_bins=self.smooth_bins, cost=self.cost)
            return bins_of(energy, width, start, end)

        limits = SpanLimits(self.min_seconds, self.max_seconds)
        if max_groups is None:
            return walk(bins_at(1.0), limits, self.target_groups)
        return search(bins_at, limits, self.target_groups, max_groups, 2 * frame_gap(times) / self.min_seconds)

    def partition(
        self, energy: Tensor, duration_seconds: float | None = None, *, max_groups: int | None = None
    ) -> Tensor:
        """(B,) energy, already binned and smoothed -> (G, 2) long inclusive bin ranges.

        Args:
            energy: negative values count as 0; all zero counts as all equal.
            duration_seconds: length of the clip, for the length of the tail; B bins when omitted.
            max_groups: the budget, as in `forward`.

        Raises:
            VideoError: there is no bin, or `duration_seconds` is not positive.
        """
        spans = self.trace(energy, duration_seconds, max_groups=max_groups).spans
        return torch.tensor([(first, end - 1) for first, end in spans], dtype=torch.long, device=energy.device)

    def trace(
        self, energy: Tensor, duration_seconds: float | None = None, *, max_groups: int | None = None
    ) -> GroupTrace:
        """As `partition`, with half-open ranges, the threshold, what asked for each cut and where it was made."""
        check_budget(max_groups)
        if energy.ndim != 1 or len(energy) == 0:
            raise VideoError(f"bit-cost grouping needs (B,) energy with at least one bin, got {tuple(energy.shape)}")
        if duration_seconds is not None and not duration_seconds > 0:
            raise VideoError(f"bit-cost grouping needs a clip longer than 0 s, got {duration_seconds} s")
        width = self.bin_seconds
        bins = bins_of(energy, width, 0.0, len(energy) * width if duration_seconds is None else duration_seconds)
        limits = SpanLimits(self.min_seconds, self.max_seconds)
        if max_groups is None:
            return walk(bins, limits, self.target_groups)
        return search(lambda _: bins, limits, self.target_groups, max_groups, width / (2 * self.max_seconds))
