"""Decoding jobs side by side, each in one thread, their frames in file order.

FFmpeg's motion vectors are right only without frame threads (frame threads give other vectors on
each run, without an error), so both cores are used by decoding keyframe intervals next to each
other; a single interval of a codec without vectors may use frame threads. One demuxer feeds all
decoders; queues are bounded, so memory does not grow with the video.
"""

import heapq
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ov2kit.codec.plan import DecodeJob
from ov2kit.codec.source import AnyPacket, Source, choose_stream

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


class _StopWork(Exception):  # noqa: N818 - not an error
    """The consumer has gone; threads unwind."""


class _PacketQueue:
    """Packets of one job; `put` waits while too many bytes are ahead in all jobs together."""

    def __init__(self, room: "_Room") -> None:
        self._items: queue.SimpleQueue[tuple[int, AnyPacket] | None] = queue.SimpleQueue()
        self._room = room

    def put(self, index: int, packet: AnyPacket) -> None:
        self._room.take(packet.size)
        self._items.put((index, packet))

    def close(self) -> None:
        self._items.put(None)

    def __iter__(self) -> Iterator[tuple[int, AnyPacket]]:
        while (item := self._items.get()) is not None:
            yield item
            self._room.give(item[1].size)
        if self._room.stopped:
            raise _StopWork


class _Room:
    """A count of bytes in flight that never blocks the only packet in flight."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._ready = threading.Condition()
        self.stopped = False

    def take(self, size: int) -> None:
        with self._ready:
            while self._used and self._used + size > self._limit and not self.stopped:
                self._ready.wait()
            if self.stopped:
                raise _StopWork
            self._used += size

    def give(self, size: int) -> None:
        with self._ready:
            self._used -= size
            self._ready.notify()

    def stop(self) -> None:
        with self._ready:
            self.stopped = True
            self._ready.notify_all()


@dataclass(frozen=True)
class DecodedFrame:
    """A wanted picture with the picture it was predicted from.

    Args:
        packet: decode index of its packet.
        order: output count within its job, for files whose display order is unknown.
        picture: the frame as FFmpeg decoded it.
        reference: the last I or P picture shown before it in the same job; None if there is none.
        reference_packet: decode index of the reference's packet, -1 without one.
        reference_order: output count of the reference.
    """

    packet: int
    order: int
    picture: VideoFrame
    reference: VideoFrame | None
    reference_packet: int
    reference_order: int


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
    frame_threads: int = 1,
    quantizers: bool = False,
    on_idle: Callable[[], None] = lambda: None,
) -> Iterator[T]:
    """Decode `jobs` and yield ``emit(frame)`` for each wanted frame, in job and output order.

    Args:
        source: read from its start until the jobs are done; a file object allows one decoder only.
        stream_index: the video stream.
        jobs: from `plan_jobs`.
        wanted: (P,) bool over packets; None for every frame.
        emit: called in the decoding thread; may return a Future, whose result is then yielded.
        rank: (P,) display index of each packet, where it is known; frames then come in that order
            even where a decoder that starts in the middle guesses too short a reordering delay.
        motion: export motion vectors.
        threads: decoders at work at the same time; at least 1.
        losses: counted into.
        frame_threads: threads inside each decoder; more than 1 only where no vectors are wanted.
        quantizers: export the quantiser of each block, where the decoder can.
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
            _feed(containers[0].demux(streams[0]), work)
        except _StopWork:
            pass
        except BaseException as caught:
            failure.append(caught)
        finally:
            for job in work:
                job.packets.close()

    def run(decoder: VideoCodecContext) -> None:
        _prepare(decoder, motion, quantizers, frame_threads)
        while not room.stopped:
            try:
                job = pending.get_nowait()
            except queue.Empty:
                on_idle()
                return
            try:
                if decoder.is_open:
                    decoder.flush_buffers()
                for result in _decode(decoder, job.packets, wanted, rank, emit, losses):
                    _put(job.results, result, room)
                _put(job.results, _END, room)
            except _StopWork:
                return
            except BaseException as caught:
                try:
                    _put(job.results, caught, room)
                except _StopWork:
                    return

    failure: list[BaseException] = []
    workers = [threading.Thread(target=feed, name="ov2kit-demux", daemon=True)]
    workers += [
        threading.Thread(target=run, args=(s.codec_context,), name="ov2kit-decode", daemon=True) for s in streams
    ]
    for worker in workers:
        worker.start()
    try:
        for job in work:
            while (result := job.results.get()) is not _END:
                if isinstance(result, BaseException):
                    raise result
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


def _feed(packets: Iterator[AnyPacket], work: "list[_Job[T]]") -> None:
    """Deal packets to the jobs that want them; stops reading after the last."""
    spans = [(start, stop, job) for job in work for start, stop in job.plan.ranges]
    at = 0
    index = -1
    for packet in packets:
        if packet.size == 0 and packet.pts is None and packet.dts is None:
            continue
        index += 1
        start, stop, job = spans[at]
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
    """Options that count only before the first decode: vectors, quantisers, threads, packet identity."""
    options = {"flags2": "+export_mvs"} if motion else {}
    if quantizers:
        options["export_side_data"] = "venc_params"
    context.options = {**context.options, **options}
    context.thread_type = "NONE" if frame_threads == 1 else "FRAME"
    context.thread_count = frame_threads
    context.copy_opaque = True


def _decode(
    decoder: VideoCodecContext,
    packets: _PacketQueue,
    wanted: np.ndarray | None,
    rank: np.ndarray | None,
    emit: Callable[[DecodedFrame], T],
    losses: DecodeLosses,
) -> Iterator[T]:
    """Frames of one job; a packet that fails is counted and left behind."""
    skips = wanted is not None and rank is not None and decoder.name in _SKIPS_NONREF
    failed = corrupt = order = 0
    waiting: list[tuple[int, int, VideoFrame]] = []
    reference: tuple[VideoFrame, int, int] | None = None
    last: tuple[VideoFrame, int, int] | None = None

    def in_order(frames: list[VideoFrame], keep: int) -> Iterator[tuple[int, VideoFrame]]:
        for frame in frames:
            if frame.opaque is None:
                raise RuntimeError(f"decoder {decoder.name} loses track of its packets; please report the file")
            packet = frame.opaque[0]  # type: ignore[index]
            heapq.heappush(waiting, (int(rank[packet]) if rank is not None else order + len(waiting), packet, frame))
            while len(waiting) > keep:
                yield heapq.heappop(waiting)[1:]
        while len(waiting) > keep:
            yield heapq.heappop(waiting)[1:]

    def shown(frames: list[VideoFrame], keep: int) -> Iterator[T]:
        nonlocal corrupt, order, reference, last
        for packet, frame in in_order(frames, keep if rank is not None else 0):
            before = reference
            # Streams that only bend forward (all B after one I) would compare with the distant past.
            if last is not None and (before is None or order - before[2] > _MAX_REFERENCE_DISTANCE):
                before = last
            if wanted is None or wanted[packet]:
                picture, at, count = before if before is not None else (None, -1, -1)
                corrupt += bool(frame.is_corrupt)
                yield emit(DecodedFrame(packet, order, frame, picture, at, count))
            last = (frame, packet, order)
            if frame.pict_type != _B:
                reference = last
            order += 1

    try:
        for index, packet in packets:
            packet.opaque = [index]  # PyAV finds marks by identity: equal integers would be one mark
            if skips:
                assert wanted is not None
                decoder.skip_frame = "DEFAULT" if wanted[index] else "NONREF"
            try:
                frames = decoder.decode(packet)
            except (av.error.FFmpegError, EOFError):
                failed += 1
                continue
            yield from shown(frames, _REORDER)
        try:
            tail = decoder.decode(None)
        except (av.error.FFmpegError, EOFError):
            failed, tail = failed + 1, []
        yield from shown(tail, 0)
    finally:
        losses.add(failed, corrupt, order)


_B = 3  # AV_PICTURE_TYPE_B; PyAV gives pict_type as a plain int
_MAX_REFERENCE_DISTANCE = 16
_REORDER = 4
_END = object()  # after the last result of a job
