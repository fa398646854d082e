"""Which packet a decoded picture came from."""

from av.video.frame import VideoFrame

from ov2kit.codec.video.source import AnyPacket


def mark(packet: AnyPacket, index: int) -> None:
    """Write a packet's index where it comes back with its picture: in the time stamp, and in the mark.

    The stamp goes the way of the picture; some decoders put the mark of another packet on it. PyAV
    finds marks by identity: equal integers would be one mark.
    """
    packet.pts = index
    packet.opaque = [index]


def marked(frame: VideoFrame) -> int:
    """Index of the packet that a frame was made from, -1 where the decoder does not say."""
    if frame.pts is not None:
        return int(frame.pts)
    return int(frame.opaque[0]) if frame.opaque is not None else -1  # type: ignore[index]
