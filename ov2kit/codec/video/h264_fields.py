"""Which H.264 packets hold the second field of a picture.

Source: ITU-T H.264 7.3.2.1.1 (sequence parameter set), 7.3.2.2 (picture parameter set), 7.3.3 (slice
header), 7.4.1.2.4 (complementary field pairs).
"""

from collections.abc import Iterator

from ov2kit.codec.video.bits import Bits
from ov2kit.codec.video.source import AnyPacket

_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
_HEAD_BYTES = 64  # of a slice: its header up to the parity of the field


def _bits(unit: bytes) -> Bits:
    """Bits of a NAL unit, without the bytes that keep start codes out of it."""
    return Bits(unit.replace(b"\x00\x00\x03", b"\x00\x00"))


def nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    """NAL units of a packet; `length_size` is 0 for start codes."""
    if not length_size:
        yield from (unit for unit in data.split(b"\x00\x00\x01")[1:] if unit)
        return
    at = 0
    while at + length_size < len(data):
        size = int.from_bytes(data[at : at + length_size], "big")
        at += length_size
        yield data[at : at + size]
        at += size


class H264Fields:
    """Follows the parameter sets of a stream and pairs its fields, as the decoder does.

    A stream whose parameter sets allow frames only costs a look at its key packets.

    Args:
        extradata: avcC box, or start codes, or nothing.

    Attributes:
        has_fields: the parameter sets that count now allow them; changes with key packets alone while they do not.
        may_have_fields: parameter sets were seen that allow them.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._length_size = 0
        self._sps: dict[int, tuple[bool, int, bool]] = {}  # frames only, bits of frame_num, separate planes
        self._pps: dict[int, int] = {}
        self.has_fields = self.may_have_fields = False
        self._open: tuple[int, int, int, bool] | None = None  # parity, frame_num, pps, is reference
        self._headers(extradata)

    def count(self, packet: AnyPacket, is_key: bool) -> int:
        """Pictures that begin in this packet, -1 if it holds but the second field of the one before."""
        if is_key and packet.has_sidedata("new_extradata"):
            for side in packet.iter_sidedata():
                if side.data_type == "new_extradata":
                    self._headers(bytes(side))
        if is_key:
            for unit in nal_units(bytes(packet), self._length_size):
                self._parameter_set(unit)
        if not self.has_fields:
            return 1
        begun = slices = 0
        for unit in nal_units(bytes(packet), self._length_size):
            if unit and unit[0] & 31 in (7, 8) and not is_key:
                self._parameter_set(unit)
            if unit and unit[0] & 31 in (1, 2, 5):
                first, field = self._slice(unit)
                if not first:
                    continue
                slices += 1
                begun += self._begins(field)
        return begun if begun or not slices else -1

    def _begins(self, field: tuple[int, int, int, bool] | None) -> int:
        """Whether a picture begins with this frame or field."""
        before, self._open = self._open, None
        if field is None:
            return 1
        if before is not None and before[0] != field[0] and before[1] == field[1] and before[3] == field[3]:
            return 0
        self._open = field
        return 1

    def _headers(self, extradata: bytes | None) -> None:
        if extradata and extradata[0] == 1 and len(extradata) > 6:
            self._length_size = (extradata[4] & 3) + 1
            at = 5
            for mask in (31, 255):
                for _ in range(extradata[at] & mask if at < len(extradata) else 0):
                    at += 1
                    size = int.from_bytes(extradata[at : at + 2], "big")
                    self._parameter_set(extradata[at + 2 : at + 2 + size])
                    at += 1 + size
                at += 1
        elif extradata:
            for unit in nal_units(extradata, 0):
                self._parameter_set(unit)

    def _parameter_set(self, unit: bytes) -> None:
        kind = unit[0] & 31 if unit else 0
        if kind not in (7, 8):
            return
        try:
            bits = _bits(unit[1:512])
            if kind == 8:
                number = bits.ue()
                self._pps[number] = bits.ue()
            else:
                number, facts = _read_sps(bits)
                self._sps[number] = facts
                self.has_fields = not all(frames_only for frames_only, _, _ in self._sps.values())
                self.may_have_fields = self.may_have_fields or self.has_fields
        except ValueError:
            return  # cut: what came before holds

    def _slice(self, unit: bytes) -> tuple[bool, tuple[int, int, int, bool] | None]:
        """Whether a frame or field begins, and parity, frame_num, pps and reference of a field."""
        bits = _bits(unit[1:_HEAD_BYTES])
        first = bits.ue() == 0
        bits.ue()
        number = bits.ue()
        frames_only, frame_num_bits, planes = self._sps.get(self._pps.get(number, -1), (True, 4, False))
        if frames_only:
            return first, None
        if planes:
            bits.read(2)
        frame_num = bits.read(frame_num_bits)
        if not bits.read(1):
            return first, None
        return first, (bits.read(1), frame_num, number, bool(unit[0] >> 5 & 3))


def _read_sps(bits: Bits) -> tuple[int, tuple[bool, int, bool]]:
    profile = bits.read(8)
    bits.read(16)
    number = bits.ue()
    planes = False
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        planes = chroma == 3 and bool(bits.read(1))
        bits.ue(), bits.ue(), bits.read(1)
        if bits.read(1):
            for i in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    frame_num_bits = bits.ue() + 4
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.read(1), bits.se(), bits.se()
        for _ in range(bits.ue()):
            bits.se()
    bits.ue(), bits.read(1), bits.ue(), bits.ue()
    return number, (bool(bits.read(1)), frame_num_bits, planes)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last
