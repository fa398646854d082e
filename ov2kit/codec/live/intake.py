"""Intake: packets as they come from a demuxer -> packets with times on the clock of the stream."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction

from av.video.stream import VideoStream as AVStream

from ov2kit.codec.live.clock import StreamClock
from ov2kit.codec.live.first_stamp import FirstStamp
from ov2kit.codec.live.group_decode import LiveDecoder
from ov2kit.codec.live.window import HeldPacket
from ov2kit.codec.video.entry_points import starts_at
from ov2kit.codec.video.headers import HeaderChanges
from ov2kit.codec.video.packets import nominal_duration
from ov2kit.codec.video.shown import PictureCounter
from ov2kit.codec.video.source import AnyPacket
from ov2kit.errors import VideoError

_MOST_WAITING = 512  # packets before the first picture; no keyframe interval that is worth waiting for has more


class Intake:
    """Read what a packet says, and hold packets back until the first picture tells where time begins.

    Args:
        stream: of the packets, its decoder prepared.
        decoder: of the stream.
        begin_seconds: time of the first picture.
        max_gap_seconds: see `StreamClock`.
        label: name of the source for messages.

    Attributes:
        frame_seconds: from one frame to the next, as the header says.
        is_known: whether the first picture is there.
    """

    def __init__(
        self, stream: AVStream, decoder: LiveDecoder, begin_seconds: float, max_gap_seconds: float, label: str
    ) -> None:
        context = stream.codec_context
        self._stream, self._decoder, self._begin, self._label = stream, decoder, begin_seconds, label
        self.frame_seconds = nominal_duration(stream)
        self._clock = StreamClock(
            stream.time_base or Fraction(1, 90_000), self.frame_seconds, max_gap_seconds=max_gap_seconds
        )
        self._first = FirstStamp(stream, self.frame_seconds)
        self._counter = PictureCounter(context.codec.canonical_name, context.extradata)
        self._starts = starts_at(context.codec.canonical_name, context.extradata)
        self._changes = HeaderChanges(context.codec.canonical_name, context.extradata)
        self._waiting: deque[tuple[HeldPacket, float, bool]] = deque(maxlen=_MOST_WAITING)
        self._origin = 0.0
        self._number = 0
        self.is_known = False

    def __call__(self, packet: AnyPacket, arrived: float) -> Iterator[tuple[HeldPacket, float, bool]]:
        """The next packet, and those held back before it once there is a picture.

        Yields:
            The packet, by how many seconds the time stamps jumped before it, whether it brings other headers.

        Raises:
            VideoError: there are no time stamps, and pictures are reordered.
        """
        for one, at in self._first(packet, arrived):
            yield from self._counted(one, at)

    def _counted(self, packet: AnyPacket, arrived: float) -> Iterator[tuple[HeldPacket, float, bool]]:
        stamp = self._clock(packet.pts, packet.dts, packet.duration)
        key = packet.is_keyframe
        if stamp.pts is None and self._stream.codec_context.has_b_frames:
            raise VideoError(
                f"{self._label}: packets without time stamps and reordered pictures cannot be put in order as they "
                "come; send the stream in a container such as MPEG-TS"
            )
        begins = self._counter(packet, key)
        item = HeldPacket(
            number=self._number, packet=packet, seconds=stamp.dts if stamp.pts is None else stamp.pts, dts=stamp.dts,
            nbytes=packet.size, is_key=key, is_entry=key and self._starts(memoryview(packet)),
            begins=0 if packet.is_discard else begins, is_disposable=packet.is_disposable,
            is_corrupt=packet.is_corrupt, arrived=arrived,
        )  # fmt: skip
        if packet.is_discard:
            item.nbytes = 0
        self._number += 1
        entry = (item, stamp.jump, self._changes(packet, key))
        if self.is_known:
            yield self._on_clock(entry)
            return
        self._waiting.append(entry)
        self._decoder.feed(item)
        if self._decoder.carried:
            first = self._decoder.carried[0][0]
            self._origin = next(i.seconds for i, _, _ in self._waiting if i.number >= first) - self._begin
            self.is_known = True
            while self._waiting:
                yield self._on_clock(self._waiting.popleft())

    def _on_clock(self, entry: tuple[HeldPacket, float, bool]) -> tuple[HeldPacket, float, bool]:
        item = entry[0]
        item.seconds -= self._origin
        item.dts -= self._origin
        return entry
