"""KeptPackets: the bytes of a stream that the first look at it has read, so that they need not be read again."""

from collections.abc import Callable
from typing import Any

from av.packet import Packet

from ov2kit.codec.video.source import AnyPacket

MOST_BYTES = 64 << 20  # with what Python needs for each packet
_OVERHEAD = 48
_SAYS_NOTHING = frozenset({"mpegts_stream_id"})  # to a decoder


class KeptPackets:
    """All packets of a stream, where their bytes are all that a decoder is given of them.

    Nothing is kept of a stream that is larger than `MOST_BYTES`, nor where a packet has side data, belongs to a cut
    by an edit list, or was found to be damaged.

    Attributes:
        sieves: see `ov2kit.codec.video.sieves.sieves_of`; of packets that are not kept too.
    """

    def __init__(self) -> None:
        self._size = 0
        self._data: list[bytes] | None = []
        self.sieves: Callable[[], Callable[[bytes, bool], bytes]] | None = None

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
        if self._size > MOST_BYTES or not says_all(packet):
            self._data = None


def says_all(packet: AnyPacket) -> bool:
    """Whether the bytes of a packet are all that a decoder is given of it, and none of them are known to be damaged."""
    if packet.is_discard or packet.is_corrupt:
        return False
    # A loop, not `all`: nearly every packet has nothing beside it, and a second generator doubles what it takes.
    for side in packet.iter_sidedata():
        if side.data_type in _SAYS_NOTHING:
            continue
        return False
    return True


def packet_of(data: bytes) -> Any:
    """A packet that holds a copy, with the zeros behind it that decoders read."""
    packet: Any = Packet(len(data))
    packet.update(data)
    return packet
