"""BitCostGate: when to call the language model, from what the encoder spent."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ov2kit.codec.live.group import LiveGroup
from ov2kit.errors import check_number

Decision = Literal["event", "heartbeat", "quiet", "cooldown"]


@dataclass(frozen=True)
class Gated:
    """What a gate decided of one group.

    Args:
        decision: call because much was spent ("event") or because there was no call for long ("heartbeat");
            no call because little was spent ("quiet") or because there was one just before ("cooldown").
        rate: bit cost of the group per second, in quotas.
        threshold: that it was compared with; 0 as long as there is none.
    """

    decision: Decision
    rate: float
    threshold: float

    @property
    def is_open(self) -> bool:
        """Whether to call."""
        return self.decision in ("event", "heartbeat")


class BitCostGate:
    """Call for groups that cost more per second than most of those before.

    The encoder spends bits where the picture changes, so a quiet scene is known before anything is seen. A group
    is an event when its bit cost per second exceeds a quantile of the last groups; the first ones are, because
    there is nothing to compare them with.

    Args:
        quantile: share of the last groups that a group must exceed; 0 lets every group through that is not the least.
        cooldown_seconds: least time of the stream between two calls; a heartbeat waits for it too.
        heartbeat_seconds: call at least so often, whatever was spent; None for never.
        history_groups: how many groups the quantile is of.
        warmup_groups: how many there must be.

    Raises:
        OptionError: a number is out of range.

    Example:
        >>> gate = BitCostGate(quantile=0.5, warmup_groups=2)
        >>> " ".join(gate.decide(second, rate).decision for second, rate in enumerate([1.0, 1.0, 0.2, 3.0]))
        'event event quiet event'
    """

    def __init__(
        self,
        *,
        quantile: float = 0.75,
        cooldown_seconds: float = 0.0,
        heartbeat_seconds: float | None = 60.0,
        history_groups: int = 64,
        warmup_groups: int = 4,
    ) -> None:
        check_number("quantile", quantile, low=0, high=1)
        check_number("cooldown_seconds", cooldown_seconds, low=0)
        check_number("heartbeat_seconds", heartbeat_seconds, above=0, optional=True)
        check_number("history_groups", history_groups, low=1, integer=True)
        check_number("warmup_groups", warmup_groups, low=1, high=history_groups, integer=True)
        self.quantile, self.cooldown_seconds, self.heartbeat_seconds = quantile, cooldown_seconds, heartbeat_seconds
        self.warmup_groups = warmup_groups
        self._rates: deque[float] = deque(maxlen=history_groups)
        self._called: float | None = None

    def __call__(self, group: LiveGroup) -> Gated:
        """Decide of the next group, in order."""
        seconds = max(group.end_seconds - group.start_seconds, 1e-3)
        return self.decide(group.end_seconds, group.spent / seconds)

    def decide(self, seconds: float, rate: float) -> Gated:
        """Decide of a group that ends at a time of the stream.

        Args:
            seconds: not before that of the last call.
            rate: its bit cost per second, in any unit that is the same for all.
        """
        is_warm = len(self._rates) >= self.warmup_groups
        threshold = float(np.quantile(self._rates, self.quantile)) if is_warm else 0.0
        self._rates.append(rate)
        quiet_for = float("inf") if self._called is None else seconds - self._called
        is_event = not is_warm or rate > threshold
        is_due = self.heartbeat_seconds is not None and self._called is not None and quiet_for >= self.heartbeat_seconds
        decision: Decision = "event" if is_event else "heartbeat" if is_due else "quiet"
        if decision != "quiet" and quiet_for < self.cooldown_seconds:
            decision = "cooldown"
        if decision in ("event", "heartbeat"):
            self._called = seconds
        return Gated(decision, rate, threshold)
