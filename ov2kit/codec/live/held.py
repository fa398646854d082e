"""HeldVideo: a stream that was kept until its end, decoded as a file is; for a delay without bound."""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

import numpy as np
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.video.counting import pictures_of
from ov2kit.codec.video.decode import prime_decoder
from ov2kit.codec.video.decode_plan import DecodePlan
from ov2kit.codec.video.display_order import shown_pictures
from ov2kit.codec.video.frame import StreamLosses
from ov2kit.codec.video.frame_loop import FrameLoop, FramePass
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.from_start import FromStart
from ov2kit.codec.video.jobs import DecodeJob
from ov2kit.codec.video.losses import DecodeLosses
from ov2kit.codec.video.queues import HeldBack
from ov2kit.codec.video.references import DecodedFrame, References
from ov2kit.codec.video.scan import corrected, first_look
from ov2kit.codec.video.sieves import Sieve, sieves_of, sifted
from ov2kit.codec.video.source import AnyPacket

T = TypeVar("T")


class HeldVideo:
    """All packets of a stream as a video, see `VideoStream`. Loops over its frames follow each other.

    Args:
        container: of the stream, for what its header says.
        stream: whose decoder is prepared and has decoded nothing.
        packets: all of them, as `demux_packets` gives them.
        label: name of the source for messages.
        max_source_pixels: of the decoder, for messages.

    Raises:
        VideoError: there are no packets, or they hold no picture that decodes.
    """

    threads = 1

    def __init__(
        self,
        container: InputContainer,
        stream: AVStream,
        packets: Sequence[AnyPacket],
        label: str,
        max_source_pixels: int,
    ) -> None:
        self.label, self._held, self._decoder = label, packets, stream.codec_context
        self._sieves = sieves_of(self._decoder.codec.canonical_name, self._decoder.extradata)
        table, info, needs_decode = first_look(container, stream, packets, label, max_source_pixels)
        given = None
        if needs_decode:
            self._restart()
            given = pictures_of(packets, self._decoder)
        self.packets, self.info = corrected(table, info, label, given)

    def requested(self, indices: Iterable[int] | None, request: FrameRequest) -> FrameLoop:
        """See `VideoStream.requested`."""
        wanted = np.zeros(self.packets.num_frames, dtype=bool)
        wanted[slice(None) if indices is None else np.array(sorted(set(indices)), dtype=np.int64)] = True
        self._restart()
        return FrameLoop(
            FramePass(
                self.label, self.packets, self.info, wanted,
                request,
                threads=1, on_losses=_ignore, decoding=self._decoding,
            )
        )  # fmt: skip

    def _decoding(
        self, plan: DecodePlan, emit: Callable[[DecodedFrame], "Future[T] | T"], on_idle: Callable[[], None]
    ) -> "HeldDecoding[T]":
        return HeldDecoding(self._held, self._decoder, self._sieves, plan, emit)

    def _restart(self) -> None:
        if self._decoder.is_open:
            self._decoder.flush_buffers()


class HeldDecoding(Generic[T]):
    """One run of a plan over packets that are kept, job after job in one decoder; as `Decoding`.

    Args:
        packets: all of the stream.
        decoder: prepared.
        sieves: what makes a sieve for each job, where there is one.
        plan: what to decode.
        emit: what becomes of each wanted picture.

    Attributes:
        losses: complete when all results have been given.
    """

    def __init__(
        self,
        packets: Sequence[AnyPacket],
        decoder: VideoCodecContext,
        sieves: Callable[[], Sieve] | None,
        plan: DecodePlan,
        emit: Callable[[DecodedFrame], "Future[T] | T"],
    ) -> None:
        self._packets, self._decoder, self._sieves = packets, decoder, sieves
        self._plan, self._emit = plan, emit
        self.losses = DecodeLosses()

    def results(self) -> Generator[T, None, None]:
        """What `emit` makes of each wanted frame, in job and display order; once."""
        given: list[list[tuple[int, Future[T] | T]]] = []
        damaged: list[int] = []
        known = -1
        for number, job in enumerate(self._plan.jobs):
            primers = tuple((at, self._packets[at]) for at in sorted(self._plan.headers) if at < job.start)
            known = prime_decoder(self._decoder, primers, known)
            found: list[tuple[int, Future[T] | T]] = []
            if not self._decode(job, found):
                damaged.append(number)
            given.append(found)
        if damaged:  # what a job that began in mid-stream missed may have been said before it
            self._decoder.flush_buffers()
            again = FromStart(iter(self._packets), self._decoder, self._plan, self._emit, self.losses)
            for number in damaged:
                done = {index for index, _ in given[number]}
                given[number] += [each for each in again.job(self._plan.jobs[number]) if each[0] not in done]
        for found in given:
            for _, result in found:
                yield result.result() if isinstance(result, Future) else result

    def _decode(self, job: DecodeJob, found: list[tuple[int, "Future[T] | T"]]) -> bool:
        plan, lost = self._plan, DecodeLosses()
        from_start = job.is_from_start
        may_retry = (plan.retries or not from_start) and plan.rank is not None
        held = HeldBack(found.append, plan.hold if may_retry and not from_start else 0)
        references = References(plan.wanted, lost)
        own = ((at, self._packets[at]) for start, stop in job.ranges for at in range(start, stop))
        needed = None if plan.needed_packets is None else plan.needed_packets.tobytes()
        packets = sifted(own, needed, self._sieves and self._sieves())
        for index, picture in shown_pictures(self._decoder, packets, plan.rank, lost, plan.wanted_packets):
            decoded = references.shown(index, picture)
            if decoded is not None and not (may_retry and plan.retries and lost.failed_packets):
                held.add((index, self._emit(decoded)))
        if may_retry and (lost.failed_packets or references.is_damaged or references.given < len(plan.frames_of(job))):
            return False
        held.release()
        self.losses.add(lost.failed_packets, lost.corrupt_frames, lost.decoded_frames)
        return True


def _ignore(losses: StreamLosses) -> None:
    """Losses are those of each loop."""
