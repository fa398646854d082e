"""GroupDecode: the wanted frames of a group, from a decoder that goes on with the stream."""

import heapq
from collections.abc import Sequence

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ov2kit.codec.live.window import HeldPacket, Window
from ov2kit.codec.video.display_order import SKIPS_NONREF
from ov2kit.codec.video.frame import Frame
from ov2kit.codec.video.frame_maker import FrameMaker
from ov2kit.codec.video.losses import DecodeLosses
from ov2kit.codec.video.marks import mark, marked
from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.references import References
from ov2kit.codec.video.sieves import sieves_of, sift

_REORDER = 4  # pictures that a decoder may give ahead of their turn
_PATIENCE = 18  # packets that are waited for a picture: no codec holds back more
# Of AV1 all pictures are compared, that before the first of the next group too: which one that is comes later.
_SIEVED = frozenset({"hevc"})


class LiveDecoder:
    """One decoder from the start of a stream on; a packet that fails is counted and left behind.

    Args:
        context: prepared.

    Attributes:
        lost: what it could not use.
        carried: pictures that it gave before their turn, by the number of their packet.
        picture: the last one it gave.
    """

    def __init__(self, context: VideoCodecContext) -> None:
        self._context = context
        self._skips = context.name in SKIPS_NONREF
        codec = context.codec.canonical_name
        sieves = sieves_of(codec, context.extradata) if codec in _SIEVED else None
        self._sieve = sieves and sieves()
        self.lost = DecodeLosses()
        self.carried: list[tuple[int, VideoFrame]] = []
        self.picture: VideoFrame | None = None

    def feed(self, item: HeldPacket, *, may_skip: bool = False) -> None:
        """Decode one packet that it has not been given yet; its pictures go to `carried`.

        Args:
            item: gives its packet away.
            may_skip: the picture is not wanted, and may be skipped if no other needs it.
        """
        packet, item.packet = item.packet, None
        if packet is None or packet.size == 0:
            return
        if self._sieve is not None:
            packet = sift(packet, not may_skip, self._sieve)
            if packet is None:
                return
        mark(packet, item.number)
        if self._skips:
            self._context.skip_frame = "NONREF" if may_skip else "DEFAULT"
        try:
            pictures = self._context.decode(packet)
        except (av.error.FFmpegError, EOFError):
            self.lost.add(failed=1)
            return
        self._carry(pictures)

    def restart(self) -> None:
        """Packets are left out; the next one needs nothing before it."""
        self._context.flush_buffers()
        self.carried = []

    def drain(self) -> None:
        """Give all pictures that are held back; the decoder is at its end afterwards."""
        try:
            self._carry(self._context.decode(None))
        except (av.error.FFmpegError, EOFError):
            return

    def _carry(self, pictures: Sequence[VideoFrame]) -> None:
        for picture in pictures:
            self.carried.append((marked(picture), picture))
            self.picture = picture


class GroupDecode:
    """Decode up to the last wanted frame of a group, packet by packet as they are there.

    Args:
        decoder: of the stream.
        window: its packets.
        table: of the window when the group was planned.
        wanted: (n,) frames of the table.
        stop: one past the last frame of the group.
        maker: of frames, by the table.
        references: of the stream, counted by the table.
    """

    def __init__(
        self,
        decoder: LiveDecoder,
        window: Window,
        table: PacketTable,
        wanted: np.ndarray,
        stop: int,
        maker: FrameMaker,
        references: References,
    ) -> None:
        self._decoder, self._window, self._maker, self._references = decoder, window, maker, references
        self._stop = stop
        ranks = zip(window, table.frame_of_packet.tolist(), strict=True)
        self._rank = {item.number: frame if item.begins else -1 for item, frame in ranks}
        self._newest = max(self._rank)
        self._missing = set(wanted.tolist())
        self._wanted = frozenset(self._missing)
        self._last = max(n for n, frame in self._rank.items() if frame in self._missing)
        self._waiting: list[tuple[int, int, VideoFrame]] = []
        self._seen: set[int] = set()
        self._count = 0
        self._after = 0
        self.frames: list[Frame] = []
        self._take()

    def advance(self, *, force: bool = False, drain: bool = False) -> bool:
        """Decode what is there, until the frames are complete.

        Args:
            force: nothing more will come; what is missing is lost.
            drain: the decoder gives what it holds back, and takes nothing more.

        Returns:
            Whether `frames` is complete.
        """
        for item in self._window:
            if self._is_complete:
                break
            if item.packet is None:
                continue
            frame = self._rank.get(item.number, -1)
            is_over = item.begins == 0 and item.nbytes == 0
            self._decoder.feed(item, may_skip=is_over or (0 <= frame < self._stop and frame not in self._wanted))
            self._after += item.number > self._last
            self._take()
        if drain and not self._is_complete:
            self._decoder.drain()
            self._take()
        if not (force or self._is_complete):
            return False
        self._release(0)
        self._decoder.carried = [(number, picture) for _, number, picture in sorted(self._waiting, key=lambda w: w[:2])]
        return True

    @property
    def _is_complete(self) -> bool:
        return not self._missing or self._after >= _PATIENCE

    def _take(self) -> None:
        """Pictures that the decoder has given, in display order."""
        carried, self._decoder.carried = self._decoder.carried, []
        for number, picture in carried:
            # what came in after the plan was made is of a later group
            frame = self._stop + number if number > self._newest else self._rank.get(number, -1)
            if frame < 0 or frame in self._seen:
                continue
            self._seen.add(frame)
            heapq.heappush(self._waiting, (frame, number, picture))
            self._missing.discard(frame)
            if frame < self._stop:  # what is this far behind a picture that came will not come
                self._missing -= {each for each in self._missing if each < frame - _REORDER}
        self._release(_REORDER)

    def _release(self, keep: int) -> None:
        while len(self._waiting) > keep and self._waiting[0][0] < self._stop:
            frame, _, picture = heapq.heappop(self._waiting)
            decoded = self._references.shown(frame, picture)
            if decoded is not None:
                self.frames.append(self._maker.frame(decoded))
