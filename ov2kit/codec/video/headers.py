"""Where the headers of a stream change, so that a decoder that starts later can be given them.

Source: ITU-T H.264 table 7-1, H.265 table 7-1 (parameter sets), ISO/IEC 14496-2 6.2 (video object
layer), ISO/IEC 13818-2 6.2.2.1 (sequence header).
"""

from ov2kit.codec.video.h264_fields import nal_units
from ov2kit.codec.video.source import AnyPacket

_LENGTH_AT = {"h264": 4, "hevc": 21}
_HEAD_BYTES = 8192


class HeaderChanges:
    """A test of each packet in decode order: does it bring headers other than the last ones?

    Args:
        codec: FFmpeg's name of the codec.
        extradata: codec headers kept by the container.
    """

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._codec = codec
        at = _LENGTH_AT.get(codec)
        has_lengths = at is not None and extradata is not None and len(extradata) > at and extradata[0] == 1
        self._length_size = (extradata[at] & 3) + 1 if has_lengths else 0  # type: ignore[index]
        self._last: dict[int, bytes] = {}
        self._is_first = True

    def __call__(self, packet: AnyPacket, is_key: bool) -> bool:
        if not is_key:  # headers count from a key picture on
            return False
        first, self._is_first = self._is_first, False
        found = self._found(bytes(memoryview(packet)[:_HEAD_BYTES]))
        changed = any(self._last.get(key) not in (None, value) for key, value in found.items())
        self._last |= found
        return changed or (not first and packet.has_sidedata("new_extradata"))

    def _found(self, data: bytes) -> dict[int, bytes]:
        """Headers in a packet, by kind."""
        if self._codec in _LENGTH_AT:
            shift, mask, kinds = (0, 31, (7, 8)) if self._codec == "h264" else (1, 63, (32, 33, 34))
            found: dict[int, bytes] = {}
            for unit in nal_units(data, self._length_size):
                kind = unit[0] >> shift & mask if unit else 0
                if kind in kinds:
                    found[kind] = found.get(kind, b"") + unit
            return found
        if self._codec == "mpeg4":
            at, end = data.find(b"\x00\x00\x01\x20"), data.find(b"\x00\x00\x01\xb6")
            return {0: data[at:end]} if 0 <= at < end else {}
        return {}
