"""A group between its cut and its canvases."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ov2kit.codec.live.group import Reason
from ov2kit.codec.live.group_decode import GroupDecode
from ov2kit.codec.live.group_video import GroupVideo
from ov2kit.codec.selection.plan import GroupPlan
from ov2kit.codec.tokenizers.groups import Clip


class Ending(NamedTuple):
    """Where a group ends.

    Args:
        seconds: time of its end; `math.inf` if it ends with what was there.
        reason: why it ends there.
        share: its energy over its quota.
    """

    seconds: float
    reason: Literal["quota", "longest", "keyframe"]
    share: float


@dataclass(frozen=True)
class Closing:
    """A group that has ended.

    Args:
        end_seconds: time of its end; `math.inf` if it ended with what was there.
        frames: of the stream that were there then.
        reason: why it ended.
        share: its energy over its quota.
    """

    end_seconds: float
    frames: int
    reason: Reason
    share: float


@dataclass(frozen=True)
class OpenGroup:
    """A group that is being decoded.

    Args:
        clip: the group, for the stages.
        video: the same.
        plan: its frames and canvases.
        decode: its frames so far.
        begin_seconds: time of its first frame.
        end_seconds: end of its last one.
        arrived: when its last packet came in.
        closing: how it ended.
    """

    clip: Clip
    video: GroupVideo
    plan: GroupPlan
    decode: GroupDecode
    begin_seconds: float
    end_seconds: float
    arrived: float
    closing: Closing
