"""FromStart: a decode of the stream from its start, for jobs that met damage where they began."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ov2kit.codec.video.decode_plan import DecodePlan
from ov2kit.codec.video.display_order import shown_pictures
from ov2kit.codec.video.jobs import DecodeJob
from ov2kit.codec.video.losses import DecodeLosses
from ov2kit.codec.video.references import DecodedFrame, References
from ov2kit.codec.video.source import AnyPacket

T = TypeVar("T")


class FromStart(Generic[T]):
    """One decode that damaged jobs share: it only ever goes forward, so they come in file order.

    Args:
        packets: all of the stream.
        decoder: prepared.
        plan: whose display order is known.
        emit: what becomes of each wanted picture.
        losses: counted into.
    """

    def __init__(
        self,
        packets: Iterator[AnyPacket],
        decoder: VideoCodecContext,
        plan: DecodePlan,
        emit: Callable[[DecodedFrame], T],
        losses: DecodeLosses,
    ) -> None:
        self._plan, self._emit, self._losses = plan, emit, losses
        self._lost, self._failed = DecodeLosses(), list[int]()
        needed = islice(enumerate(packets), plan.jobs[-1].stop)
        self._pictures = shown_pictures(decoder, self._watched(needed), plan.rank, self._lost)
        self._next: tuple[int, VideoFrame] | None = None

    def job(self, job: DecodeJob) -> Iterator[tuple[int, T]]:
        """Display index and result of each wanted frame of the job."""
        mine = self._plan.shown_by(job)
        last = max(self._plan.frames_of(job), default=-1)
        lost = DecodeLosses()
        references = References(self._plan.wanted, lost)
        while (found := self._next or next(self._pictures, None)) is not None:
            self._next = None
            index, picture = found
            if index > last:
                self._next = found
                break
            decoded = references.shown(index, picture) if index in mine else None
            if decoded is not None:
                yield index, self._emit(decoded)
        failed = sum(start <= index < stop for index in self._failed for start, stop in job.ranges)
        if found is None:  # the decoder was asked for its last pictures
            failed += self._lost.failed_packets - len(self._failed)
        self._losses.add(failed, lost.corrupt_frames, lost.decoded_frames)

    def _watched(self, packets: Iterable[tuple[int, AnyPacket]]) -> Iterator[tuple[int, AnyPacket]]:
        """The packets; notes which of them failed: those of other jobs are counted by these, or were."""
        for index, packet in packets:
            before = self._lost.failed_packets
            yield index, packet
            self._failed += [index] * (self._lost.failed_packets - before)
