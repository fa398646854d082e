"""Which HEVC packets hold pictures that no other needs, read from the headers of their NAL units.

A sub-layer non-reference picture (`_N`) may still be referred to by pictures of higher temporal layers, so only those
of the highest one may go. FFmpeg's AVDISCARD_NONREF does not look at layers. Source: ITU-T H.265 7.3.1.2 (NAL unit
header), table 7-1, 7.4.2.2, 7.3.2.2.1 (sequence parameter set); ISO/IEC 14496-15 8.3.3.1 (hvcC box).
"""

from collections.abc import Iterator

from ov2kit.codec.video.h264_fields import nal_units

_FIRST_IRAP, _FIRST_NO_SLICE, _SPS, _DELIMITER, _FILLER = 16, 32, 33, 35, 38
_START_CODE = b"\x00\x00\x01"


class HevcReferences:
    """Follows the packets that one decoder is given, in decode order.

    Args:
        extradata: hvcC box, or start codes, or nothing.
    """

    def __init__(self, extradata: bytes | None) -> None:
        data = extradata or b""
        has_lengths = len(data) > 22 and data[0] == 1
        self._length_size = (data[21] & 3) + 1 if has_lengths else 0
        self._highest: int | None = None  # temporal layer that a picture may have
        for unit in _units_of_box(data) if has_lengths else nal_units(data, 0):
            self._see(unit)

    def __call__(self, data: bytes, is_wanted: bool) -> bytes:
        """What a decoder needs of the next packet.

        Args:
            data: the packet.
            is_wanted: whether its picture is.

        Returns:
            The packet, without slices if its picture is not wanted and no other needs it; nothing if nothing else is in
            it. Where the bytes do not say plainly what there is, all of it stays.
        """
        kept, slices, is_plain, says = list[bytes](), 0, True, False
        for whole, head_at in self._units(data):
            unit = whole[head_at : head_at + 3]
            if len(unit) < 3:  # cut, or the end of a sequence
                is_plain = False
                continue
            self._see(unit)
            kind, layer, temporal = unit[0] >> 1 & 63, (unit[0] & 1) << 5 | unit[1] >> 3, (unit[1] & 7) - 1
            if kind < _FIRST_NO_SLICE:
                slices += 1
                is_highest = self._highest is not None and temporal >= self._highest
                is_plain = is_plain and is_highest and kind < _FIRST_IRAP and kind % 2 == 0
            else:
                kept.append(whole)
                says = says or kind not in (_DELIMITER, _FILLER)
            is_plain = is_plain and layer == 0
        if is_wanted or not is_plain or not slices:
            return data
        return b"".join(kept) if says else b""

    def _see(self, unit: bytes) -> None:
        if len(unit) > 2 and unit[0] >> 1 & 63 == _SPS:
            self._highest = max(self._highest or 0, unit[2] >> 1 & 7)

    def _units(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """NAL units with what stands before their headers, and the place of the header; a short one where it is cut."""
        size_bytes = self._length_size
        if not size_bytes:
            parts = data.split(_START_CODE)
            if parts[0].strip(b"\x00"):
                yield b"", 0
            yield from ((_START_CODE + part, len(_START_CODE)) for part in parts[1:])
            return
        at = 0
        while at < len(data):
            stop = at + size_bytes + int.from_bytes(data[at : at + size_bytes], "big")
            yield (data[at:stop], size_bytes) if stop <= len(data) else (b"", 0)
            at = stop


def _units_of_box(box: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(box[22]):
        count = int.from_bytes(box[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(box[at : at + 2], "big")
            yield box[at + 2 : at + 2 + size]
            at += 2 + size
