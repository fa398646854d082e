"""Where a run stands in its data, although batches are handed out before they are used."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ov2kit.errors import DataError

State = dict[str, Any]
_KEPT = 16  # batches that may have been handed out and not been used yet


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is."""

    rank: int = 0
    world_size: int = 1

    def gather(self, state: State) -> list[State]:
        """The states of all ranks, in order; all of them must call it."""
        if self.world_size == 1:
            return [state]
        states: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(states, state)
        return states


class Bookmarks:
    """Remembers, for the last batches handed out, where the next one begins.

    Args:
        start: where the first batch begins.
        facts: what must be the same for a state to mean the same batches; by the names a user sets them by.
        ranks: where each rank has its own place; all ranks are at one place when omitted.
        unfinished: how many of the batches that were taken are still at work, asked whenever the state is; when
            omitted nobody counts what is taken, and all that were handed out count as used.
    """

    def __init__(
        self,
        start: State,
        facts: Mapping[str, Any],
        ranks: Ranks | None = None,
        unfinished: Callable[[], int] | None = None,
    ) -> None:
        self.facts, self.ranks, self.unfinished = dict(facts), ranks or Ranks(), unfinished
        self.begin(start)

    def begin(self, start: State) -> None:
        """A new row of batches begins here."""
        self.handed = self.taken = 0
        self._marks = {0: start}

    def hand(self, after: State) -> None:
        """A batch is handed out; the next one begins at `after`."""
        self.handed += 1
        self._marks[self.handed] = after
        self._marks.pop(self.handed - _KEPT, None)

    def take(self) -> None:
        """Training takes the next of the batches that were handed out."""
        self.taken += 1

    def amend(self, after: State) -> None:
        """It turned out that the next batch begins at `after`."""
        self._marks[self.handed] = after

    @property
    def last(self) -> State:
        """Where the next batch to hand out begins."""
        return self._marks[self.handed]

    def state_dict(self) -> State:
        """Where the first batch that was not used begins, as plain numbers and text."""
        used = self.handed if self.unfinished is None else min(self.taken - self.unfinished(), self.handed)
        return {"facts": self.facts, "at": self.ranks.gather(self._marks[used])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state_dict` was taken.

        Raises:
            DataError: something that decides which batches come has changed since.
        """
        was = state["facts"]
        changed = [
            f"{name} was {was.get(name)!r} and is {self.facts.get(name)!r}"
            for name in sorted(was.keys() | self.facts.keys())
            if was.get(name) != self.facts.get(name)
        ]
        if changed:
            raise DataError(
                f"the checkpoint cannot be continued in the middle of its data: {'; '.join(changed)}. Set it as it "
                "was, or start a new run from the weights alone"
            )
        self.begin(dict(state["at"][self.ranks.rank]))
