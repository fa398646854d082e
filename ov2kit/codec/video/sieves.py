"""Sieves: what decoders are not given, because no picture that is wanted needs it."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeAlias

from ov2kit.codec.video.av1_references import Av1References
from ov2kit.codec.video.h264_references import is_unreferenced
from ov2kit.codec.video.hevc_references import HevcReferences
from ov2kit.codec.video.kept_packets import packet_of, says_all
from ov2kit.codec.video.source import AnyPacket

# The bytes of each packet in decode order, and whether its picture is wanted -> what the decoder needs of them.
Sieve: TypeAlias = Callable[[bytes, bool], bytes]


def sieves_of(codec: str, extradata: bytes | None, *, has_fields: bool = True) -> Callable[[], Sieve] | None:
    """What makes a sieve for the packets that one decoder is given; None where only the decoder can tell.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: codec headers kept by the container.
        has_fields: H.264 packets may hold fields: these are left to the decoder.
    """
    if codec == "av1":
        return partial(Av1References, extradata)
    if codec == "hevc":
        return partial(HevcReferences, extradata)
    if codec == "h264" and not has_fields:
        may_go = is_unreferenced(extradata)
        return lambda: lambda data, is_wanted: b"" if not is_wanted and may_go(data) else data
    return None


def sifted(
    packets: Iterable[tuple[int, AnyPacket]], needed: bytes | None, sieve: Sieve | None
) -> Iterator[tuple[int, AnyPacket]]:
    """Packets as a sieve leaves them. It leaves those as they are that give a decoder more than their bytes.

    Args:
        packets: with their decode index.
        needed: for each packet of the stream whether its picture is; None where it is not known.
        sieve: of these packets.
    """
    if needed is None or sieve is None:
        yield from packets
        return
    for index, packet in packets:
        left = sift(packet, bool(needed[index]), sieve)
        if left is not None:
            yield index, left


def sift(packet: AnyPacket, is_needed: bool, sieve: Sieve) -> "AnyPacket | None":
    """What a sieve leaves of one packet, None if nothing; it has to see all that come before."""
    left = sieve(bytes(packet), is_needed)
    if len(left) == packet.size or not says_all(packet):
        return packet
    return packet_of(left) if left else None
