"""RollingContext: the last groups of a stream, as many as a language model is to remember."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ov2kit.canvases import Canvases
from ov2kit.codec import LiveGroup
from ov2kit.errors import OptionError, check_number


@dataclass(frozen=True)
class KeptGroup:
    """A group as the model sees it.

    Args:
        number: of the group in its stream.
        canvases: with frames counted from the first of the group, times of the stream.
        start_seconds: time of its first frame.
        end_seconds: end of its last frame.
    """

    number: int
    canvases: Canvases
    start_seconds: float
    end_seconds: float

    @property
    def tokens(self) -> int:
        """Merged tokens that the model gets of it."""
        return self.canvases.num_tokens


class RollingContext:
    """Keep the last groups; the oldest leave as a whole.

    Frames of a group count from its own first frame: attention of the encoder does not go beyond a group, so a
    group is encoded once and stays what it is when others leave, and after weeks positions are still such as the model
    was trained with. When it was is said by the times in the prompt, which are those of the stream. An encoder with
    exact rotations gives the same wherever counting begins; the pairing of released weights does not quite.

    Args:
        keep_seconds: groups that ended longer ago leave; None for no limit.
        keep_tokens: most visual tokens; None for no limit. A single group of more is kept.
        leave: how full the context is once groups had to leave, in (0, 1]. Below 1 they leave several at a time,
            and what was computed of the rest has to be computed again less often.

    Raises:
        OptionError: a number is out of range, or there is no limit at all.
    """

    def __init__(
        self, *, keep_seconds: float | None = 60.0, keep_tokens: int | None = None, leave: float = 0.75
    ) -> None:
        check_number("keep_seconds", keep_seconds, above=0, optional=True)
        check_number("keep_tokens", keep_tokens, low=1, integer=True, optional=True)
        check_number("leave", leave, above=0, high=1)
        if keep_seconds is None and keep_tokens is None:
            raise OptionError("a stream has no end: give keep_seconds, keep_tokens or both")
        self.keep_seconds, self.keep_tokens, self.leave = keep_seconds, keep_tokens, leave
        self._groups: deque[KeptGroup] = deque()

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[KeptGroup]:
        return iter(self._groups)

    @property
    def tokens(self) -> int:
        """Visual tokens of all of it."""
        return sum(group.tokens for group in self._groups)

    def add(self, group: LiveGroup) -> int:
        """The next group of the stream.

        Returns:
            How many groups left.
        """
        self._groups.append(
            KeptGroup(group.number, from_own_start(group.canvases), group.start_seconds, group.end_seconds)
        )
        if self._fits(1.0):
            return 0
        before = len(self._groups)
        while len(self._groups) > 1 and not self._fits(self.leave):
            self._groups.popleft()
        return before - len(self._groups)

    def _fits(self, share: float) -> bool:
        newest = self._groups[-1].end_seconds
        is_young = self.keep_seconds is None or newest - self._groups[0].start_seconds <= share * self.keep_seconds
        return is_young and (self.keep_tokens is None or self.tokens <= share * self.keep_tokens)


def from_own_start(canvases: Canvases) -> Canvases:
    """Canvases of one group with frames counted from the first of them, groups from 0; times stay."""
    (times,) = canvases.clip_times()
    first = min(times)
    positions = canvases.positions.clone()
    positions[..., 0] -= (positions[..., 0] >= 0).to(torch.int32) * first
    return replace(
        canvases,
        positions=positions,
        groups=torch.zeros_like(canvases.groups),
        frame_times={frame - first: seconds for frame, seconds in times.items()},
    )
