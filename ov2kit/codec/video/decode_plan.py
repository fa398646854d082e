"""DecodePlan: all that a decoding loop is to do, settled before the first packet is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ov2kit.codec.video.frame import StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.jobs import DecodeJob, plan_jobs
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.pictures import picture_bytes
from ov2kit.codec.video.vectors import VECTOR

_FRAMES_HELD = 90
_FRAMES_AHEAD = 96
_BYTES_HELD = 64 << 20
# Codecs whose pictures are the same whatever the number of threads in a decoder: VP9 always, the others up to damage
# that the decoder reports, after which one thread decodes again (what HEVC's does not notice may look different).
# What other codecs conceal depends on threads, and so do vectors.
_FRAME_THREADS, _FRAME_THREADS_AND_RETRY = frozenset({"vp9"}), frozenset({"hevc", "av1"})
# Codecs that know no B pictures: each is compared with the one shown before it.
_ALL_ARE_COMPARED = frozenset({"av1"})
_LONGEST = 1.25  # of an even share of the work
_MACROBLOCK_PIXELS, _VECTORS_OF_MACROBLOCK = 256, 2  # partitions, and two references in B pictures


@dataclass(frozen=True)
class DecodePlan:
    """Letters: P packets in decode order, F frames in display order.

    Args:
        jobs: in file order.
        wanted: (F,) bool over frames.
        needed: (F,) bool: wanted, and those that wanted ones are compared with, where the decoder does not tell which
            of the others to pass over.
        rank: (P,) display index of the frame each packet belongs to; None where it is not known:
            frames are then known by the order in which the decoder gives them.
        headers: packets that bring other codec headers than those before them. A decoder that starts
            behind them is given them, and the first packet of the stream, before its own.
        retries: a job from the start of the stream that meets damage is decoded again too, with nothing left out: other
            threads, or other frames that are wanted, would have met other damage.
        hold: most frames of a job that are kept back until all of it is known to be sound.
        ahead: most frames of a job that wait to be taken after that.
        motion: export motion vectors.
        quantizers: export the quantizer of each block, where the decoder can.
        threads: decoders at work at the same time; at least 1.
        frame_threads: threads inside each decoder; more than 1 only for one decoder of a codec without vectors.
        beside: decode in threads beside the caller's.
    """

    jobs: tuple[DecodeJob, ...]
    wanted: np.ndarray
    needed: np.ndarray
    rank: np.ndarray | None
    headers: frozenset[int]
    retries: bool
    hold: int
    ahead: int
    motion: bool
    quantizers: bool
    threads: int
    frame_threads: int
    beside: bool

    @cached_property
    def wanted_packets(self) -> np.ndarray | None:
        """(P,) bool, None where the frame of a packet is not known."""
        return None if self.rank is None else (self.rank >= 0) & self.wanted[self.rank]

    @cached_property
    def needed_packets(self) -> np.ndarray | None:
        """(P,) bool, None where the frame of a packet is not known."""
        return None if self.rank is None else (self.rank >= 0) & self.needed[self.rank]

    def frames_of(self, job: DecodeJob) -> set[int]:
        """Display indices that a job is to give; `rank` is known."""
        wanted = self.wanted_packets
        assert wanted is not None
        return self._frames_of(job, wanted & self._ends_frame)

    def shown_by(self, job: DecodeJob) -> set[int]:
        """Display indices of the pictures of a job; a hidden picture at its end may belong to the first of the next."""
        return self._frames_of(job, self._ends_frame)

    def _frames_of(self, job: DecodeJob, packets: np.ndarray) -> set[int]:
        rank = self.rank
        assert rank is not None
        return {frame for start, stop in job.ranges for frame in rank[start:stop][packets[start:stop]].tolist()}

    @cached_property
    def _ends_frame(self) -> np.ndarray:
        """(P,) bool: the last packet of a frame."""
        assert self.rank is not None
        ends: np.ndarray = np.append(self.rank[1:] != self.rank[:-1], True) & (self.rank >= 0)
        return ends


def plan_decode(
    table: PacketTable,
    info: StreamInfo,
    wanted: np.ndarray,
    request: FrameRequest,
    threads: int,
    can_retry: bool = True,
) -> DecodePlan:
    """The plan for the frames `wanted`, (F,) bool; `can_retry` says whether the stream can be read a second time."""
    rank = table.frame_of_packet
    jobs = plan_jobs(table, (rank >= 0) & wanted[rank]) if wanted.any() else []
    may = info.codec in _FRAME_THREADS or (can_retry and table.exact and info.codec in _FRAME_THREADS_AND_RETRY)
    inside = may and not table.is_corrupt.any() and _is_lopsided(jobs, threads)
    return DecodePlan(
        jobs=tuple(jobs),
        wanted=wanted,
        needed=wanted | np.append(wanted[1:], False) if info.codec in _ALL_ARE_COMPARED else wanted,
        rank=rank if table.exact else None,
        headers=frozenset({0, *table.headers.tolist()}),
        retries=inside or info.codec in _ALL_ARE_COMPARED,
        hold=_frames_within(_FRAMES_HELD, request, info),
        ahead=_frames_within(_FRAMES_AHEAD, request, info),
        motion=request.motion and info.exports_motion,
        quantizers=request.quantizer and info.codec == "h264",
        threads=1 if inside else threads,
        frame_threads=threads if inside else 1,
        beside=inside or threads > 1,
    )


def _is_lopsided(jobs: Sequence[DecodeJob], threads: int) -> bool:
    """Whether decoders side by side, each on the next job when it has none, would wait long for the last of them."""
    ends = [0] * threads
    for job in jobs:
        ends[ends.index(min(ends))] += sum(stop - start for start, stop in job.ranges)
    return max(ends) * threads > _LONGEST * sum(ends)


def _frames_within(most: int, request: FrameRequest, info: StreamInfo) -> int:
    """How many frames may wait, so that their pictures and vectors stay within a number of bytes."""
    rgb = (request.size or info.display_size) if request.rgb else (0, 0)
    luma = request.luma_size or (0, 0)
    nbytes = 3 * rgb[0] * rgb[1] + 2 * luma[0] * luma[1]
    if request.picture:
        nbytes += picture_bytes(info.coded_size, info.pix_fmt)
    if request.motion and info.exports_motion:
        macroblocks = info.coded_size[0] * info.coded_size[1] // _MACROBLOCK_PIXELS
        nbytes += macroblocks * _VECTORS_OF_MACROBLOCK * VECTOR.itemsize
    return max(2, min(most, _BYTES_HELD // max(1, nbytes)))
