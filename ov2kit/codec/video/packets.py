"""The packet table: what a file says about its pictures before anything is decoded.

Letters: P packets in decode order, F shown pictures ("frames") in display order. A packet may show
nothing (a hidden reference, a picture an edit list hides) or be half a picture (a field). Times come
from pts x time base, never from index / fps, and start at 0 with the first shown frame.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

import numpy as np
from av.video.stream import VideoStream as AVStream

from ov2kit.codec.video.headers import HeaderChanges
from ov2kit.codec.video.shown import PictureCounter
from ov2kit.codec.video.source import AnyPacket
from ov2kit.errors import check_number, deprecated

_EXACT_IN_FLOAT64 = 1 << 53

TimesFrom = Literal["pts", "sorted pts", "frame rate"]


@dataclass(frozen=True)
class PacketTable:
    """Facts of every video packet, in decode order.

    Args:
        pts: (P,) float64 presentation time stamp in seconds as written, NaN where missing.
        seconds: (P,) float64 presentation time, repaired and counted from the first shown frame.
        nbytes: (P,) int64 size in bytes.
        is_key: (P,) bool, the container's key flag.
        is_entry: (P,) bool, the packet begins with a picture that needs no other.
        is_disposable: (P,) bool, no other picture needs it (as far as the container says).
        is_discard: (P,) bool, an edit list hides it.
        is_corrupt: (P,) bool, the demuxer found it damaged or cut short.
        begins: (P,) int64 shown pictures that begin with the packet: 0 for a hidden picture, whose
            bytes count with the next shown one, -1 for the second field of the picture before.
        order: (F,) int64 decode index of each shown frame (of its first packet), in display order.
        exact: whether `order` is known. If not (no, repeated or impossible pts), frames are known
            only by the order in which the decoder gives them.
        times_from: where `seconds` come from: the pts, the pts sorted because they are not in
            display order, or the frame rate because there are none.
        frame_seconds: (F,) float64 time of each shown frame.
        frame_duration: typical seconds from one frame to the next.
        headers: (H,) int64 packets that bring other codec headers than those before them.
    """

    pts: np.ndarray
    seconds: np.ndarray
    nbytes: np.ndarray
    is_key: np.ndarray
    is_entry: np.ndarray
    is_disposable: np.ndarray
    is_discard: np.ndarray
    is_corrupt: np.ndarray
    begins: np.ndarray
    order: np.ndarray
    exact: bool
    times_from: TimesFrom
    frame_seconds: np.ndarray
    frame_duration: float
    headers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.nbytes)

    def __call__(self) -> "PacketTable":
        """The table itself: `VideoStream.packets` was a method once."""
        deprecated("VideoStream.packets()", "VideoStream.packets", "0.2")
        return self

    @property
    def num_frames(self) -> int:
        return len(self.order)

    @property
    def duration_seconds(self) -> float:
        """From the first shown frame to the end of the last."""
        return float(self.frame_seconds[-1]) + self.frame_duration if self.num_frames else 0.0

    @property
    def fps(self) -> float:
        """Average frames per second over the whole stream."""
        return self.num_frames / self.duration_seconds if self.num_frames else 0.0

    @cached_property
    def frame_of_packet(self) -> np.ndarray:
        """(P,) int64 index of the frame each packet belongs to, -1 for those that belong to none."""
        own = np.full(len(self), -1, dtype=np.int64)
        own[self.order] = np.arange(self.num_frames)
        places = np.arange(len(self))
        starts = self.begins > 0
        before = np.maximum.accumulate(np.where(starts, places, 0))
        after = np.minimum.accumulate(np.where(starts, places, len(self) - 1)[::-1])[::-1]
        rank = own[np.where(starts, places, np.where(self.begins < 0, before, after))]
        rank[self.is_discard] = -1
        return rank

    @cached_property
    def frame_bytes(self) -> np.ndarray:
        """(F,) int64 bytes of each frame: of all the packets that belong to it."""
        rank = self.frame_of_packet
        total = np.zeros(self.num_frames, dtype=np.int64)
        np.add.at(total, rank[rank >= 0], self.nbytes[rank >= 0])
        return total

    def display(self, name: str) -> np.ndarray:
        """A column in display order, (F,): ``table.display("nbytes")``.

        Bytes are summed over the packets of a frame; all else is that of its first packet.
        """
        if name == "nbytes":
            return self.frame_bytes
        column: np.ndarray = getattr(self, name)[self.order]
        return column

    def index_at(self, seconds: float) -> int:
        """Index of the frame on screen at a time, which counts from the first shown frame.

        Times within a microsecond before a frame count as that frame's.

        Raises:
            OptionError: the time is negative, or not before the end of the last frame.
        """
        check_number("seconds", seconds, low=0, below=self.duration_seconds)
        return int(np.searchsorted(self.frame_seconds, seconds + 1e-6, side="right")) - 1

    def starting_with(self, packet: int) -> "PacketTable":
        """Without the frames shown before that of `packet`, the first one a decoder gives.

        A recording that begins in mid-stream has pictures whose references it lacks.
        """
        place = int(self.frame_of_packet[packet])
        if not self.exact or place <= 0:
            return self
        begins = self.begins.copy()
        begins[self.order[:place]] = 0
        begins[np.flatnonzero(begins < 0)] = np.where(self.frame_of_packet[begins < 0] < place, 0, -1)
        start = self.frame_seconds[place]
        return replace(
            self,
            begins=begins,
            order=self.order[place:],
            seconds=self.seconds - start,
            frame_seconds=self.frame_seconds[place:] - start,
        )

    def counted(self, given: Sequence[int]) -> "PacketTable":
        """The table as a decode of the whole stream corrects it.

        Args:
            given: decode index of the packet of each picture, in the order in which the decoder
                gave them; -1 where it does not say.
        """
        order = np.array(given, dtype=np.int64)
        exact = len(order) > 0 and bool((order >= 0).all()) and len(np.unique(order)) == len(order)
        begins = np.zeros(len(self), dtype=np.int64)
        order = np.maximum.accumulate(np.where(order < 0, 0, order)) if (order < 0).any() else order
        np.add.at(begins, order, 1)
        begins[(self.begins < 0) & (begins == 0)] = -1
        times = np.sort(self.seconds[order])
        kept = exact and self.times_from != "frame rate" and bool((np.diff(self.seconds[order]) > 0).all())
        if self.times_from == "frame rate" or not (np.diff(times) > 0).all():
            times = np.arange(len(order)) * self.frame_duration + (times[0] if len(times) else 0.0)
        times = times - (times[0] if len(times) else 0.0)
        seconds = self.seconds.copy()
        seconds[order] = times
        source: TimesFrom = "frame rate" if self.times_from == "frame rate" else "pts" if kept else "sorted pts"
        return replace(
            self, begins=begins, order=order, exact=exact, seconds=seconds, frame_seconds=times, times_from=source
        )


def read_packets(
    packets: Iterable[AnyPacket],
    stream: AVStream,
    starts: Callable[[memoryview], bool],
    counter: PictureCounter,
    look: Callable[["AnyPacket | None", int], bool] | None = None,
    keep: Callable[[AnyPacket], None] | None = None,
) -> PacketTable:
    """The table of all packets of a stream. Nothing is decoded.

    Args:
        packets: of the stream, as `demux_packets` gives them.
        stream: what its header says.
        starts: test of a key packet's bytes, see `ov2kit.codec.video.entry_points.starts_at`.
        counter: how many pictures begin with a packet.
        look: shown each packet, with its index, until it answers True (to decode a first picture on
            the way), and None after the last.
        keep: shown each packet as it is.
    """
    base = stream.time_base or Fraction(1)
    # One list per column, of what is rare only where it is: a tuple per packet would have the garbage collector walk
    # the heap again and again, which takes longer than the demuxing of an hour.
    pts_ticks: list[int | None] = []
    dts_ticks: list[int | None] = []
    sizes: list[int] = []
    keys: list[int] = []
    entries: list[int] = []
    disposable: list[int] = []
    discard: list[int] = []
    corrupt: list[int] = []
    others: list[int] = []  # packets with which not just one picture begins
    begun_there: list[int] = []
    changes = HeaderChanges(stream.codec_context.codec.canonical_name, stream.codec_context.extradata)
    headers: list[int] = []
    duration, passes_others = 0, counter.passes_others
    for at, packet in enumerate(packets):
        pts, dts, size, key = packet.pts, packet.dts, packet.size, packet.is_keyframe
        if key or not size or not passes_others:
            begun, passes_others = counter(packet, key), counter.passes_others
            if begun != 1:
                others.append(at)
                begun_there.append(begun)
        if keep is not None:
            keep(packet)
        if key:
            keys.append(at)
            if changes(packet, key):
                headers.append(at)
        if look is not None and size and look(packet, at):
            look = None
        if key and starts(memoryview(packet)):
            entries.append(at)
        pts_ticks.append(pts)
        dts_ticks.append(dts)
        sizes.append(size)
        if packet.is_disposable:
            disposable.append(at)
        if packet.is_discard:
            discard.append(at)
        if packet.is_corrupt:
            corrupt.append(at)
        if not duration:
            duration = packet.duration or 0
    count = len(sizes)
    if look is not None:
        look(None, count)
    begins = np.ones(count, dtype=np.int64)
    begins[others] = begun_there
    return packet_table(
        _seconds(pts_ticks, base),
        _seconds(dts_ticks, base),
        nbytes=np.array(sizes, dtype=np.int64),
        is_key=_marked(keys, count),
        is_entry=_marked(entries, count),
        is_disposable=_marked(disposable, count),
        is_discard=_marked(discard, count),
        is_corrupt=_marked(corrupt, count),
        begins=begins,
        headers=np.array(headers, dtype=np.int64),
        nominal=float(duration * base) if duration else nominal_duration(stream),
        reorders=bool(stream.codec_context.has_b_frames),
    )


def _marked(places: list[int], count: int) -> np.ndarray:
    """(count,) bool, True at some places."""
    found = np.zeros(count, dtype=bool)
    found[places] = True
    return found


def packet_table(
    pts: np.ndarray,
    dts: np.ndarray,
    *,
    nbytes: np.ndarray,
    is_key: np.ndarray,
    is_entry: np.ndarray,
    is_disposable: np.ndarray,
    is_discard: np.ndarray,
    is_corrupt: np.ndarray,
    begins: np.ndarray,
    headers: np.ndarray,
    nominal: float,
    reorders: bool,
) -> PacketTable:
    """The table of packets, in decode order: their times repaired, and which pictures they show.

    Args:
        pts: (P,) float64 presentation time stamps in seconds, NaN where missing.
        dts: (P,) float64 decoding time stamps in seconds, NaN where missing.
        nbytes: see `PacketTable`, as are the next ones.
        nominal: seconds per frame, where the stamps do not tell.
        reorders: pictures are shown in another order than they are decoded in.
    """
    shown = ~is_discard & (begins > 0)
    seconds, order, exact, source = _timeline(pts, dts, shown, nominal, reorders)
    if (begins[shown] > 1).any():
        order, exact = np.repeat(order, begins[order]), False
    frame_seconds = np.sort(seconds[order])
    steps = np.diff(frame_seconds)
    return PacketTable(
        pts=pts,
        seconds=seconds,
        nbytes=nbytes,
        is_key=is_key,
        is_entry=is_entry,
        is_disposable=is_disposable,
        is_discard=is_discard,
        is_corrupt=is_corrupt,
        begins=begins,
        order=order,
        exact=exact,
        times_from=source,
        frame_seconds=frame_seconds,
        headers=headers,
        frame_duration=float(np.median(steps[steps > 0])) if (steps > 0).any() else nominal,
    )


def _seconds(ticks: list[int | None], base: Fraction) -> np.ndarray:
    """Ticks to seconds, rounded once."""
    up, down = base.numerator, base.denominator
    if None not in ticks:
        whole = np.array(ticks, dtype=np.int64)
        if int(np.abs(whole).max(initial=0)) * up <= _EXACT_IN_FLOAT64:
            return whole * up / down
    return np.array([np.nan if tick is None else tick * up / down for tick in ticks], dtype=np.float64)


def nominal_duration(stream: AVStream) -> float:
    """Seconds per frame from the header, for streams that carry no duration."""
    for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate):
        if rate and 1 <= float(rate) <= 240:
            return 1.0 / float(rate)
    return 0.04


def _timeline(
    pts: np.ndarray, dts: np.ndarray, shown: np.ndarray, nominal: float, reorders: bool
) -> tuple[np.ndarray, np.ndarray, bool, TimesFrom]:
    """Repaired times per packet, display order, whether it is certain, and where times come from."""
    packets = np.flatnonzero(shown)
    if len(packets) == 0 or np.isnan(pts[packets]).all():
        seconds = np.zeros(len(pts))
        seconds[packets] = np.arange(len(packets)) * nominal
        return seconds, packets, not reorders and len(packets) > 0, "frame rate"
    seconds = _without_jumps(pts, dts, nominal)
    missing = np.isnan(seconds)
    if missing.any():  # straight line between neighbors; these frames are known by output order only
        known = np.flatnonzero(~missing)
        seconds[missing] = np.interp(np.flatnonzero(missing), known, seconds[known])
    seconds = seconds - seconds[packets].min()
    order = packets[np.argsort(seconds[packets], kind="stable")]
    unique = len(np.unique(seconds[packets])) == len(packets)
    # Pictures are reordered but the stamps are not: the writer put decode times into pts.
    decode_times = reorders and len(packets) > 2 and bool((np.diff(seconds[packets]) > 0).all())
    exact = unique and not missing[packets].any() and not decode_times
    return seconds, order, exact, "pts" if exact else "sorted pts"


def _without_jumps(pts: np.ndarray, dts: np.ndarray, nominal: float) -> np.ndarray:
    """pts made continuous where the decode clock jumps back (joined transport streams)."""
    clock = np.where(np.isnan(dts), pts, dts) if np.isnan(dts).all() else dts
    known = np.flatnonzero(~np.isnan(clock))
    back = known[1:][np.diff(clock[known]) < -nominal / 2]
    if len(back) == 0 or np.isnan(dts).all():
        return pts.copy()
    out = pts.copy()
    for start in back:
        before, after = out[:start], out[start:]
        if np.isnan(before).all() or np.isnan(after).all():
            continue
        after += np.nanmax(before) + nominal - np.nanmin(after)
    return out
