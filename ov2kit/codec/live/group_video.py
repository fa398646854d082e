"""One group of a stream as a video of its own, which the stages take, and its canvases on the clock of the stream."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from ov2kit.canvases import Canvases
from ov2kit.codec.provenance.provenance import GroupRecord, Provenance
from ov2kit.codec.video.frame import Frame, StreamInfo, StreamLosses
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.packets import PacketTable


class MadeFrames:
    """Frames that are there already.

    Args:
        frames: in display order.
        losses: of the group.
    """

    def __init__(self, frames: Sequence[Frame], losses: StreamLosses) -> None:
        self._frames = iter(frames)
        self.losses: StreamLosses | None = losses

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)


class GroupVideo:
    """A group, and what was received of the next; frames and times count from its first frame.

    Args:
        label: name of the source for messages.
        info: of the stream.
        packets: of the group and after it.

    Attributes:
        made: the frames that were asked for, once they are decoded.
    """

    threads = 1

    def __init__(self, label: str, info: StreamInfo, packets: PacketTable) -> None:
        self.label, self.info, self.packets = label, info, packets
        self.made = MadeFrames((), StreamLosses())

    def requested(self, indices: Iterable[int] | None, request: FrameRequest) -> MadeFrames:
        """`made`: which frames, and what they carry, was settled when the group was planned."""
        return self.made


def on_stream(canvases: Canvases, frames: int, seconds: float) -> Canvases:
    """Canvases of a group, with frames and times counted from the first of the stream.

    Args:
        canvases: counted from the first frame of the group.
        frames: of the stream before it.
        seconds: time of its first frame.
    """
    positions = canvases.positions.clone()
    shown = positions[..., 0] >= 0
    positions[..., 0] += shown.to(torch.int32) * frames
    (times,) = canvases.clip_times()
    made = Provenance.of(canvases)
    groups = tuple(_moved(group, frames, seconds) for group in made.groups or ())
    return replace(
        canvases,
        positions=positions,
        frame_times={frame + frames: time + seconds for frame, time in times.items()},
        provenance=replace(made, groups=groups).to_dict(),
    )


def _moved(group: GroupRecord, frames: int, seconds: float) -> GroupRecord:
    assert group.frames is not None
    assert group.seconds is not None
    assert group.anchor is not None
    return replace(
        group,
        frames=(group.frames[0] + frames, group.frames[1] + frames),
        seconds=(group.seconds[0] + seconds, group.seconds[1] + seconds),
        anchor=group.anchor + frames,
        whole=None if group.whole is None else tuple(frame + frames for frame in group.whole),
    )
