"""Which packets must be decoded to see a set of frames, cut into jobs that can run side by side.

A job starts at an entry point and ends at its last wanted packet, so nothing that cannot be seen is
decoded. The cut depends on the file and on what is wanted, never on the number of threads: the same
question gives the same pictures on every machine.
"""

from dataclasses import dataclass

import numpy as np

from ov2kit.codec.video.entry_points import entry_points
from ov2kit.codec.video.packets import PacketTable

_JOB_PACKETS = 48  # short intervals (all-intra video) share a job, so that threads are not fed single packets


@dataclass(frozen=True)
class DecodeJob:
    """Packets one decoder instance reads.

    Args:
        ranges: decode-order [start, stop) ranges, each beginning at an entry point.
    """

    ranges: tuple[tuple[int, int], ...]

    @property
    def start(self) -> int:
        return self.ranges[0][0]

    @property
    def stop(self) -> int:
        return self.ranges[-1][1]

    @property
    def is_from_start(self) -> bool:
        """Whether the decoder sees every packet from the first one on."""
        return self.start == 0 and self.stop == sum(stop - start for start, stop in self.ranges)


def plan_jobs(table: PacketTable, wanted: np.ndarray) -> list[DecodeJob]:
    """Jobs in file order that together decode every wanted frame.

    Args:
        wanted: (P,) bool over packets in decode order. Where display order is not known
            (``table.exact`` is False) the whole file is one job, whatever is wanted.
    """
    if len(table) == 0:
        return []
    if not table.exact:
        return [DecodeJob(((0, len(table)),))]
    entries = entry_points(table)
    stops = np.append(entries[1:], len(table))
    jobs: list[DecodeJob] = []
    open_ranges: list[tuple[int, int]] = []
    for start, stop in zip(entries.tolist(), stops.tolist(), strict=True):
        hits = np.flatnonzero(wanted[start:stop])
        if len(hits) == 0:
            continue
        if open_ranges and np.any((table.headers > open_ranges[0][0]) & (table.headers <= start)):
            jobs.append(DecodeJob(tuple(open_ranges)))  # each job's decoder is given the headers of its start
            open_ranges = []
        open_ranges.append((start, start + int(hits[-1]) + 1))
        if sum(b - a for a, b in open_ranges) >= _JOB_PACKETS:
            jobs.append(DecodeJob(tuple(open_ranges)))
            open_ranges = []
    if open_ranges:
        jobs.append(DecodeJob(tuple(open_ranges)))
    return jobs
