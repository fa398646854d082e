"""Where a run stands in its data, although batches are handed out before they are used."""

from collections.abc import Callable, Mapping
from typing import Any

from ov2kit.errors import DataError

State = dict[str, Any]
_KEPT = 16  # batches that may have been handed out and not been used yet


class Bookmarks:
    """Remembers, for the last batches handed out, where the next one begins.

    Args:
        start: where the first batch begins.
        facts: what must be the same for a state to mean the same batches; by the names a user sets them by.
    """

    def __init__(self, start: State, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)
        #: how many of the batches since `begin` were used; all that were handed out when None
        self.used: Callable[[], int] | None = None
        #: states of all ranks, in order, where each rank has its own; else None
        self.gather: Callable[[State], list[State]] | None = None
        self.rank = 0
        #: batches since `begin` that training took, as far as someone counts them here
        self.taken = 0
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

    def amend(self, after: State) -> None:
        """It turned out that the next batch begins at `after`."""
        self._marks[self.handed] = after

    @property
    def last(self) -> State:
        """Where the next batch to hand out begins."""
        return self._marks[self.handed]

    def state_dict(self) -> State:
        """Where the first batch that was not used begins, as plain numbers and text."""
        used = self.handed if self.used is None else min(self.used(), self.handed)
        at = self._marks[used]
        return {"facts": self.facts, "at": [at] if self.gather is None else self.gather(at)}

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
        self.begin(dict(state["at"][self.rank if self.gather else 0]))
