"""How many pictures a packet shows, read from its first bytes.

A packet is not a shown picture: VP8, VP9 and AV1 have packets that show nothing, an interlaced
picture may come as two packets, one a field. Source: RFC 6386 9.1 (VP8), VP9 bitstream specification
6.2 and Annex B, AV1 bitstream specification 5.3 to 5.9, ITU-T H.264 7.3 (parameter sets, slice
headers) and 7.4.1.2.4 (field pairs), ISO/IEC 13818-2 6.2.3, H.265 8.1.3 (leading pictures).
"""

import re
from collections.abc import Callable

from ov2kit.codec.video.av1_units import FRAME, FRAME_HEADER, SEQUENCE_HEADER, units
from ov2kit.codec.video.h264_fields import H264Fields, nal_units
from ov2kit.codec.video.source import AnyPacket

SECOND_FIELD = -1

# One packet, one picture, whatever is in it; the empty packet shows nothing.
_ONE_EACH = frozenset(
    {
        "mpeg1video", "hevc", "h263", "flv1", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "gif", "apng",
        "mjpeg", "png", "rawvideo", "prores", "dnxhd", "dvvideo", "huffyuv", "ffvhuff", "ffv1", "v210", "jpeg2000",
        "qtrle", "webp", "utvideo", "cinepak", "magicyuv", "cfhd",
    }
)  # fmt: skip
_PACKED = re.compile(rb"\x00\x00\x01\xb2DivX\d+b\d+p")  # how the encoder says so
_NVOP_BYTES = 19  # FFmpeg's bound for MPEG-4 pictures that are not coded


class PictureCounter:
    """Counts the shown pictures of one stream, packet by packet, in decode order.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: codec headers kept by the container.

    Attributes:
        doubtful: something was seen that the bytes alone do not settle; only a decode tells.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._after_field = False
        self._tail = b""
        self._length_size = (extradata[21] & 3) + 1 if extradata and len(extradata) > 21 and extradata[0] == 1 else 0
        self._fields = H264Fields(extradata)
        readers: dict[str, Callable[[AnyPacket, bool], int]] = {
            "vp8": _vp8,
            "vp9": lambda packet, key: _vp9(memoryview(packet)),
            "av1": lambda packet, key: _av1(memoryview(packet)),
            "mpeg2video": self._mpeg2,
            "mpeg4": self._mpeg4,
            "hevc": self._hevc,
            "h264": self._fields.count,
        }
        self._is_h264, self._is_one_each = codec == "h264", codec not in readers
        known = codec in readers or codec in _ONE_EACH
        self._read: Callable[[AnyPacket, bool], int] = readers.get(codec, _one)
        self.doubtful = not known or (codec == "mpeg4" and bool(_PACKED.search(extradata or b"")))

    @property
    def passes_others(self) -> bool:
        """Until the next key packet each that is not empty begins one picture, and need not be shown to the counter."""
        return self._is_one_each or (self._is_h264 and not self._fields.has_fields)

    @property
    def may_have_fields(self) -> bool:
        """Whether H.264 packets may hold fields; of other codecs it says nothing."""
        return self._fields.may_have_fields

    def __call__(self, packet: AnyPacket, is_key: bool) -> int:
        """Pictures this packet is the first to show; 0 for a hidden one, -1 for a second field."""
        if packet.size == 0:
            return 0
        try:
            begun: int = self._read(packet, is_key)
        except (IndexError, ValueError):  # cut or damaged
            return 1
        return begun

    def _mpeg2(self, packet: AnyPacket, is_key: bool) -> int:
        data = bytes(packet)
        structures, at = [], data.find(b"\x00\x00\x01\xb5")
        while 0 <= at < len(data) - 7:
            if data[at + 4] >> 4 == 8:  # picture coding extension
                structures.append(data[at + 6] & 3)
            at = data.find(b"\x00\x00\x01\xb5", at + 4)
        begun = 0
        for structure in structures:
            self._after_field = structure != 3 and not self._after_field
            begun += structure == 3 or self._after_field
        return begun if begun or not structures else SECOND_FIELD

    def _mpeg4(self, packet: AnyPacket, is_key: bool) -> int:
        """Pictures that are not coded show nothing, and packed ones bear the times of their packets."""
        if is_key and not self.doubtful:
            self.doubtful = bool(_PACKED.search(bytes(memoryview(packet)[:1024])))
        self.doubtful = self.doubtful or packet.size <= _NVOP_BYTES
        return 1

    def _hevc(self, packet: AnyPacket, is_key: bool) -> int:
        """After a broken link or an end of sequence the decoder leaves pictures out."""
        if is_key:
            head = bytes(memoryview(packet)[:4096])
            broken = any(unit and unit[0] >> 1 & 63 in (16, 17, 18) for unit in nal_units(head, self._length_size))
            self.doubtful = self.doubtful or broken or self._tail.endswith(b"\x48\x01")
        self._tail = bytes(memoryview(packet)[-2:])
        return 1


def _one(packet: AnyPacket, is_key: bool) -> int:
    return 1


def _vp8(packet: AnyPacket, is_key: bool) -> int:
    return memoryview(packet)[0] >> 4 & 1


def _vp9(data: memoryview) -> int:
    last = data[-1]
    if last >> 5 == 6:
        frames, width = (last & 7) + 1, (last >> 3 & 3) + 1
        index = 2 + frames * width
        if len(data) >= index and data[-index] == last:
            sizes = bytes(data[1 - index : -1])
            at = shown = 0
            for i in range(frames):
                size = int.from_bytes(sizes[i * width : (i + 1) * width], "little")
                shown += _vp9_shows(data[at]) if size else 0
                at += size
            return shown
    return _vp9_shows(data[0])


def _vp9_shows(head: int) -> int:
    """Frame marker 2 bits, profile 2 (3 where both are set), show existing, frame type, show."""
    if head >> 6 != 2:
        return 1
    shift = 0 if head >> 4 & 3 == 3 else 1
    if head >> (2 + shift) & 1:
        return 1
    return head >> shift & 1


def vp9_is_key(data: memoryview) -> bool:
    """The first frame of the packet is a key frame."""
    head = data[0]
    shift = 0 if head >> 4 & 3 == 3 else 1
    return head >> (2 + shift) & 1 == 0 and head >> (1 + shift) & 1 == 0


def _av1_frames(data: memoryview) -> list[tuple[int, bool, int]]:
    """First byte of each frame header, whether it belongs to a reduced still picture, spatial layer."""
    found, still = [], False
    for unit in units(data):
        if unit.kind == SEQUENCE_HEADER and unit.body < unit.stop:
            still = bool(data[unit.body] >> 3 & 1)
        elif unit.kind in (FRAME_HEADER, FRAME) and unit.body < unit.stop:
            found.append((data[unit.body], still, unit.layer))
    return found


def _av1(data: memoryview) -> int:
    frames = _av1_frames(data)
    shown = sum(still or bool(head >> 7) or bool(head >> 4 & 1) for head, still, _ in frames)
    return min(shown, 1) if any(layer for _, _, layer in frames) else shown


def av1_is_key(data: memoryview) -> bool:
    """The first frame of the packet is a key frame that is shown."""
    frames = _av1_frames(data)
    if not frames:
        return False
    head, still, _ = frames[0]
    return still or (not head >> 7 and head >> 5 & 3 == 0 and bool(head >> 4 & 1))
