"""Shedding: what is left out where a stream comes in faster than it can be tokenized."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shedding:
    """Decide of each group, from how long its last packet waited, whether to make less of it or nothing at all.

    Beyond half the bound a group gets half the candidates, so that fewer pictures are decoded and scored. Beyond
    the bound nothing is made of it: its frames are counted and their bit cost is, and where a keyframe follows
    they are not even decoded.

    Args:
        most_seconds: the bound; infinity to leave nothing out.
        is_full: whether hardly more can wait, which is as late as can be.
    """

    most_seconds: float = math.inf
    is_full: Callable[[], bool] = lambda: False

    def lag(self, arrived: float) -> float:
        """How long a packet waited that is looked at now; `arrived` is on the clock of `time.monotonic`."""
        return math.inf if self.is_full() else time.monotonic() - arrived

    def leaves_out(self, lag: float) -> bool:
        """Whether a group is left out."""
        return lag > self.most_seconds

    def candidates(self, per_canvas: int, lag: float) -> int:
        """Candidates per canvas of a group that is not."""
        return max(1, per_canvas // 2) if lag > self.most_seconds / 2 else per_canvas
