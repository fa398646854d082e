"""LiveProgress: how far a stream has come, whatever it is read from."""

from dataclasses import dataclass

from ov2kit.codec.live.rate import TokenRate
from ov2kit.codec.video.frame import Frame


@dataclass
class LiveProgress:
    """What goes on when a source is opened again, or a decoder has to be built again.

    Args:
        frames: shown so far, lost ones included.
        groups: given so far.
        seconds: end of the last frame that came in.
        rate: of tokens; None until the canvas size is known.
        packets: that came in.
        late_packets: whose picture was due in a group that had been given: it is not shown.
        failed_packets: that the decoder refused.
        skipped_groups: for which there were no tokens left.
        shed_groups: left out because the stream came faster than it could be tokenized, see `Shedding`.
        shed_seconds: of the stream in them.
        thinned_groups: of which fewer candidates were decoded for that reason.
        jumps: of the time stamps.
        before: the last frame decoded, counted from the first of the stream.
    """

    frames: int = 0
    groups: int = 0
    seconds: float = 0.0
    rate: TokenRate | None = None
    packets: int = 0
    late_packets: int = 0
    failed_packets: int = 0
    skipped_groups: int = 0
    shed_groups: int = 0
    shed_seconds: float = 0.0
    thinned_groups: int = 0
    jumps: int = 0
    before: Frame | None = None
