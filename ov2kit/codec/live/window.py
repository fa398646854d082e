"""Window: what is known of the packets of a stream whose pictures have not been shown yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

from ov2kit.codec.video.packets import PacketTable, packet_table
from ov2kit.codec.video.source import AnyPacket


@dataclass(slots=True)
class HeldPacket:
    """One packet in decode order.

    Args:
        number: place in decode order, from the start of the stream.
        packet: None once the decoder has it.
        seconds: presentation time.
        dts: decoding time in seconds.
        nbytes: size.
        is_key: the container's key flag.
        is_entry: it begins with a picture that needs no other.
        begins: pictures that begin with it, see `PacketTable`; 0 hides it.
        is_disposable: no other picture needs it.
        is_corrupt: the demuxer found it damaged.
        arrived: when it came in, on the clock of `time.monotonic`.
    """

    number: int
    packet: "AnyPacket | None"
    seconds: float
    dts: float
    nbytes: int
    is_key: bool
    is_entry: bool
    begins: int
    is_disposable: bool
    is_corrupt: bool
    arrived: float


class Window:
    """The packets whose pictures have not been shown yet, in decode order.

    Args:
        frame_seconds: from one frame to the next, where the times do not say.
    """

    def __init__(self, frame_seconds: float) -> None:
        self._frame_seconds = frame_seconds
        self._items: list[HeldPacket] = []
        self._times: set[float] = set()

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[HeldPacket]:
        return iter(self._items)

    def add(self, item: HeldPacket) -> None:
        """The next packet. Two pictures of one time are moved apart: the later one is shown after."""
        if item.begins > 0:
            while item.seconds in self._times:
                item.seconds += self._frame_seconds / 16
            self._times.add(item.seconds)
            item.begins = 1
        self._items.append(item)

    def table(self) -> PacketTable:
        """Their table; times count from the first picture in it, at `start_seconds`."""
        items = self._items
        return packet_table(
            np.array([item.seconds for item in items]),
            np.array([item.dts for item in items]),
            nbytes=np.array([item.nbytes for item in items], dtype=np.int64),
            is_key=np.array([item.is_key for item in items], dtype=bool),
            is_entry=np.array([item.is_entry for item in items], dtype=bool),
            is_disposable=np.array([item.is_disposable for item in items], dtype=bool),
            is_discard=np.zeros(len(items), dtype=bool),
            is_corrupt=np.array([item.is_corrupt for item in items], dtype=bool),
            begins=np.array([item.begins for item in items], dtype=np.int64),
            headers=np.zeros(0, dtype=np.int64),
            nominal=self._frame_seconds,
            reorders=False,  # what is not reordered in a window may be in the next
        )

    @property
    def start_seconds(self) -> float:
        """Time of the first picture."""
        return min(self._times)

    @property
    def pictures(self) -> int:
        """Pictures that have not been shown."""
        return len(self._times)

    def frames_before(self, seconds: float) -> int:
        """Pictures shown before a time."""
        return sum(time < seconds - 1e-9 for time in self._times)

    def skip_to_entry(self) -> bool:
        """Drop packets that no picture still to be shown needs: a keyframe follows that needs nothing before it.

        Returns:
            Whether any was dropped that the decoder had not been given: it has to start again.
        """
        items = self._items
        shown = [item.seconds for item in items if item.begins]
        first = next((at for at, item in enumerate(items) if item.begins), len(items) - 1)
        for at in range(first, 0, -1):
            entry = items[at]
            if entry.is_entry and entry.packet is not None and all(seconds >= entry.seconds for seconds in shown):
                is_cut = any(item.packet is not None for item in items[:at])
                del items[:at]
                return is_cut
        return False

    def forget(self, table: PacketTable, stop: int) -> None:
        """Drop what belongs to the first `stop` frames of a table of this window, which may have grown since.

        Packets that the decoder has not been given yet stay, without showing anything: later pictures may need them.
        """
        kept = []
        ranks = chain(table.frame_of_packet.tolist(), repeat(-1))
        for item, frame in zip(self._items, ranks, strict=False):
            if 0 <= frame < stop:
                self._times.discard(item.seconds)
                item.begins = item.nbytes = 0
            if item.packet is not None or item.begins or item.nbytes:
                kept.append(item)
        self._items = kept
