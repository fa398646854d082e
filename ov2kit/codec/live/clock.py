"""StreamClock: time stamps of a stream without end -> seconds that never go back.

Source of the wrap: ISO/IEC 13818-1 2.4.3.6, time stamps of 33 bits at 90 kHz.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from ov2kit.errors import check_number

_WRAP_BASE, _WRAP_TICKS = Fraction(1, 90_000), 1 << 33
_LONGEST_REORDERING = 10.0  # seconds that a picture may be shown before one that is decoded earlier
_FRAMES_EARLY = 12  # so many at most in what has no decoding times


@dataclass(frozen=True)
class Stamp:
    """Times of one packet.

    Args:
        pts: presentation time in seconds; None where the packet has none.
        dts: decoding time in seconds; later packets are shown no earlier than this.
        jump: seconds by which the stamps jumped before this packet, as written; 0 where they went on.
    """

    pts: float | None
    dts: float
    jump: float = 0.0


class StreamClock:
    """Follow the time stamps of one stream.

    They wrap after 26.5 hours where they count 33 bits (MPEG transport and program streams): time goes on.
    Where the decoding clock jumps back, or ahead by more than `max_gap_seconds`, the writer set another
    clock: time goes on one frame after the last packet. A shorter step ahead is a gap in which nothing
    was sent, and is kept.

    Args:
        base: seconds per tick.
        frame_seconds: from one frame to the next, as the header says.
        max_gap_seconds: the longest step ahead that is kept.

    Raises:
        OptionError: a number is out of range.
    """

    def __init__(self, base: Fraction, frame_seconds: float, *, max_gap_seconds: float = 60.0) -> None:
        check_number("frame_seconds", frame_seconds, above=0)
        check_number("max_gap_seconds", max_gap_seconds, above=0)
        self._base, self._frame, self._most = base, frame_seconds, max_gap_seconds
        self._frame_ticks = max(1, round(Fraction(frame_seconds).limit_denominator(1_000_000) / base))
        self._wraps = base == _WRAP_BASE
        self._ticks: int | None = None  # of the last packet, unwrapped and shifted
        self._seconds = -math.inf  # of the decoding clock
        self._has_dts = False  # the last packet
        self._shift = 0  # ticks added since the clock was set

    def __call__(self, pts: int | None, dts: int | None, duration: int | None = None) -> Stamp:
        """Times of the next packet in decode order, from its stamps in ticks.

        A packet without any stamp comes one `duration`, or one frame, after the last.
        """
        if pts is None and dts is None:
            step = duration or self._frame_ticks
            dts = 0 if self._ticks is None else self._ticks - self._shift + step
        ticks = dts if dts is not None else pts
        assert ticks is not None
        unwrapped = self._unwrapped(ticks) + self._shift
        jump = 0.0
        if self._ticks is not None:
            step_seconds = self._in_seconds(unwrapped - self._ticks)
            back = -self._frame / 2 if dts is not None and self._has_dts else -_LONGEST_REORDERING
            if step_seconds < back or step_seconds > self._most:
                jump = step_seconds
                moved = self._ticks + self._frame_ticks - unwrapped
                self._shift += moved
                unwrapped += moved
        shown = None if pts is None else unwrapped + pts - ticks
        if pts is not None and self._wraps:  # the two may lie on either side of the wrap
            shown = unwrapped + _nearest(pts - ticks)
        self._ticks = unwrapped if dts is not None or self._ticks is None else max(unwrapped, self._ticks)
        self._has_dts = dts is not None
        early = 0.0 if dts is not None else _FRAMES_EARLY * self._frame
        self._seconds = max(self._seconds, self._in_seconds(self._ticks) - early)
        return Stamp(None if shown is None else self._in_seconds(shown), self._seconds, jump)

    def _in_seconds(self, ticks: int) -> float:
        return ticks * self._base.numerator / self._base.denominator

    def _unwrapped(self, ticks: int) -> int:
        if not self._wraps or self._ticks is None:
            return ticks
        last = self._ticks - self._shift
        return last + _nearest(ticks - last)


def _nearest(step: int) -> int:
    """A step between two stamps of 33 bits, the shorter way round."""
    return (step + _WRAP_TICKS // 2) % _WRAP_TICKS - _WRAP_TICKS // 2
