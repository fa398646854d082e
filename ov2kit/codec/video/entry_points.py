"""Packets at which decoding can start with nothing from before.

A container's key flag is not enough: an intra-refresh stream flags recovery points whose picture is
predicted, some AVI writers flag whatever they like, and an open GOP shows pictures after the key
packet that need the pictures before it. Source: ITU-T H.264 7.4.1 and H.265 7.4.2.2 (NAL unit
types), RFC 6386 9.1 (VP8), ISO/IEC 14496-2 (VOP coding type).
"""

from collections.abc import Callable

import numpy as np

from ov2kit.codec.video.packets import PacketTable
from ov2kit.codec.video.shown import av1_is_key, vp9_is_key

_INTRA_ONLY = frozenset({"mjpeg", "png", "rawvideo", "prores", "dnxhd", "dvvideo", "huffyuv", "v210", "jpeg2000"})
_HEADER_BYTES = 8192


def _annex_b(data: bytes) -> list[int]:
    """First byte of each NAL unit after a start code."""
    parts = data.split(b"\x00\x00\x01")[1:]
    return [part[0] for part in parts if part]


def _length_prefixed(data: bytes, size: int) -> list[int]:
    """First byte of each NAL unit after a length of `size` bytes."""
    heads, at = [], 0
    while at + size < len(data):
        heads.append(data[at + size])
        at += size + int.from_bytes(data[at : at + size], "big")
    return heads


def _nal_heads(data: bytes, extradata: bytes | None, length_at: int) -> list[int]:
    if extradata and extradata[0] == 1 and len(extradata) > length_at:
        return _length_prefixed(data, (extradata[length_at] & 3) + 1)
    return _annex_b(data)


def _h264(data: bytes, extradata: bytes | None) -> bool:
    slices = [head & 31 for head in _nal_heads(data, extradata, 4) if 1 <= head & 31 <= 5]
    return bool(slices) and slices[0] == 5


def _hevc(data: bytes, extradata: bytes | None) -> bool:
    slices = [head >> 1 & 63 for head in _nal_heads(data, extradata, 21) if head >> 1 & 63 < 32]
    return bool(slices) and 16 <= slices[0] <= 21


def _vp8(data: bytes, extradata: bytes | None) -> bool:
    return bool(data) and not data[0] & 1


def _mpeg4(data: bytes, extradata: bytes | None) -> bool:
    at = data.find(b"\x00\x00\x01\xb6")
    return 0 <= at < len(data) - 4 and data[at + 4] >> 6 == 0


def _mpeg2(data: bytes, extradata: bytes | None) -> bool:
    """A sequence header comes before the picture: without one the matrices of before would count."""
    return 0 <= data.find(b"\x00\x00\x01\xb3") < data.find(b"\x00\x00\x01\x00")


def _av1(data: bytes, extradata: bytes | None) -> bool:
    try:
        return av1_is_key(memoryview(data))
    except IndexError:
        return False


def _flag(data: bytes, extradata: bytes | None) -> bool:
    return True


_STARTS_AT: dict[str, Callable[[bytes, bytes | None], bool]] = {
    "h264": _h264,
    "hevc": _hevc,
    "vp8": _vp8,
    "vp9": lambda data, extradata: vp9_is_key(memoryview(data)),
    "av1": _av1,
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "mpeg4": _mpeg4,
    **dict.fromkeys(_INTRA_ONLY, _flag),
}


def starts_at(codec: str, extradata: bytes | None) -> Callable[[memoryview], bool]:
    """A test for key packets: does this one begin with a picture that needs no other?

    Codecs that are not known answer no to every packet and are decoded from their beginning.
    """
    test = _STARTS_AT.get(codec)
    if test is None:
        return lambda packet: False
    return lambda packet: test(bytes(packet[:_HEADER_BYTES]), extradata)


def entry_points(table: PacketTable) -> np.ndarray:
    """Decode indices at which decoding can start: self-contained, and no earlier picture shown later.

    Returns:
        (E,) int64, increasing, always beginning with 0 (the start of the file is all there is).
    """
    n = len(table)
    if n == 0 or not table.exact:
        return np.zeros(min(n, 1), dtype=np.int64)
    seconds = table.seconds
    shows = (table.begins > 0) | table.is_discard
    later = np.minimum.accumulate(np.where(shows, seconds, np.inf)[::-1])[::-1]
    earlier = np.concatenate([[-np.inf], np.maximum.accumulate(np.where(shows, seconds, -np.inf))[:-1]])
    closed = table.is_entry & shows & (later >= seconds) & (earlier < seconds)
    closed[0] = True
    return np.flatnonzero(closed)
