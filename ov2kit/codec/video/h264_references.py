"""Which H.264 packets no picture refers to, read from the headers of their NAL units.

Source: ITU-T H.264 7.3.1 (nal_ref_idc, nal_unit_type), table 7-1.
"""

from collections.abc import Callable

_LENGTH_BYTES = 4
_SLICE, _DELIMITER, _FILLER = 1, 9, 12


def is_unreferenced(extradata: bytes | None) -> Callable[[bytes], bool]:
    """A test of packets whose pictures are frames, not fields: nothing changes in a decoder that does not see this one.

    It holds slices that no picture refers to, and nothing else that a decoder keeps: it would skip all of it, see
    AVDISCARD_NONREF. Where the bytes do not say so plainly, the answer is no.

    Args:
        extradata: avcC box, or start codes, or nothing.
    """
    if extradata and extradata[0] == 1:
        return _by_lengths if len(extradata) > 4 and (extradata[4] & 3) + 1 == _LENGTH_BYTES else _never
    return _by_start_codes


def _by_lengths(data: bytes) -> bool:
    at, end, slices = 0, len(data), 0
    while at + _LENGTH_BYTES < end:
        head, size = data[at + _LENGTH_BYTES], int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        if size == 0 or not _may_go(head):
            return False
        slices += head == _SLICE
        at += _LENGTH_BYTES + size
    return bool(slices) and at == end


def _by_start_codes(data: bytes) -> bool:
    parts = data.split(b"\x00\x00\x01")
    if parts[0].strip(b"\x00"):
        return False
    heads = [part[0] for part in parts[1:] if part]
    return len(heads) == len(parts) - 1 and _SLICE in heads and all(map(_may_go, heads))


def _may_go(head: int) -> bool:
    """First byte of a NAL unit; two bits of it are nal_ref_idc, and 0 in those that may."""
    return head in (_SLICE, _DELIMITER, _FILLER)


def _never(data: bytes) -> bool:
    return False
