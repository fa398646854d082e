"""FirstStamp: the time of a picture that FFmpeg gives before it knows any, as it does at the start of RTSP."""

from av.video.stream import VideoStream as AVStream

from ov2kit.codec.video.source import AnyPacket


class FirstStamp:
    """Hold the first packet back, where it has no time stamps, until the others say when it is shown.

    It is the picture that the stream begins with, so it is shown one frame before the earliest of the others. Of r
    pictures that may be reordered, the one shown next is among the r + 1 packets that come next.

    Args:
        stream: of the packets.
        frame_seconds: from one frame to the next, as the header says.
    """

    def __init__(self, stream: AVStream, frame_seconds: float) -> None:
        self._context, self._frame_ticks = stream.codec_context, 1
        if stream.time_base:
            self._frame_ticks = max(1, round(frame_seconds / float(stream.time_base)))
        self._is_done = stream.container.format.name != "rtsp"
        self._held: list[tuple[AnyPacket, float]] = []

    def __call__(self, packet: AnyPacket, arrived: float) -> list[tuple[AnyPacket, float]]:
        """The next packet and when it came; those that can go on, in order."""
        if self._is_done:
            return [(packet, arrived)]
        self._held.append((packet, arrived))
        first = self._held[0][0]
        if first.pts is None and first.dts is None and len(self._held) < self._context.has_b_frames + 2:
            return []
        shown = [each.pts for each, _ in self._held[1:] if each.pts is not None]
        if first.pts is None and shown:
            first.pts = min(shown) - self._frame_ticks
        self._is_done = True
        held, self._held = self._held, []
        return held
