"""Dealer: the packets of each decoding job, out of all packets of a stream."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TypeAlias

from ov2kit.codec.video.jobs import DecodeJob
from ov2kit.codec.video.source import AnyPacket

Primers: TypeAlias = "tuple[tuple[int, AnyPacket], ...]"


class Dealer:
    """Reads a stream once, as far as it is asked to.

    Args:
        packets: all of the stream.
        headers: packets that the jobs behind them are given before their own.
    """

    def __init__(self, packets: Iterable[AnyPacket], headers: frozenset[int]) -> None:
        self._packets, self._headers = enumerate(packets), headers
        self._primers: list[tuple[int, AnyPacket]] = []

    def job(self, job: DecodeJob) -> tuple[Primers, Iterator[tuple[int, AnyPacket]]]:
        """What tells a decoder what came before a job, and the packets of the job, with their decode index.

        Jobs are asked for in file order, each once the packets of the one before have been taken.
        """
        own = self._within(job)
        first = next(own, None)
        if first is None:
            return (), iter(())
        return tuple(primer for primer in self._primers if primer[0] < first[0]), chain([first], own)

    def _within(self, job: DecodeJob) -> Iterator[tuple[int, AnyPacket]]:
        for start, stop in job.ranges:
            for index, packet in self._packets:
                if index in self._headers:
                    self._primers.append((index, packet))
                if index >= start:
                    yield index, packet
                if index == stop - 1:
                    break
