"""KeptPackets: the bytes of a stream that the first look at it has read, so that they need not be read again."""

from typing import Any

from av.packet import Packet

from ov2kit.codec.video.h264_references import is_unreferenced
from ov2kit.codec.video.source import AnyPacket

MOST_BYTES = 64 << 20  # with what Python needs for each packet
_OVERHEAD = 48
_SAYS_NOTHING = frozenset({"mpegts_stream_id"})  # to a decoder


class KeptPackets:
    """All packets of a stream, where their bytes are all that a decoder is given of them.

    Nothing is kept of a stream that is larger than `MOST_BYTES`, nor where a packet has side data, belongs to a cut
    by an edit list, or was found to be damaged.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: codec headers kept by the container.

    Attributes:
        is_unneeded: a test of packets whose pictures nobody wants: whether a decoder may go without them; None where
            only the decoder can tell.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._size = 0
        self._data: list[bytes] | None = []
        self.is_unneeded = is_unreferenced(extradata) if codec == "h264" else None

    def release(self) -> None:
        """Keep nothing any more."""
        self._data = None

    @property
    def data(self) -> list[bytes] | None:
        """Bytes of each packet in decode order; None where they are not kept."""
        return self._data

    def add(self, packet: AnyPacket) -> None:
        """The next packet of the stream."""
        if self._data is None:
            return
        data = bytes(packet)
        self._data.append(data)
        self._size += len(data) + _OVERHEAD
        if packet.is_discard or packet.is_corrupt or self._size > MOST_BYTES:
            self._data = None
        for side in packet.iter_sidedata():
            if side.data_type not in _SAYS_NOTHING:
                self._data = None


def packet_of(data: bytes) -> Any:
    """A packet that holds a copy, with the zeros behind it that decoders read."""
    packet: Any = Packet(len(data))
    packet.update(data)
    return packet
