"""What every scorer of blocks offers: what it needs of a frame, and what it makes of frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from ov2kit.codec.signals.macroblock_inputs import Moved
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest

Motion = Literal["auto", "stream", "estimate", "none"]

# Blocks are scored on 10 pixels in place of 28: nearly as many of the blocks that cost most bits
# are found as at canvas size, on an eighth of the pixels (docs/saliency.md).
_SCORING_SHARE = 5 / 14


@dataclass(frozen=True)
class BlockScores:
    """Scores of the blocks of some frames.

    Args:
        values: (T, hb, wb) float32.
        signal: what they were made from, as provenance names it.
        bits_from: what bits were estimated from; None where none were.
    """

    values: Tensor
    signal: str
    bits_from: Moved | None = None


class Scorer(Protocol):
    """Frames -> one score per block of the canvas grid."""

    @property
    def needs_whole_clip(self) -> bool:
        """No group can be scored before all frames are decoded."""

    def request(self, info: StreamInfo, size: tuple[int, int], grid: tuple[int, int]) -> FrameRequest:
        """What the frames must carry.

        Args:
            info: of their stream.
            size: (height, width) of a canvas in pixels.
            grid: (rows, cols) of blocks on it.
        """

    def covered(self, frames: np.ndarray) -> np.ndarray:
        """Those of (n,) display indices that can be scored."""

    def scores(
        self,
        frames: Sequence[Frame],
        info: StreamInfo,
        grid: tuple[int, int],
        *,
        before: Frame | None = None,
        threads: int = 1,
    ) -> BlockScores:
        """Score the frames of one group, or of the whole clip.

        Args:
            frames: decoded as `request` says, in display order.
            info: of their stream.
            grid: (rows, cols) of blocks, as shown.
            before: the last frame decoded before them, to compare the first one with.
            threads: how many may be used; the result does not depend on it.
        """


def luma_size(size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels at which blocks of a canvas of `size` are scored."""
    edge = max(4, round(size[0] // grid[0] * _SCORING_SHARE))
    return grid[0] * edge, grid[1] * edge


def describe_signal(
    counts: Mapping[str, int], motion: Motion, exports_motion: bool, bits_from: Moved | None = None
) -> dict[str, Any]:
    """Provenance: the signal most frames were scored by, how many frames each, and what bits were estimated from."""
    used = max(counts, key=lambda name: counts[name]) if counts else "none"
    estimated: dict[str, Any] = {} if bits_from is None else {"bits_from": bits_from}
    return estimated | {
        "used": used,
        "frames": dict(counts),
        "asked": motion,
        "decoder_exports_motion": exports_motion,
    }
