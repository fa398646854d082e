"""LiveGroup: what a stream gives, group by group."""

from dataclasses import dataclass
from typing import Literal

from ov2kit.canvases import Canvases

Reason = Literal["quota", "longest", "keyframe", "gap", "jump", "headers", "silence", "reconnected", "end"]


@dataclass(frozen=True)
class LiveGroup:
    """The canvases of one group of a stream, and when they came.

    Args:
        canvases: of the group. Frame indices and times count from the first picture of the stream.
        number: of the group, from 0.
        start_seconds: time of its first frame.
        end_seconds: end of its last frame.
        reason: why it ended: its quota was spent, it was as long as may be, a keyframe came, nothing was sent for
            longer than that ("gap"), the time stamps jumped, the codec headers changed, the source fell silent, was
            opened again, or the stream ended.
        spent: its energy over its quota: 1 is an ordinary group.
        waited_seconds: time of the stream between its end and the newest packet.
        latency_seconds: on the clock, from when its last packet came in to when the canvases were there.
        shed_seconds: of the stream just before it that were left out, because they came faster than they could be
            tokenized.
    """

    canvases: Canvases
    number: int
    start_seconds: float
    end_seconds: float
    reason: Reason
    spent: float
    waited_seconds: float
    latency_seconds: float
    shed_seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Merged tokens of the canvases, padding included: what the rate counts."""
        rows, columns = self.canvases.grid
        return len(self.canvases) * rows * columns // self.canvases.merge**2

    def __repr__(self) -> str:
        return (
            f"LiveGroup({self.number}, {self.start_seconds:.2f}-{self.end_seconds:.2f} s, {self.reason}, "
            f"{len(self.canvases)} canvases, spent {self.spent:.2f}, latency {self.latency_seconds:.3f} s)"
        )
