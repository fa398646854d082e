"""Groupings that need no search: equal spans, and the encoder's own keyframes."""

import torch
from torch import Tensor, nn

from ov2kit.codec.grouping.energy import covered_span, sort_packets
from ov2kit.codec.grouping.interface import check_budget
from ov2kit.errors import check_number


class FixedGrouping(nn.Module):
    """Equal spans of time; also what the release falls back to when it finds no bin of energy.

    Args:
        groups: how many; at least 1.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        check_number("groups", groups, low=1, integer=True)
        self.groups = groups

    def extra_repr(self) -> str:
        return f"groups={self.groups}"

    def forward(
        self,
        times: Tensor,
        nbytes: Tensor,
        is_key: Tensor,
        block_scores: Tensor | None = None,
        *,
        max_groups: int | None = None,
    ) -> Tensor:
        """(T,) times in seconds -> (G, 2) float64 [start, end) in seconds; the rest is not used.

        Raises:
            OptionError: `max_groups` is no whole number from 1 on.
            VideoError: no packet has a time.
        """
        check_budget(max_groups)
        seconds, _, _ = sort_packets(times, nbytes, is_key)
        start, end = covered_span(seconds)
        edges = torch.linspace(start, end, _within(self.groups, max_groups) + 1, dtype=torch.float64)
        return torch.stack([edges[:-1], edges[1:]], dim=1).to(times.device)


class ContainerGrouping(nn.Module):
    """Cut before every keyframe, as the encoder did; what comes before the first one is a group too."""

    def forward(
        self,
        times: Tensor,
        nbytes: Tensor,
        is_key: Tensor,
        block_scores: Tensor | None = None,
        *,
        max_groups: int | None = None,
    ) -> Tensor:
        """(T,) times in seconds and key flags -> (G, 2) float64 [start, end) in seconds.

        Beyond `max_groups` the starts are thinned evenly by `even_subset`, so that groups merge.

        Raises:
            OptionError: `max_groups` is no whole number from 1 on.
            VideoError: no packet has a time.
        """
        check_budget(max_groups)
        seconds, _, keys = sort_packets(times, nbytes, is_key)
        _, end = covered_span(seconds)
        starts = torch.cat([seconds[:1], seconds[keys]])
        starts = starts[torch.cat([starts.new_ones(1), starts.diff()]) > 0]
        starts = even_subset(starts, _within(len(starts), max_groups))
        return torch.stack([starts, torch.cat([starts[1:], starts.new_tensor([end])])], dim=1).to(times.device)


def even_subset(items: Tensor, keep: int) -> Tensor:
    """`keep` of (n,) items at even steps of their rank, the first and last among them.

    Source: thinning of anchor lists in the release, floor(linspace(0, n - 1, keep)).
    """
    if keep >= len(items):
        return items
    ranks = torch.linspace(0, len(items) - 1, keep, dtype=torch.float64).floor().long()
    return items[ranks.to(items.device)]


def _within(groups: int, max_groups: int | None) -> int:
    return groups if max_groups is None else min(groups, max_groups)
