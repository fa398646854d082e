"""The units of an AV1 packet: sequence headers, frame headers, frames, and what else there is.

Source: AV1 bitstream specification 5.3 (OBU header and size), 6.2.2 (types).
"""

from collections.abc import Iterator
from typing import NamedTuple

SEQUENCE_HEADER, DELIMITER, FRAME_HEADER, TILE_GROUP, FRAME, REPEATED_HEADER, PADDING = 1, 2, 3, 4, 6, 7, 15


class Unit(NamedTuple):
    """One open bitstream unit (OBU).

    Args:
        kind: its type.
        layer: spatial layer that it belongs to.
        start: place of its first byte in the packet.
        body: place of the first byte behind its header and size.
        stop: one past its last byte; behind the packet's end where the packet is cut.
    """

    kind: int
    layer: int
    start: int
    body: int
    stop: int


def units(data: bytes | memoryview) -> Iterator[Unit]:
    """The units of a packet, or of codec headers that are no av1C box.

    Raises:
        IndexError: a header or a size is cut.
    """
    at = 0
    while at < len(data):
        start, head, layer = at, data[at], 0
        at += 1
        if head & 4:
            layer = data[at] >> 3 & 3
            at += 1
        size = len(data) - at
        if head & 2:
            size = shift = 0
            while True:
                byte = data[at]
                at += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
        yield Unit(head >> 3 & 15, layer, start, at, at + size)
        at += size
