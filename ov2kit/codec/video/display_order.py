"""From packets of one job to its pictures, in the order in which they are shown."""

import heapq
from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ov2kit.codec.video.losses import DecodeLosses
from ov2kit.codec.video.marks import mark, marked
from ov2kit.codec.video.source import AnyPacket

# A decoder that starts in the middle may guess too short a reordering delay: so many are kept back.
_REORDER = 4
# Decoders that look at skip_frame for every packet.
_SKIPS_NONREF = frozenset({"h264", "hevc", "mpeg2video", "mpeg4"})


def shown_pictures(
    decoder: VideoCodecContext,
    packets: Iterable[tuple[int, AnyPacket]],
    rank: np.ndarray | None,
    losses: DecodeLosses,
    wanted: np.ndarray | None = None,
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode packets to pictures with their display index; a packet that fails is counted and left behind.

    Args:
        decoder: prepared; it is at its end afterwards.
        packets: with their decode index.
        rank: (P,) display index of the frame each packet belongs to, where it is known; pictures are
            counted as they come otherwise.
        losses: counted into.
        wanted: (P,) bool; the decoder may skip other packets that no picture needs.
    """
    order = DisplayOrder(rank)
    skips = wanted is not None and decoder.name in _SKIPS_NONREF
    for index, packet in packets:
        if packet.size == 0:
            continue  # an empty packet would end the stream for the decoder
        mark(packet, index)
        if skips:
            assert wanted is not None
            decoder.skip_frame = "DEFAULT" if wanted[index] else "NONREF"
        yield from order.push(_decoded(decoder, packet, losses))
    yield from order.push(_decoded(decoder, None, losses))
    yield from order.rest()


class DisplayOrder:
    """Puts the pictures of one job in display order.

    Args:
        rank: as for `shown_pictures`.
    """

    def __init__(self, rank: np.ndarray | None) -> None:
        self._rank = rank
        self._count = 0
        self._seen: set[int] = set()
        self._waiting: list[tuple[int, int, VideoFrame]] = []

    def push(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
        """Pictures as the decoder gives them; yields those whose turn has come."""
        for frame in frames:
            index = self._index(frame)
            if index is not None:
                heapq.heappush(self._waiting, (index, self._count, frame))  # counts differ: frames are never compared
                self._count += 1
                yield from self._released(_REORDER if self._rank is not None else 0)

    def rest(self) -> Iterator[tuple[int, VideoFrame]]:
        """Those kept back, after the last picture."""
        yield from self._released(0)

    def _index(self, frame: VideoFrame) -> int | None:
        """Display index; None if the picture is shown nowhere, or a second one of the same time: damage."""
        if self._rank is None:
            return self._count
        packet = marked(frame)
        index = int(self._rank[packet]) if 0 <= packet < len(self._rank) else -1
        if index < 0 or index in self._seen:
            return None
        self._seen.add(index)
        return index

    def _released(self, keep: int) -> Iterator[tuple[int, VideoFrame]]:
        while len(self._waiting) > keep:
            index, _, frame = heapq.heappop(self._waiting)
            yield index, frame


def _decoded(decoder: VideoCodecContext, packet: "AnyPacket | None", losses: DecodeLosses) -> list[VideoFrame]:
    try:
        return decoder.decode(packet)
    except (av.error.FFmpegError, EOFError):
        losses.add(failed=1)
        return []
