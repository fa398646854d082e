"""Each wanted picture with the picture it is compared with."""

from dataclasses import dataclass
from itertools import count

import numpy as np
from av.video.frame import VideoFrame

from ov2kit.codec.video.losses import DecodeLosses

_B = 3  # AV_PICTURE_TYPE_B; PyAV gives pict_type as a plain int
_MAX_DISTANCE = 16
_RUNS = count()


@dataclass(frozen=True)
class DecodedFrame:
    """A wanted picture with the picture it was predicted from.

    Args:
        index: display index; within its job where display order is unknown.
        picture: the frame as FFmpeg decoded it.
        reference: the last I or P picture shown before it in the same job; None if there is none.
        reference_index: display index of the reference, -1 without one.
        run: a number for the decode that both came from: there, and only there, an index is one picture.
    """

    index: int
    picture: VideoFrame
    reference: VideoFrame | None
    reference_index: int
    run: int


class References:
    """Follows the pictures of one job in display order.

    Args:
        wanted: (F,) bool over frames.
        losses: counted into, in the thread that calls.

    Attributes:
        given: wanted pictures so far.
        is_damaged: some picture so far had concealed damage; later ones are made from it.
    """

    def __init__(self, wanted: np.ndarray, losses: DecodeLosses) -> None:
        self._wanted, self._losses = wanted, losses
        self._reference: tuple[VideoFrame, int, int] | None = None
        self._last: tuple[VideoFrame, int, int] | None = None
        self._order = 0
        self._run = next(_RUNS)
        self.given = 0
        self.is_damaged = False

    def move(self, wanted: np.ndarray, frames: int) -> None:
        """Go on with frames counted from another one.

        Args:
            wanted: (F,) bool over frames as they are counted from now on.
            frames: how many come before the first of them, as they were counted until now.
        """
        self._wanted, self._run = wanted, next(_RUNS)
        for name in ("_reference", "_last"):
            kept = getattr(self, name)
            setattr(self, name, kept and (kept[0], kept[1] - frames, kept[2]))

    def shown(self, index: int, frame: VideoFrame) -> DecodedFrame | None:
        """The next picture with its reference, None if it is not wanted."""
        before = self._reference
        # Streams that only bend forward (all B after one I) would compare with the distant past.
        if self._last is not None and (before is None or self._order - before[2] > _MAX_DISTANCE):
            before = self._last
        self._last = (frame, index, self._order)
        if frame.pict_type != _B:
            self._reference = self._last
        self._order += 1
        is_wanted = index < len(self._wanted) and bool(self._wanted[index])
        self._losses.decoded_frames += 1
        if frame.is_corrupt:
            self.is_damaged = True
            self._losses.corrupt_frames += is_wanted
        if not is_wanted:
            return None
        self.given += 1
        reference, reference_index = before[:2] if before is not None else (None, -1)
        return DecodedFrame(index, frame, reference, reference_index, self._run)
