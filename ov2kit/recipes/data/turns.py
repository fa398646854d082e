"""So many records of each file in an epoch, and of a file all records in turns.

Everything is a function of (seed, epoch) and the records.
"""

from collections.abc import Sequence

import numpy as np

from ov2kit.errors import DataError


def take_turns(records: np.ndarray, wanted: int, epoch: int, key: tuple[int, ...]) -> np.ndarray:
    """`wanted` of the records: all of them as often as that goes, and the next few of a circle of them.

    Args:
        records: (n,) numbers, n > 0 where any are wanted.
        wanted: how many an epoch takes.
        epoch: counts from 0.
        key: of the circle, the same in every epoch.
    """
    if not wanted:
        return records[:0]
    rounds, few = divmod(wanted, len(records))
    circle = records[np.random.default_rng(key).permutation(len(records))]
    next_few = circle[(few * epoch + np.arange(few)) % len(records)]
    return np.concatenate([np.tile(records, rounds), next_few])


def counts_of(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in the ratio of the shares that add up to `total`; none is off by 1 or more."""
    exact = total * np.asarray(shares, dtype=np.float64) / np.sum(shares)
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]
    counts[largest] += 1
    return [int(count) for count in counts]


def records_in_shares(
    records: np.ndarray, files: np.ndarray, names: Sequence[str], shares: Sequence[float], *, seed: int, epoch: int
) -> np.ndarray:
    """The records of an epoch, as many as there are in all, in the shares of their files.

    A file with more records than its share shows the next ones in the next epoch; of one with fewer, each comes as
    often as the others, give or take once.

    Args:
        records: (n,) record numbers to choose from.
        files: of all records, which file each stands in.
        names: of the files.
        shares: of the files, in any unit.
        seed: of the run.
        epoch: counts from 0.

    Raises:
        DataError: a file with a share that has no records here, or whose share is less than one record.
    """
    found = []
    for file, wanted in enumerate(counts_of(len(records), shares)):
        own = records[files[records] == file]
        if shares[file] and not (len(own) and wanted):
            what = f"of {len(records)} records that is none" if len(own) else "it has no record to train on"
            raise DataError(f"sources.shares: {names[file]} has a share of {shares[file]:g}, but {what}")
        found.append(take_turns(own, wanted, epoch, (seed, 7, file)))
    return np.sort(np.concatenate(found), kind="stable")
