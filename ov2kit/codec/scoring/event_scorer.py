"""`EventSaliency` as a scorer: it takes luma at a sixth of the canvas and neither vectors nor references."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ov2kit.codec.scoring.event_saliency import EventSaliency
from ov2kit.codec.scoring.scorer import BlockScores
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.errors import check_type

_SHARE = 5 / 28  # of a canvas pixel's edge; finer luma finds no more events (docs/events.md)
_LEAST_EDGE = 4


class EventScorer(nn.Module):
    """Scores from the changes that a viewer sees.

    Args:
        saliency: of luma.

    Raises:
        OptionError: `saliency` is none.
    """

    needs_whole_clip = False

    def __init__(self, saliency: EventSaliency) -> None:
        super().__init__()
        self.saliency = check_type("saliency", saliency, EventSaliency, "an EventSaliency")

    def request(self, info: StreamInfo, size: tuple[int, int], grid: tuple[int, int]) -> FrameRequest:
        """See `Scorer`: small luma."""
        edges = (max(_LEAST_EDGE, round(side / count * _SHARE)) for side, count in zip(size, grid, strict=True))
        rows, columns = (count * edge for count, edge in zip(grid, edges, strict=True))
        return FrameRequest(size, luma_size=(rows, columns))

    def covered(self, frames: np.ndarray) -> np.ndarray:
        """See `Scorer`: all of them."""
        return frames

    def scores(
        self,
        frames: Sequence[Frame],
        info: StreamInfo,
        grid: tuple[int, int],
        *,
        before: Frame | None = None,
        threads: int = 1,
    ) -> BlockScores:
        """See `Scorer`; the signal is "luma, events"."""
        luma = torch.stack([frame.luma for frame in frames if frame.luma is not None])
        return BlockScores(self.saliency(luma, grid, None if before is None else before.luma), "luma, events")
