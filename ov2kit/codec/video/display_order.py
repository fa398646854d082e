"""From packets of one job to its pictures, in the order in which they are shown."""

import heapq
from collections.abc import Iterable, Iterator
from itertools import chain

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ov2kit.codec.video.losses import DecodeLosses
from ov2kit.codec.video.marks import mark, marked
from ov2kit.codec.video.source import AnyPacket

# A decoder that starts in the middle may guess too short a reordering delay: so many are kept back.
_REORDER = 4
# Decoders that look at skip_frame for every packet, and know which pictures no other needs. That of HEVC does not look
# at layers: a sieve does.
SKIPS_NONREF = frozenset({"h264", "mpeg2video", "mpeg4"})


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
    places, held_back = _Places(rank), _REORDER if rank is not None else 0
    waiting: list[tuple[int, int, VideoFrame]] = []
    needs = wanted.data if wanted is not None and decoder.name in SKIPS_NONREF else None
    told: int | None = None
    for index, packet in chain(packets, ((-1, None),)):
        if packet is not None:
            if packet.size == 0:
                continue  # an empty packet would end the stream for the decoder
            mark(packet, index)
            if needs is not None and needs[index] != told:
                told = needs[index]
                decoder.skip_frame = "DEFAULT" if told else "NONREF"
        try:
            frames = decoder.decode(packet)
        except (av.error.FFmpegError, EOFError):
            losses.add(failed=1)
            continue
        for frame in frames:
            place = places.of(frame)
            if place is None:
                continue
            found = (place, places.given, frame)  # counts differ: frames are never compared
            if len(waiting) < held_back:
                heapq.heappush(waiting, found)
            else:
                yield heapq.heappushpop(waiting, found)[::2]
    while waiting:
        yield heapq.heappop(waiting)[::2]


class _Places:
    """Where the pictures of one job belong in display order.

    Args:
        rank: as for `shown_pictures`.

    Attributes:
        given: pictures that have a place, so far.
    """

    def __init__(self, rank: np.ndarray | None) -> None:
        self._rank = None if rank is None else rank.data
        self._seen: set[int] = set()
        self.given = 0

    def of(self, frame: VideoFrame) -> int | None:
        """Display index; None if the picture is shown nowhere, or a second one of the same time: damage."""
        if self._rank is None:
            place = self.given
        else:
            packet = marked(frame)
            place = self._rank[packet] if 0 <= packet < len(self._rank) else -1
            if place < 0 or place in self._seen:
                return None
            self._seen.add(place)
        self.given += 1
        return place
