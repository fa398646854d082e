"""Decoding jobs side by side, each in one thread, their frames in file order.

FFmpeg's motion vectors are right only without frame threads (frame threads give other vectors on
each run, without an error), so both cores are used by decoding keyframe intervals next to each
other; a single interval of a codec without vectors may use frame threads. One demuxer feeds all
decoders; queues are bounded, so memory does not grow with the video.
"""

import contextlib
import heapq
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ov2kit.codec.video.jobs import DecodeJob
from ov2kit.codec.video.marks import mark, marked
from ov2kit.codec.video.queues import _PacketQueue, _Room, _StopWork
from ov2kit.codec.video.source import AnyPacket, Source, choose_stream, demux_packets

T = TypeVar("T")

_PACKET_BYTES_AHEAD = 16 << 20
_RESULTS_AHEAD = 96
# Decoders that look at skip_frame for every packet.
_SKIPS_NONREF = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})


@dataclass
class DecodeLosses:
    """What a decoding run could not use."""

    failed_packets: int = 0
    corrupt_frames: int = 0
    decoded_frames: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, failed: int, corrupt: int, decoded: int) -> None:
        with self.lock:
            self.failed_packets += failed
            self.corrupt_frames += corrupt
            self.decoded_frames += decoded


@dataclass(frozen=True)
class DecodedFrame:
    """A wanted picture with the picture it was predicted from.

    Args:
        index: display index; within its job where display order is unknown.
        picture: the frame as FFmpeg decoded it.
        reference: the last I or P picture shown before it in the same job; None if there is none.
        reference_index: display index of the reference, -1 without one.
    """

    index: int
    picture: VideoFrame
    reference: VideoFrame | None
    reference_index: int


class _Job(Generic[T]):
    def __init__(self, plan: DecodeJob, room: _Room) -> None:
        self.plan = plan
        self.packets = _PacketQueue(room)
        self.results: queue.Queue[Any] = queue.Queue(_RESULTS_AHEAD)


def decode_jobs(
    source: Source,
    stream_index: int,
    jobs: list[DecodeJob],
    wanted: np.ndarray | None,
    emit: Callable[[DecodedFrame], T],
    *,
    rank: np.ndarray | None,
    motion: bool,
    threads: int,
    losses: DecodeLosses,
    headers: Sequence[int] = (),
    hold: int = _RESULTS_AHEAD,
    frame_threads: int = 1,
    quantizers: bool = False,
    on_idle: Callable[[], None] = lambda: None,
) -> Iterator[T]:
    """Decode `jobs` and yield ``emit(frame)`` for each wanted frame, in job and output order.

    A job that starts in the middle of the stream and meets damage, or lacks a picture, is decoded
    again from the start of the stream: what it missed may have been told there.

    Args:
        source: read from its start until the jobs are done; a file object allows one decoder only.
        stream_index: the video stream.
        jobs: from `plan_jobs`.
        wanted: (P,) bool over packets; None for every frame.
        emit: called in the decoding thread; may return a Future, whose result is then yielded.
        rank: (P,) display index of the frame each packet belongs to, where it is known; frames then
            come in that order even where a decoder that starts in the middle guesses too short a
            reordering delay.
        motion: export motion vectors.
        threads: decoders at work at the same time; at least 1.
        losses: counted into.
        headers: packets that change the codec headers; a decoder that starts behind them is given
            them, and the first packet of the stream, before its own.
        hold: most frames of a job that are kept back until all of it is known to be sound.
        frame_threads: threads inside each decoder; more than 1 only where no vectors are wanted.
        quantizers: export the quantizer of each block, where the decoder can.
        on_idle: called by each decoding thread once there is no job left for it.

    Raises:
        Whatever `emit` or the demuxer raises.
    """
    if not jobs:
        return
    threads = min(threads, len(jobs)) if source.can_share else 1
    room = _Room(_PACKET_BYTES_AHEAD)
    work = [_Job[T](plan, room) for plan in jobs]
    pending: queue.SimpleQueue[_Job[T]] = queue.SimpleQueue()
    for job in work:
        pending.put(job)
    # Each decoder comes from an opened container: probing has then told it how far pictures are
    # reordered. A bare decoder learns that by losing a picture.
    opened = ExitStack()
    containers = [opened.enter_context(source.open()) for _ in range(threads)]
    streams = [
        choose_stream(container, source.label, stream_index, source.max_source_pixels) for container in containers
    ]

    def feed() -> None:
        try:
            _feed(demux_packets(containers[0], streams[0]), work, {0, *headers})
        except _StopWork:
            pass
        except BaseException as caught:
            failure.append(caught)
        finally:
            for job in work:
                job.packets.close()

    def run(decoder: VideoCodecContext) -> None:
        _prepare(decoder, motion, quantizers, frame_threads)
        known = -1  # the last packet whose headers this decoder was given
        while not room.stopped:
            try:
                job = pending.get_nowait()
            except queue.Empty:
                on_idle()
                return
            try:
                if decoder.is_open:
                    decoder.flush_buffers()
                known = _prime(decoder, job, known)
                _run_job(decoder, job)
            except _StopWork:
                return
            except BaseException as caught:
                try:
                    _put(job.results, caught, room)
                except _StopWork:
                    return

    def _run_job(decoder: VideoCodecContext, job: "_Job[T]") -> None:
        has_gaps = not job.plan.is_from_start
        may_retry = has_gaps and source.can_share and rank is not None
        lost = DecodeLosses()
        held: list[tuple[int, T]] = []
        pictures = _References(wanted_frames, emit, lost)
        is_holding = may_retry
        for index, frame in _identified(decoder, job.packets, wanted, rank, lost):
            for result in pictures.shown(index, frame):
                if not is_holding:
                    _put(job.results, (index, result), room)
                    continue
                held.append((index, result))
                if len(held) > hold:
                    is_holding = False
                    for item in held:
                        _put(job.results, item, room)
                    held = []
        short = rank is not None and wanted is not None and pictures.given < len(_frames_of(job.plan, wanted, rank))
        if may_retry and (lost.failed_packets or pictures.is_damaged or short):
            _put(job.results, _DAMAGED, room)
            return
        for item in held:
            _put(job.results, item, room)
        losses.add(lost.failed_packets, lost.corrupt_frames, lost.decoded_frames)
        _put(job.results, _END, room)

    wanted_frames = None if wanted is None or rank is None else frozenset(rank[wanted & (rank >= 0)].tolist())
    again: _FromStart | None = None
    failure: list[BaseException] = []
    workers = [threading.Thread(target=feed, name="ov2kit-demux", daemon=True)]
    workers += [
        threading.Thread(target=run, args=(s.codec_context,), name="ov2kit-decode", daemon=True) for s in streams
    ]
    for worker in workers:
        worker.start()
    try:
        for job in work:
            given = set()
            while (item := job.results.get()) is not _END and item is not _DAMAGED:
                if isinstance(item, BaseException):
                    raise item
                index, result = item
                given.add(index)
                yield result.result() if isinstance(result, Future) else result
            if item is _DAMAGED:
                assert rank is not None
                if again is None:
                    container = opened.enter_context(source.open())
                    stream = choose_stream(container, source.label, stream_index, source.max_source_pixels)
                    _prepare(stream.codec_context, motion, quantizers, 1)
                    again = _FromStart(demux_packets(container, stream), stream.codec_context, rank)
                every = np.ones(len(rank), dtype=bool) if wanted is None else wanted
                for index, result in again.job(job.plan, every, wanted_frames, emit, losses):
                    if index not in given:
                        yield result.result() if isinstance(result, Future) else result
        if failure:
            raise failure[0]
    finally:
        room.stop()
        for job in work:
            job.packets.close()
        for worker in workers:
            worker.join()
        opened.close()


def _feed(packets: Iterator[AnyPacket], work: "list[_Job[T]]", headers: set[int]) -> None:
    """Deal packets to the jobs that want them; stops reading after the last."""
    spans = [(start, stop, job) for job in work for start, stop in job.plan.ranges]
    at = 0
    primers: list[tuple[int, AnyPacket]] = []
    for index, packet in enumerate(packets):
        start, stop, job = spans[at]
        if index == start and job.packets.before is None:
            job.packets.begin(tuple(primers))
        if index in headers:
            primers.append((index, packet))
        if index < start:
            continue
        job.packets.put(index, packet)
        if index == stop - 1:
            at += 1
            if at == len(spans):
                return
            if spans[at][2] is not job:
                job.packets.close()


def _put(results: "queue.Queue[Any]", item: Any, room: _Room) -> None:
    while True:
        if room.stopped:
            raise _StopWork
        try:
            return results.put(item, timeout=0.1)
        except queue.Full:
            continue


def _prepare(context: VideoCodecContext, motion: bool, quantizers: bool, frame_threads: int) -> None:
    """Options that count only before the first decode: vectors, quantizers, threads, packet identity."""
    options = {"flags2": "+export_mvs"} if motion else {}
    if quantizers:
        options["export_side_data"] = "venc_params"
    context.options = {**context.options, **options}
    context.thread_type = "NONE" if frame_threads == 1 else "FRAME"
    context.thread_count = frame_threads
    context.copy_opaque = True


def _prime(decoder: VideoCodecContext, job: "_Job[T]", known: int) -> int:
    """Let a decoder see what the stream said before the job: its first packet and each change of headers."""
    primers = job.packets.wait()
    for index, packet in primers:
        if index > known:
            with contextlib.suppress(av.error.FFmpegError, EOFError):
                decoder.decode(packet)
            known = index
    if primers and decoder.is_open:
        decoder.flush_buffers()
    return known


def _identified(
    decoder: VideoCodecContext,
    packets: Iterable[tuple[int, AnyPacket]],
    wanted: np.ndarray | None,
    rank: np.ndarray | None,
    losses: DecodeLosses,
) -> Iterator[tuple[int, VideoFrame]]:
    """Frames with their display index, in display order; a packet that fails is counted and left behind."""
    skips = wanted is not None and rank is not None and decoder.name in _SKIPS_NONREF
    waiting: list[tuple[int, int, VideoFrame]] = []
    count = 0
    pushed: set[int] = set()

    def in_order(frames: list[VideoFrame], keep: int) -> Iterator[tuple[int, VideoFrame]]:
        nonlocal count
        for frame in frames:
            index = count
            if rank is not None:
                packet = marked(frame)
                index = int(rank[packet]) if 0 <= packet < len(rank) else -1
                if index < 0 or index in pushed:
                    continue  # shown nowhere, or a second picture of the same time: damage
                pushed.add(index)
            heapq.heappush(waiting, (index, count, frame))  # the count is unique: frames are never compared
            count += 1
            while len(waiting) > keep:
                first, _, oldest = heapq.heappop(waiting)
                yield first, oldest
        while len(waiting) > keep:
            first, _, oldest = heapq.heappop(waiting)
            yield first, oldest

    reorder = _REORDER if rank is not None else 0
    for index, packet in packets:
        if packet.size == 0:
            continue  # an empty packet would end the stream for the decoder
        mark(packet, index)
        if skips:
            assert wanted is not None
            decoder.skip_frame = "DEFAULT" if wanted[index] else "NONREF"
        try:
            frames = decoder.decode(packet)
        except (av.error.FFmpegError, EOFError):
            losses.add(1, 0, 0)
            continue
        yield from in_order(frames, reorder)
    try:
        tail = decoder.decode(None)
    except (av.error.FFmpegError, EOFError):
        losses.add(1, 0, 0)
        tail = []
    yield from in_order(tail, 0)


class _References(Generic[T]):
    """Gives each wanted picture with the picture it is compared with."""

    def __init__(self, wanted: frozenset[int] | None, emit: Callable[[DecodedFrame], T], losses: DecodeLosses) -> None:
        self._wanted, self._emit, self._losses = wanted, emit, losses
        self._reference: tuple[VideoFrame, int, int] | None = None
        self._last: tuple[VideoFrame, int, int] | None = None
        self._order = 0
        self.given = 0
        self.is_damaged = False

    def shown(self, index: int, frame: VideoFrame) -> Iterator[T]:
        before = self._reference
        # Streams that only bend forward (all B after one I) would compare with the distant past.
        if self._last is not None and (before is None or self._order - before[2] > _MAX_REFERENCE_DISTANCE):
            before = self._last
        is_wanted = self._wanted is None or index in self._wanted
        self.is_damaged = self.is_damaged or bool(frame.is_corrupt)  # later pictures are made from it
        self._losses.add(0, bool(frame.is_corrupt) and is_wanted, 1)
        if is_wanted:
            picture, at = (before[0], before[1]) if before is not None else (None, -1)
            self.given += 1
            yield self._emit(DecodedFrame(index, frame, picture, at))
        self._last = (frame, index, self._order)
        if frame.pict_type != _B:
            self._reference = self._last
        self._order += 1


class _FromStart:
    """One decode of the stream from its start, which damaged jobs share: it only ever goes forward."""

    def __init__(self, packets: Iterator[AnyPacket], decoder: VideoCodecContext, rank: np.ndarray) -> None:
        self._rank = rank
        self._lost = DecodeLosses()
        self._frames = _identified(decoder, enumerate(packets), None, rank, self._lost)
        self._next: tuple[int, VideoFrame] | None = None

    def job(
        self,
        plan: DecodeJob,
        wanted: np.ndarray,
        wanted_frames: frozenset[int] | None,
        emit: Callable[[DecodedFrame], T],
        losses: DecodeLosses,
    ) -> Iterator[tuple[int, T]]:
        """Frames of the job, with their indices."""
        mine = {int(i) for start, stop in plan.ranges for i in self._rank[start:stop] if i >= 0}
        last = max(_frames_of(plan, wanted, self._rank), default=-1)
        self._lost.failed_packets = 0
        lost = DecodeLosses()
        pictures = _References(wanted_frames, emit, lost)
        while (found := self._next or next(self._frames, None)) is not None:
            self._next = None
            index, frame = found
            if index > last:
                self._next = found
                break
            if index in mine:
                for result in pictures.shown(index, frame):
                    yield index, result
        losses.add(self._lost.failed_packets, lost.corrupt_frames, lost.decoded_frames)


def _frames_of(plan: DecodeJob, wanted: np.ndarray, rank: np.ndarray) -> set[int]:
    """Display indices that a job is to give."""
    return {int(i) for start, stop in plan.ranges for i in rank[start:stop][wanted[start:stop]] if i >= 0}


_B = 3  # AV_PICTURE_TYPE_B; PyAV gives pict_type as a plain int
_MAX_REFERENCE_DISTANCE = 16
_REORDER = 4
_END = object()  # after the last result of a job
_DAMAGED = object()  # in its place: what was not given is to be decoded again
