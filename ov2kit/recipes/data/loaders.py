"""Loaders that continue exactly where they were stopped.

Where a run stands is a few numbers, and what comes next is a function of them: how far a worker had
read ahead does not matter, nor how many workers there are.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from ov2kit.errors import DataError
from ov2kit.recipes.data.bookmarks import Bookmarks, Ranks, State
from ov2kit.recipes.data.dataset import Delivered, Wanted
from ov2kit.recipes.data.faults import FaultLog
from ov2kit.recipes.data.feed import Feed
from ov2kit.recipes.data.packing import PackBuffer
from ov2kit.recipes.prompt.sample import Batch, Sample, pack

Plan = Callable[[int], "list[Wanted]"]
SamplePlace = tuple[int, int]  # epoch, sample of it


class PlannedLoader:
    """Batches of a plan that is known before anything is read.

    Each `iter` gives the next epoch, or what is left of one after `load_state_dict`; an epoch that
    was left half-way is not continued.

    Args:
        feed: delivers batches.
        plan: epoch -> what its batches hold, for this rank.
        faults: where faults go.
        facts: see `Bookmarks`.
        unfinished: see `Bookmarks`.
        same_epoch: every `iter` gives epoch 0 from its start, as validation needs.
    """

    def __init__(
        self,
        feed: Feed,
        plan: Plan,
        faults: FaultLog,
        facts: Mapping[str, Any] | None = None,
        *,
        unfinished: Callable[[], int] | None = None,
        same_epoch: bool = False,
    ) -> None:
        self.feed, self.plan, self.faults, self.same_epoch = feed, plan, faults, same_epoch
        self.bookmarks = Bookmarks({"epoch": 0, "batch": 0}, facts or {}, unfinished=unfinished)
        self._planned: tuple[int, list[Wanted]] | None = None

    def __len__(self) -> int:
        """Batches of the epoch, those before a resume included."""
        return len(self._plan(0 if self.same_epoch else self.bookmarks.last["epoch"]))

    def __iter__(self) -> Iterator[Batch]:
        at = {"epoch": 0, "batch": 0} if self.same_epoch else self.bookmarks.last
        if self.bookmarks.handed and at["batch"]:
            at = {"epoch": at["epoch"] + 1, "batch": 0}
        self.bookmarks.begin(at)
        return self._batches(at)

    def state_dict(self) -> State:
        """See `Bookmarks.state_dict`."""
        return self.bookmarks.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Bookmarks.load_state_dict`."""
        self.bookmarks.load_state_dict(state)

    def _plan(self, epoch: int) -> list[Wanted]:
        if self._planned is None or self._planned[0] != epoch:
            self._planned = (epoch, self.plan(epoch))
        return self._planned[1]

    def _batches(self, at: State) -> Iterator[Batch]:
        epoch, plan = at["epoch"], self._plan(at["epoch"])
        for batch, delivered in enumerate(self.feed(islice(plan, at["batch"], None)), at["batch"] + 1):
            self.faults.good(delivered.good)
            self.faults.add(delivered.faults)
            if delivered.content is None:
                raise DataError(f"no record of a batch can be used, nor any tried in its place: {delivered.faults[0]}")
            is_last = batch == len(plan)
            self.bookmarks.hand({"epoch": epoch + is_last, "batch": 0 if is_last else batch})
            yield delivered.content


class StreamLoader:
    """Packed rows made on the fly: samples wait in a bounded buffer until they fill a row.

    Without `rows_per_epoch` an epoch ends when all of its samples have been in a row, and its
    length is not known before. With it, rows are made across the borders of epochs and every `iter`
    gives so many; nothing is left out.

    Args:
        feed: delivers samples.
        plan: epoch -> single samples, for this rank.
        faults: where faults go.
        pad_id: fills rows.
        length: tokens of a row.
        buffer: samples that wait at most.
        max_samples: most samples of a row.
        rows_per_epoch: see above.
        facts: see `Bookmarks`.
        ranks: see `Bookmarks`.
        unfinished: see `Bookmarks`.
        pin_memory: hand out rows in page-locked memory.
    """

    def __init__(
        self,
        feed: Feed,
        plan: Plan,
        faults: FaultLog,
        *,
        pad_id: int,
        length: int,
        buffer: int = 32,
        max_samples: int | None = None,
        rows_per_epoch: int | None = None,
        facts: Mapping[str, Any] | None = None,
        ranks: Ranks | None = None,
        unfinished: Callable[[], int] | None = None,
        pin_memory: bool = False,
    ) -> None:
        if rows_per_epoch is not None and rows_per_epoch < 1:
            raise ValueError(f"rows_per_epoch must be at least 1, got {rows_per_epoch}")
        self.feed, self.plan, self.faults = feed, plan, faults
        self.pad_id, self.length, self.buffer, self.max_samples = pad_id, length, buffer, max_samples
        self.rows_per_epoch, self.pin_memory = rows_per_epoch, pin_memory
        # next: (epoch, sample) to read; held: the same of those that wait; row: rows given of an epoch of so many
        self.bookmarks = Bookmarks({"next": [0, 0], "held": [], "row": 0}, facts or {}, ranks, unfinished)

    def __len__(self) -> int:
        """Rows of an epoch, those before a resume included.

        Raises:
            TypeError: it is not known.
        """
        if self.rows_per_epoch is None:
            raise TypeError("rows are packed on the fly: how many an epoch has is not known before it ends")
        return self.rows_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        at = dict(self.bookmarks.last)
        if self.bookmarks.handed:
            if self.rows_per_epoch is None and (at["next"][1] or at["held"]):
                at = {"next": [at["next"][0] + 1, 0], "held": []}
            at["row"] = 0
        self.bookmarks.begin(at)
        return self._rows(at)

    def state_dict(self) -> State:
        """See `Bookmarks.state_dict`."""
        return self.bookmarks.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Bookmarks.load_state_dict`."""
        self.bookmarks.load_state_dict(state)

    def _rows(self, at: State) -> Iterator[Batch]:
        waiting: PackBuffer[tuple[SamplePlace, Sample]] = PackBuffer(self.length, self.buffer, self.max_samples)
        given = at["row"]
        for place, delivered in self._samples(at):
            if delivered is not None:
                self.faults.good(delivered.good)
                self.faults.add(delivered.faults)
                if delivered.content is not None:
                    waiting.add(len(delivered.content), (place, delivered.content))
            while waiting.waiting and (waiting.is_full or delivered is None):
                row = waiting.row()
                given += 1
                held = [list(own) for _, (own, _) in waiting.waiting]
                following = [place[0], place[1] + (delivered is not None)]
                self.bookmarks.hand(
                    {"next": following, "held": held, "row": given % (self.rows_per_epoch or given + 1)}
                )
                batch = pack([sample for _, sample in row], self.pad_id, self.length)
                if delivered is None and not held:
                    self._finish(place[0])
                yield batch.pin_memory() if self.pin_memory else batch
                if given == self.rows_per_epoch:
                    return
        self._finish(place[0])

    def _finish(self, epoch: int) -> None:
        """Nothing of this epoch is left, whatever the last row said."""
        self.bookmarks.amend({"next": [epoch + 1, 0], "held": [], "row": 0})

    def _samples(self, at: State) -> Iterator[tuple[SamplePlace, Delivered | None]]:
        """Deliveries with their places; None where an epoch without `rows_per_epoch` is over."""
        asked: deque[SamplePlace] = deque()
        plans: dict[int, list[Wanted]] = {}

        def planned(epoch: int) -> list[Wanted]:
            if epoch not in plans:
                plans.pop(epoch - 2, None)
                plans[epoch] = self.plan(epoch)
            return plans[epoch]

        def wanted() -> Iterator[Wanted]:
            for epoch, sample in at["held"]:
                asked.append((epoch, sample))
                yield planned(epoch)[sample]
            epoch, first = at["next"]
            while True:
                plan = planned(epoch)
                for sample in range(first, len(plan)):
                    asked.append((epoch, sample))
                    yield plan[sample]
                if self.rows_per_epoch is None:
                    asked.append((epoch, len(plan)))
                    return
                epoch, first = epoch + 1, 0

        bad_in_a_row = 0
        for delivered in self.feed(wanted()):
            place = asked.popleft()
            bad_in_a_row = 0 if delivered.good else bad_in_a_row + 1
            if self.rows_per_epoch is not None and bad_in_a_row > len(planned(place[0])):
                raise DataError(f"no sample of a whole epoch can be used, for example {delivered.faults[:1]}")
            yield place, delivered
        yield asked.popleft(), None
