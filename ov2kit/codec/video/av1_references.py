"""Which frames in the packets of an AV1 stream nothing depends on, read from their headers.

A frame that refreshes no slot leaves nothing behind: pictures, probabilities, segments, motion and film grain of later
frames all come out of slots. Source: AV1 bitstream specification 5.5 (sequence header), 5.9.2 (frame header),
7.20 and 7.21 (reference frame update and loading).
"""

from dataclasses import dataclass

from ov2kit.codec.video.av1_units import (
    DELIMITER,
    FRAME,
    FRAME_HEADER,
    PADDING,
    REPEATED_HEADER,
    SEQUENCE_HEADER,
    TILE_GROUP,
    units,
)
from ov2kit.codec.video.bits import Bits

_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3  # frame types; 1 is that of other frames
_SELECT = 2  # each frame says for itself
_OF_FRAMES = frozenset({FRAME_HEADER, TILE_GROUP, FRAME, REPEATED_HEADER})
_KNOWN = _OF_FRAMES | {SEQUENCE_HEADER, DELIMITER, PADDING}
_HEAD_BYTES = 8  # of a frame: its header up to the slots that it refreshes has 33 bits or less
_SEQUENCE_BYTES = 512


class Av1References:
    """Follows the packets that one decoder is given, in decode order.

    Args:
        extradata: av1C box, or units, or nothing.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._sequence: _Sequence | None = None
        headers = extradata or b""
        self(headers[4:] if headers[:1] == b"\x81" else headers, True)

    def __call__(self, data: bytes, is_wanted: bool) -> bytes:
        """What a decoder needs of the next packet.

        Args:
            data: the packet.
            is_wanted: whether its picture is.

        Returns:
            The packet, without frames that no other needs if its own is not wanted; nothing if nothing else is in it.
            Where the bytes do not say plainly what there is, all of it stays.
        """
        try:
            left = self._needed(data, is_wanted)
        except (IndexError, ValueError):  # cut or damaged
            return data
        return data if left is None else left

    def _needed(self, data: bytes, is_wanted: bool) -> bytes | None:
        """See above; None for all of it."""
        kept, may_go, says = list[bytes](), False, False
        is_plain, all_stays = True, True
        for kind, layer, start, body, stop in units(data):
            if kind == SEQUENCE_HEADER:
                self._sequence = _Sequence.read(data[body : body + _SEQUENCE_BYTES])
            elif kind in (FRAME_HEADER, FRAME):
                may_go = not is_wanted and self._may_go(data[body : body + _HEAD_BYTES])
                all_stays = all_stays and not may_go
            elif kind not in _KNOWN:
                is_plain = False
            is_plain = is_plain and layer == 0 and stop <= len(data)
            if not (may_go and kind in _OF_FRAMES):
                kept.append(data[start:stop])
                says = says or kind not in (DELIMITER, PADDING)
        if all_stays or not is_plain:
            return None
        return b"".join(kept) if says else b""

    def _may_go(self, head: bytes) -> bool:
        """Whether a frame leaves nothing behind, by the first bytes of its header."""
        sequence, first = self._sequence, head[0]
        # What shows a frame once more stays: with frame threads libdav1d may tell only here that it is damaged.
        if sequence is None or first >> 7 or first >> 5 & 3 in (_KEY, _SWITCH):
            return False
        bits = Bits(head)
        bits.read(4 if first >> 4 & 1 else 5)  # one that is not shown says whether it may be later
        is_resilient = bits.read(1)
        if is_resilient and sequence.order_hint_bits:
            return False  # it may say that slots hold other frames than the decoder has
        bits.read(1)  # probabilities are not updated
        is_screen = bits.read(1) if sequence.screen_content == _SELECT else sequence.screen_content
        if is_screen and sequence.integer_motion == _SELECT:
            bits.read(1)
        bits.read(1 + sequence.order_hint_bits)  # another size
        if first >> 5 & 3 != _INTRA_ONLY and not is_resilient:
            bits.read(3)  # whose probabilities it begins with
        return bits.read(8) == 0


@dataclass(frozen=True)
class _Sequence:
    """What the headers of frames are read by."""

    screen_content: int
    integer_motion: int
    order_hint_bits: int

    @classmethod
    def read(cls, body: bytes) -> "_Sequence | None":
        """Of a sequence header; None for streams of still pictures, frame numbers, spatial layers or decoder models."""
        bits = Bits(body)
        bits.read(4)  # profile, still picture
        if bits.read(1):  # reduced
            return None
        if bits.read(1):  # times
            bits.read(32)
            bits.read(32)
            if bits.read(1):
                bits.ue()
            if bits.read(1):  # decoder model
                return None
        has_delays, has_layers = bits.read(1), False
        for _ in range(bits.read(5) + 1):
            has_layers = bits.read(12) >> 8 > 1 or has_layers
            if bits.read(5) > 7:
                bits.read(1)
            if has_delays and bits.read(1):
                bits.read(4)
        width, height = bits.read(4) + 1, bits.read(4) + 1
        bits.read(width + height)
        if bits.read(1) or has_layers:  # frame numbers
            return None
        bits.read(7)  # superblocks, intra, compounds, warps, filters
        has_order = bits.read(1)
        if has_order:
            bits.read(2)
        screen = _SELECT if bits.read(1) else bits.read(1)
        motion = _SELECT if not screen or bits.read(1) else bits.read(1)
        return cls(screen, motion, bits.read(3) + 1 if has_order else 0)
