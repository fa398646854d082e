"""Packing: samples of different length into rows of one length.

Offline, all lengths are known and bins are planned before anything is read. On the fly, samples
come one after another and wait in a bounded buffer until they fill a row.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import Generic, Literal, TypeVar, get_args

import numpy as np

from ov2kit.errors import check_choice, check_number, check_numbers

Method = Literal["ffd", "bfd", "tightest"]
T = TypeVar("T")


def pack_bins(
    lengths: Sequence[int], capacity: int, max_samples: int | None = None, method: Method = "tightest"
) -> list[list[int]]:
    """Bins of sample numbers, longest samples first (equal ones in the given order).

    Args:
        lengths: of each sample.
        capacity: of a bin. A longer sample gets its own bin; leave such samples out before.
        max_samples: most samples of a bin; any number when omitted.
        method: "ffd" the first bin with room; "bfd" the one with least room left, the earlier of
            equals; "tightest" the same in n log n, except that a full bin never takes a sample of
            length 0.

    Returns:
        Bins in the order they were opened.
    """
    check_choice("method", method, get_args(Method))
    check_number("capacity", capacity, low=1, integer=True)
    check_number("max_samples", max_samples, low=1, integer=True, optional=True)
    check_numbers("lengths", lengths, low=0, integer=True)
    most = len(lengths) + 1 if max_samples is None else max_samples
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable").tolist()
    if method == "tightest":
        return _tightest(lengths, order, capacity, most)
    bins: list[list[int]] = []
    room = np.empty(len(lengths), dtype=np.int64)
    taken = np.empty(len(lengths), dtype=np.int64)
    for sample in order:
        n = len(bins)
        fits = np.flatnonzero((room[:n] >= lengths[sample]) & (taken[:n] < most))
        if len(fits) == 0:
            room[n], taken[n] = capacity - lengths[sample], 1
            bins.append([sample])
            continue
        chosen = int(fits[0] if method == "ffd" else fits[np.argmin(room[fits])])
        bins[chosen].append(sample)
        room[chosen] -= lengths[sample]
        taken[chosen] += 1
    return bins


def _tightest(lengths: Sequence[int], order: list[int], capacity: int, most: int) -> list[list[int]]:
    bins: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room, bin), sorted; only bins that can take one more
    for sample in order:
        length = lengths[sample]
        at = bisect_left(free, (max(length, 1), -1))
        if at < len(free):
            room, chosen = free.pop(at)
            bins[chosen].append(sample)
        else:
            room, chosen = capacity, len(bins)
            bins.append([sample])
        room -= length
        if room > 0 and len(bins[chosen]) < most:
            insort(free, (room, chosen))
    return bins


def parse_lengths(lines: Iterable[str]) -> dict[str, int]:
    """Lengths from lines of `name:count`.

    The last colon splits, of equal names the last line counts, and lines without a whole number
    of at least 0 after a colon are left out.
    """
    lengths = {}
    for line in lines:
        name, colon, count = line.strip().rpartition(":")
        if colon and count.isascii() and count.isdigit():
            lengths[name] = int(count)
    return lengths


class PackBuffer(Generic[T]):
    """Samples wait here until they fill a row.

    The oldest sample opens a row, so that none waits for ever; then, again and again, the longest
    that still fits joins, of equal ones the older.

    Args:
        capacity: tokens of a row.
        size: samples that wait at most.
        max_samples: most samples of a row; any number when omitted.
    """

    def __init__(self, capacity: int, size: int = 32, max_samples: int | None = None) -> None:
        check_number("capacity", capacity, low=1, integer=True)
        check_number("size", size, low=1, integer=True)
        check_number("max_samples", max_samples, low=1, integer=True, optional=True)
        self.capacity, self.size = capacity, size
        self.max_samples = max_samples
        self.waiting: list[tuple[int, T]] = []

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= self.size

    def add(self, length: int, sample: T) -> None:
        """Let a sample wait.

        Raises:
            ValueError: it is longer than a row, or the buffer is full.
        """
        if length > self.capacity:
            raise ValueError(f"a sample of {length} tokens does not fit into a row of {self.capacity}")
        if self.is_full:
            raise ValueError(f"{self.size} samples wait already; take a row first")
        self.waiting.append((length, sample))

    def row(self) -> list[T]:
        """Take the samples of one row, in the order they came; empty when none waits."""
        if not self.waiting:
            return []
        chosen = {0}
        room = self.capacity - self.waiting[0][0]
        by_length = sorted(range(1, len(self.waiting)), key=lambda i: (-self.waiting[i][0], i))
        for i in by_length:
            if self.max_samples is not None and len(chosen) >= self.max_samples:
                break
            if self.waiting[i][0] <= room:
                chosen.add(i)
                room -= self.waiting[i][0]
        row = [self.waiting[i][1] for i in sorted(chosen)]
        self.waiting = [entry for i, entry in enumerate(self.waiting) if i not in chosen]
        return row
