"""What every batch of an epoch holds, as a function of the epoch alone."""

from dataclasses import dataclass

import numpy as np

from ov2kit.errors import DataError
from ov2kit.recipes.data.dataset import Oversize, Wanted
from ov2kit.recipes.data.faults import Fault, FaultLog
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.length_groups import plan_batches
from ov2kit.recipes.data.lengths import KnownLengths, estimated_lengths
from ov2kit.recipes.data.mixing import EpochOrder, epoch_order
from ov2kit.recipes.data.packing import pack_bins
from ov2kit.recipes.data.turns import records_in_shares


@dataclass(frozen=True)
class Records:
    """A set of records and how an epoch of it is dealt out.

    Args:
        index: of all records.
        numbers: (n,) those of the set, ascending.
        shares: see `epoch_order`.
        seed: of the run.
        shuffle: see `epoch_order`.
        rank: of this process.
        world_size: processes.
        video_tokens: of a video at most, to estimate lengths.
        image_tokens: of a picture at most.
        lengths: exact ones, if known.
        mirror: see `epoch_order`.
        file_shares: of each file of the index, see `records_in_shares`; every record once when omitted.
    """

    index: ConversationIndex
    numbers: np.ndarray
    shares: dict[str, float]
    seed: int = 0
    shuffle: bool = True
    rank: int = 0
    world_size: int = 1
    video_tokens: int = 0
    image_tokens: int = 0
    lengths: KnownLengths | None = None
    mirror: float = 0.0
    file_shares: tuple[float, ...] | None = None

    def order(self, epoch: int) -> EpochOrder:
        """What the epoch shows on all ranks together."""
        numbers, files = self.numbers, None
        if self.file_shares is not None:
            files, names = self.index.sources, [str(file.path) for file in self.index.files]
            numbers = records_in_shares(numbers, files, names, self.file_shares, seed=self.seed, epoch=epoch)
        return epoch_order(
            numbers, self.index.kinds, self.shares,
            seed=self.seed, epoch=epoch, shuffle=self.shuffle, mirror=self.mirror, files=files,
        )  # fmt: skip

    def lengths_of(self, order: EpochOrder) -> np.ndarray:
        """Tokens of its samples, exact if known."""
        if self.lengths is not None:
            return self.lengths(self.index, order)
        return estimated_lengths(self.index, order, self.video_tokens, self.image_tokens)

    def samples(self, epoch: int) -> list[Wanted]:
        """This rank's samples one by one; ranks differ by one sample at most."""
        order = self.order(epoch)
        return [_wanted(order, np.array([place])) for place in range(self.rank, len(order), self.world_size)]

    def batches(self, epoch: int, batch_size: int, group_by_length: bool, keep_all: bool = False) -> list[Wanted]:
        """This rank's batches, see `plan_batches`."""
        order = self.order(epoch)
        lengths = self.lengths_of(order) if group_by_length else np.zeros(len(order), dtype=np.int64)
        steps = plan_batches(
            lengths, batch_size, self.world_size, seed=self.seed, epoch=epoch,
            group_by_length=group_by_length, shuffle=self.shuffle, keep_all=keep_all,
        )  # fmt: skip
        return [_wanted(order, step[self.rank]) for step in steps]

    def rows(
        self, epoch: int, length: int, max_samples: int | None, oversize: Oversize, faults: FaultLog | None = None
    ) -> list[Wanted]:
        """This rank's packed rows: bins by exact lengths, in random order.

        Every epoch has as many rows as epoch 0 gives each rank. Where a mix makes a few more of
        them, or ranks do not share them evenly, those over are left out, others every epoch; where it
        makes a few less, the first ones come again at the end.

        Raises:
            DataError: fewer rows than ranks.
        """
        steps = len(self._bins(0, length, max_samples, oversize, None)[1]) // self.world_size
        order, bins = self._bins(epoch, length, max_samples, oversize, faults)
        if not steps or not bins:
            raise DataError(
                f"{len(order)} samples make {len(bins)} rows of {length} tokens, fewer than the {self.world_size} ranks"
            )
        mine = range(self.rank, steps * self.world_size, self.world_size)
        return [_wanted(order, bins[place % len(bins)]) for place in mine]

    def _bins(
        self, epoch: int, length: int, max_samples: int | None, oversize: Oversize, faults: FaultLog | None
    ) -> tuple[EpochOrder, list[np.ndarray]]:
        """Rows of all ranks, as places in the order of the epoch."""
        order = self.order(epoch)
        lengths = self.lengths_of(order)
        if oversize == "truncate":
            lengths = lengths.clip(max=length)
        fits = np.flatnonzero(lengths <= length)
        if faults is not None:
            faults.add(
                Fault(self.index.place(int(order.records[i])), "", f"{lengths[i]} tokens, {length} at most")
                for i in np.flatnonzero(lengths > length)
            )
        bins = [fits[np.sort(bin_)] for bin_ in pack_bins(lengths[fits].tolist(), length, max_samples)]
        if self.shuffle:
            bins = [bins[i] for i in np.random.default_rng((self.seed, epoch, 5)).permutation(len(bins))]
        return order, bins


def _wanted(order: EpochOrder, places: np.ndarray) -> Wanted:
    records, choices, mirrored = (x[places].tolist() for x in (order.records, order.choices, order.mirrored))
    return Wanted(tuple(records), tuple(choices), tuple(mirrored))
