"""The packets of each decoding job: out of all packets of a stream as they are read, or out of those that are kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np

from ov2kit.codec.video.jobs import DecodeJob
from ov2kit.codec.video.kept_packets import packet_of
from ov2kit.codec.video.sieves import Sieve, sifted
from ov2kit.codec.video.source import AnyPacket

Primers: TypeAlias = "tuple[tuple[int, AnyPacket], ...]"


class Dealer:
    """Reads a stream once, as far as it is asked to. Packets of a job are read once those of the one before are.

    Args:
        packets: all of the stream.
        headers: packets that the jobs behind them are given before their own.
        needed: (P,) bool: whose pictures are; None where it is not known.
        sieves: what makes a sieve for each job, where there is one.
    """

    def __init__(
        self,
        packets: Iterable[AnyPacket],
        headers: frozenset[int],
        needed: np.ndarray | None = None,
        sieves: Callable[[], Sieve] | None = None,
    ) -> None:
        self._packets, self._headers = enumerate(packets), headers
        self._needed = None if needed is None else needed.tobytes()
        self._sieves = sieves
        self._primers: list[tuple[int, AnyPacket]] = []

    def job(self, job: DecodeJob) -> tuple[Primers, Iterator[tuple[int, AnyPacket]]]:
        """What tells a decoder what came before a job, and the packets of the job, with their decode index.

        Jobs are asked for in file order, each once the packets of the one before have been taken.
        """
        own = self._within(job)
        first = next(own, None)
        if first is None:
            return (), iter(())
        primers = tuple(primer for primer in self._primers if primer[0] < first[0])
        return primers, sifted(chain([first], own), self._needed, self._sieves and self._sieves())

    def _within(self, job: DecodeJob) -> Iterator[tuple[int, AnyPacket]]:
        for start, stop in job.ranges:
            for index, packet in self._packets:
                if index in self._headers:
                    self._primers.append((index, packet))
                if index >= start:
                    yield index, packet
                if index == stop - 1:
                    break


class KeptDealer:
    """Deals packets that are kept, as `Dealer` does; those of several jobs may be taken at a time.

    Args:
        data: bytes of all packets.
        headers: as for `Dealer`, as are the others.
    """

    def __init__(
        self,
        data: Sequence[bytes],
        headers: frozenset[int],
        needed: np.ndarray | None,
        sieves: Callable[[], Sieve] | None,
    ) -> None:
        self._data, self._headers = data, sorted(headers)
        self._needed = None if needed is None else needed.tobytes()
        self._sieves = sieves

    def job(self, job: DecodeJob) -> tuple[Primers, Iterator[tuple[int, AnyPacket]]]:
        """See `Dealer.job`."""
        primers = tuple((at, packet_of(self._data[at])) for at in self._headers if at < job.start)
        return primers, self._packets(job)

    def _packets(self, job: DecodeJob) -> Iterator[tuple[int, AnyPacket]]:
        data, needed, sieve = self._data, self._needed, self._sieves and self._sieves()
        for start, stop in job.ranges:
            for index in range(start, min(stop, len(data))):
                if needed is None or sieve is None:
                    yield index, packet_of(data[index])
                elif left := sieve(data[index], bool(needed[index])):
                    yield index, packet_of(left)
