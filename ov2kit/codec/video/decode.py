"""Decoding jobs one after the other or side by side, their frames in file order.

FFmpeg's motion vectors are right only without frame threads (frame threads give other vectors on each run, without an
error), so cores are used by decoding keyframe intervals next to each other, each in one thread. Where codecs have no
vectors and intervals are few or of unlike length, one decoder with frame threads takes them in turn. One demuxer feeds
all decoders, or none where the first look has kept the packets; what is read or decoded ahead is bounded, so memory
does not grow with the video. With one thread, whoever asks for a frame decodes it.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.video.dealing import Dealer, KeptDealer, Primers
from ov2kit.codec.video.decode_plan import DecodePlan
from ov2kit.codec.video.display_order import shown_pictures
from ov2kit.codec.video.from_start import FromStart
from ov2kit.codec.video.jobs import DecodeJob
from ov2kit.codec.video.kept_packets import KeptPackets
from ov2kit.codec.video.losses import DecodeLosses
from ov2kit.codec.video.queues import Backlog, HeldBack, Stop, StopWork, put
from ov2kit.codec.video.references import DecodedFrame, References
from ov2kit.codec.video.source import AnyPacket, Source, choose_stream, demux_packets

T = TypeVar("T")

_PACKET_BYTES_AHEAD = 16 << 20  # of each thread
_AT_ONCE = 16  # results
_END = object()  # after the last result of a job
_DAMAGED = object()  # in its place: what was not given is to be decoded again


class Decoding(Generic[T]):
    """One run of a plan.

    A job that starts in the middle of the stream and meets damage, or lacks a picture, is decoded
    again from the start of the stream: what it missed may have been said there. So is one that frame
    threads decoded (they may lose pictures that one thread gives), and of some codecs each, see `DecodePlan.retries`.

    Args:
        source: read from its start until the jobs are done; a file object allows one decoder only.
        stream_index: the video stream.
        kept: its packets, if they are, and what decoders need of them.
        plan: what to decode.
        emit: called with each wanted picture in a decoding thread; may return a Future, whose result
            is then given.
        on_idle: called by each decoding thread once there is no job left for it.

    Attributes:
        losses: complete when all results have been given.
    """

    def __init__(
        self,
        source: Source,
        stream_index: int,
        kept: KeptPackets,
        plan: DecodePlan,
        emit: Callable[[DecodedFrame], "Future[T] | T"],
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._source, self._stream_index, self._kept, self._plan = source, stream_index, kept, plan
        self._emit, self._on_idle = emit, on_idle
        self.losses = DecodeLosses()
        self._stop = Stop()
        self._failure: BaseException | None = None  # of the demuxer
        self._again: FromStart[Future[T] | T] | None = None

    def results(self) -> Generator[T, None, None]:
        """What `emit` makes of each wanted frame, in job and display order; once.

        Raises:
            Whatever `emit` or the demuxer raises.
        """
        if not self._plan.jobs:
            return
        with ExitStack() as opened:
            yield from self._beside(opened) if self._plan.beside else self._here(opened)
            if self._failure is not None:
                raise self._failure

    def _here(self, opened: ExitStack) -> Generator[T, None, None]:
        """In the caller's thread, as far as frames are asked for."""
        container, stream = self._open(opened)
        decoder, known = stream.codec_context, -1
        prepare_decoder(decoder, motion=self._plan.motion, quantizers=self._plan.quantizers)
        dealer = self._dealer(container, stream)
        for job in self._plan.jobs:
            primers, packets = dealer.job(job)
            known = prime_decoder(decoder, primers, known)
            yield from self._results_of(job, self._decoded(decoder, job, packets), opened)

    def _dealer(self, container: InputContainer, stream: AVStream) -> Dealer | KeptDealer:
        plan, kept = self._plan, self._kept
        if kept.data is not None:
            return KeptDealer(kept.data, plan.headers, plan.needed_packets, kept.sieves)
        packets = self._until_failure(demux_packets(container, stream))
        return Dealer(packets, plan.headers, plan.needed_packets, kept.sieves)

    def _until_failure(self, packets: Iterator[AnyPacket]) -> Iterator[AnyPacket]:
        """What was read before reading failed is decoded and given before the failure is raised."""
        try:
            yield from packets
        except Exception as caught:
            self._failure = caught

    def _decoded(
        self, decoder: VideoCodecContext, job: DecodeJob, packets: Iterable[tuple[int, AnyPacket]]
    ) -> Iterator[Any]:
        found: deque[Any] = deque()
        for _ in self._decode(decoder, job, packets, found.append):
            while found:
                yield found.popleft()
        yield from found

    def _beside(self, opened: ExitStack) -> Generator[T, None, None]:
        """In threads beside the caller's."""
        plan = self._plan
        count = min(plan.threads, len(plan.jobs)) if self._source.can_share else 1
        container, stream = self._open(opened)
        backlog = Backlog(plan.ahead)
        jobs = [_Job(job, plan.ahead, backlog) for job in plan.jobs]
        turns = _Turns(self._dealer(container, stream), iter(jobs))
        # To open a container takes as long as some frames, so each thread but the first opens its own.
        workers = [
            threading.Thread(
                target=self._work,
                args=(turns, backlog, opened, None if number else stream),
                name="ov2kit-decode",
                daemon=True,
            )
            for number in range(count)
        ]
        for worker in workers:
            worker.start()
        try:
            for job in jobs:
                yield from self._results_of(job.plan, job.taken(), opened)
        finally:
            self._stop.stop()
            for worker in workers:
                worker.join()

    def _open(self, opened: ExitStack) -> tuple[InputContainer, AVStream]:
        container = opened.enter_context(self._source.open())
        return container, choose_stream(
            container, self._source.label, self._stream_index, self._source.max_source_pixels
        )

    def _results_of(self, job: DecodeJob, items: Iterator[Any], opened: ExitStack) -> Iterator[T]:
        given = set()
        while (item := next(items)) is not _END and item is not _DAMAGED:
            if isinstance(item, BaseException):
                raise item
            index, result = item
            given.add(index)
            yield _ready(result)
        if item is _DAMAGED:
            if self._again is None:
                container, stream = self._open(opened)
                prepare_decoder(stream.codec_context, motion=self._plan.motion, quantizers=self._plan.quantizers)
                packets = demux_packets(container, stream)
                self._again = FromStart(packets, stream.codec_context, self._plan, self._emit, self.losses)
            for index, result in self._again.job(job):
                if index not in given:
                    yield _ready(result)

    def _work(self, turns: "_Turns", backlog: Backlog, opened: ExitStack, stream: AVStream | None) -> None:
        """A thread that decodes one job after the other, by the decoder of a stream or of one that it opens."""
        plan, decoder = self._plan, None
        known = -1  # the last packet whose headers this decoder was given
        while backlog.wait(self._stop):
            with turns.next() as turn:
                if turn is None:
                    break
                job, primers, packets = turn
                try:
                    if decoder is None:
                        # Each decoder comes from an opened container: probing has then taught it how far pictures
                        # are reordered. A bare decoder learns that by losing a picture.
                        decoder = (stream or self._open(opened)[1]).codec_context
                        prepare_decoder(
                            decoder, motion=plan.motion, quantizers=plan.quantizers, frame_threads=plan.frame_threads
                        )
                    known = prime_decoder(decoder, primers, known)
                    give = partial(job.put, stop=self._stop)
                    for _ in self._decode(decoder, job.plan, self._stop.until(packets), give):
                        pass
                except StopWork:
                    return
                except BaseException as caught:
                    with contextlib.suppress(StopWork):
                        job.put(caught, self._stop)
        self._on_idle()

    def _decode(
        self,
        decoder: VideoCodecContext,
        job: DecodeJob,
        packets: Iterable[tuple[int, AnyPacket]],
        give: Callable[[Any], None],
    ) -> Iterator[None]:
        """Give what becomes of the pictures of a job, in steps."""
        plan = self._plan
        from_start = job.is_from_start
        may_retry = (plan.retries or not from_start) and self._source.can_share and plan.rank is not None
        held, lost = HeldBack(give, plan.hold if may_retry and not from_start else 0), DecodeLosses()
        references = References(plan.wanted, lost)
        for index, picture in shown_pictures(decoder, packets, plan.rank, lost, plan.wanted_packets):
            decoded = references.shown(index, picture)
            if decoded is not None and not (may_retry and plan.retries and lost.failed_packets):
                held.add((index, self._emit(decoded)))
                yield
        if may_retry and (lost.failed_packets or references.is_damaged or references.given < len(plan.frames_of(job))):
            give(_DAMAGED)
            return
        held.release()
        self.losses.add(lost.failed_packets, lost.corrupt_frames, lost.decoded_frames)
        give(_END)


class _Job:
    """A job and its results, handed on a few at a time: waking whoever waits costs as much as a small frame."""

    def __init__(self, plan: DecodeJob, ahead: int, backlog: Backlog) -> None:
        self.plan, self._backlog = plan, backlog
        self._at_once = max(1, min(_AT_ONCE, ahead // 4))
        self._results: queue.Queue[list[Any]] = queue.Queue(max(1, ahead // self._at_once))
        self._made: list[Any] = []

    def put(self, item: Any, stop: Stop) -> None:
        """Give a result, as soon as there is room for it; what is no result but an end is handed on at once."""
        self._made.append(item)
        if len(self._made) >= self._at_once or not isinstance(item, tuple):
            made, self._made = self._made, []
            put(self._results, made, stop)
            self._backlog.give(len(made))

    def taken(self) -> Iterator[Any]:
        """Results as they come; it has no end."""
        while True:
            made = self._results.get()
            self._backlog.take(len(made))
            yield from made


class _Turns:
    """Jobs and their packets, for whichever thread comes next; packets are read by the thread that decodes them.

    To hand each packet to another thread costs more than it hides, see docs/speed.md.

    Args:
        dealer: of all packets.
        jobs: in file order.
    """

    def __init__(self, dealer: Dealer | KeptDealer, jobs: Iterator[_Job]) -> None:
        self._dealer, self._jobs = dealer, jobs
        self._reading = threading.Lock()

    @contextmanager
    def next(self) -> Iterator[tuple[_Job, Primers, Iterator[tuple[int, AnyPacket]]] | None]:
        """The next job, what comes before it, and its packets; None where there is no job left.

        Packets that are not kept are read before they are decoded. If there are too many, the next thread waits until
        the last is read.
        """
        with ExitStack() as held:
            held.enter_context(self._reading)
            job = next(self._jobs, None)
            if job is None:
                yield None
                return
            primers, packets = self._dealer.job(job.plan)
            if isinstance(self._dealer, KeptDealer):
                held.close()
                yield job, primers, packets
                return
            read, size = [], 0
            for item in packets:
                read.append(item)
                size += item[1].size
                if size > _PACKET_BYTES_AHEAD:
                    break
            else:
                held.close()
            yield job, primers, chain(read, packets)


def prepare_decoder(context: VideoCodecContext, *, motion: bool, quantizers: bool, frame_threads: int = 1) -> None:
    """Options that count only before the first decode: vectors, quantizers, threads, packet identity."""
    options = {"flags2": "+export_mvs"} if motion else {}
    if quantizers:
        options["export_side_data"] = "venc_params"
    if frame_threads > 1:
        options["err_detect"] = "explode"  # what it would conceal is left to a decoder with one thread
    context.options = {**context.options, **options}
    context.thread_type = "NONE" if frame_threads == 1 else "FRAME"
    context.thread_count = frame_threads
    context.copy_opaque = True


def prime_decoder(decoder: VideoCodecContext, primers: Primers, known: int) -> int:
    """Let a decoder see what the stream said before the job: its first packet and each change of headers.

    Args:
        decoder: prepared; what it holds of the job before is dropped.
        primers: packets with their decode index.
        known: the last of them that this decoder has seen, -1 for none.

    Returns:
        The new `known`.
    """
    if decoder.is_open:
        decoder.flush_buffers()
    for index, packet in primers:
        if index > known:
            with contextlib.suppress(av.error.FFmpegError, EOFError):
                decoder.decode(packet)
            known = index
    if primers and decoder.is_open:
        decoder.flush_buffers()
    return known


def _ready(result: "Future[T] | T") -> T:
    return result.result() if isinstance(result, Future) else result
