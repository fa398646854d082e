"""What every grouping agrees on: packets or frames in, groups of time out, within a budget."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from ov2kit.errors import check_number


@runtime_checkable
class Grouping(Protocol):
    """A callable, as a rule an ``nn.Module``, that cuts the time of a clip into groups.

    Whatever the grouping: packets come in any order, those without a finite time are left out, ranges
    are half-open, and a budget is never exceeded.
    """

    def __call__(
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
            times: (T,) presentation times in seconds, any order, any start.
            nbytes: (T,) packet sizes in bytes.
            is_key: (T,) bool.
            block_scores: (T, hb, wb) one score per block; only groupings that decide by scores need it.
            max_groups: the budget, the most groups that may come back; None for no limit.

        Returns:
            (G, 2) float64 [start, end) in seconds, ascending and without gap, on the device of `times`.

        Raises:
            OptionError: `max_groups` is no whole number from 1 on.
            VideoError: no packet has a time.
            ValueError: vectors of different lengths, or scores are needed and missing.
        """
        ...


def check_budget(max_groups: int | None) -> int | None:
    """`max_groups` if it is None or a whole number from 1 on.

    Raises:
        OptionError: it is neither.
    """
    return check_number("max_groups", max_groups, low=1, integer=True, optional=True)
