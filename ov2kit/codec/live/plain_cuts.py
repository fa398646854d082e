"""PlainCuts: groups of a stream that need no search: of equal length, or from keyframe to keyframe."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

from ov2kit.codec.grouping.energy import Cost
from ov2kit.codec.live.bins import packet_cost
from ov2kit.codec.live.closing import Ending
from ov2kit.codec.live.window import HeldPacket

_EDGE = 1e-9


class PlainCuts:
    """End groups as "fixed" and "container" do, as soon as what is shown before an end has come.

    Equal groups are as long as an ordinary one has tokens for. A group that begins with a keyframe ends with the
    next for whose group there are tokens, or when it is as long as may be.

    Args:
        at_keyframes: end groups before keyframes; otherwise after `seconds_per_group`.
        seconds_per_group: length of an ordinary group.
        longest_seconds: of a group that no keyframe ends.
        half_life_seconds: of the running mean of the bit cost.
        cost: of a packet, see `CodecTokenizer`.
        begin_seconds: where the first group begins.
        may_cut: whether there are tokens for a group that ends at a time.
    """

    def __init__(
        self,
        *,
        at_keyframes: bool,
        seconds_per_group: float,
        longest_seconds: float,
        half_life_seconds: float,
        cost: Cost,
        begin_seconds: float,
        may_cut: Callable[[float], bool],
    ) -> None:
        self.seconds_per_group, self._longest, self._at_keyframes = seconds_per_group, longest_seconds, at_keyframes
        self._half_life, self._cost, self._may_cut = half_life_seconds, cost, may_cut
        self._start = begin_seconds
        self._keys: deque[float] = deque()
        self._spent: list[tuple[float, float]] = []  # time and cost of packets from `_start` on
        self._newest = begin_seconds
        self._sum = self._weight = 0.0

    @property
    def longest_seconds(self) -> float:
        """Of any group."""
        return self._longest if self._at_keyframes else self.seconds_per_group

    def add(self, item: HeldPacket) -> None:
        """Count a packet."""
        if item.begins > 0:
            self._newest = max(self._newest, item.seconds)
            if item.is_key:
                self._keys.append(item.seconds)
        if not item.is_key and item.seconds >= self._start - _EDGE:
            self._spent.append((item.seconds, packet_cost(item.nbytes, self._cost)))

    def until(self, seconds: float) -> Iterator[Ending]:
        """Ends of groups by a time; everything that is shown before it has been added."""
        while True:
            longest = self._start + self.longest_seconds
            end: float = longest
            reason: Literal["longest", "keyframe"] = "longest"
            while self._at_keyframes and self._keys and self._keys[0] <= min(seconds, longest) + _EDGE:
                key = self._keys.popleft()
                if key > self._start + _EDGE and self._may_cut(key):
                    end, reason = key, "keyframe"
                    break
            if end > seconds + _EDGE:
                return
            yield Ending(end, reason, self._share(end))

    def close(self, seconds: float) -> Iterator[Ending]:
        """End the open group with what came in, at no time of its own (inf); the next begins at `seconds`."""
        if self._newest > self._start or self._spent:
            yield Ending(math.inf, "longest", self._share(self._newest + 2 * _EDGE))
        self._start = self._newest = seconds
        self._spent.clear()
        self._keys.clear()

    def decide(self) -> Iterator[Ending]:
        """No end is ever due that has not been made."""
        return iter(())

    def _share(self, end: float) -> float:
        """What a group up to `end` spent over what an ordinary one does; the next begins there."""
        spent = sum(cost for time, cost in self._spent if time < end - _EDGE)
        self._spent = [each for each in self._spent if each[0] >= end - _EDGE]
        seconds, self._start = max(end - self._start, _EDGE), end
        decay = 0.5 ** (seconds / self._half_life)
        self._sum, self._weight = self._sum * decay + spent, self._weight * decay + seconds
        quota = self._sum / self._weight * self.seconds_per_group
        return spent / quota if quota > 0 else seconds / self.seconds_per_group
