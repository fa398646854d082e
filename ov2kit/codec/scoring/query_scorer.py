"""`QuerySaliency` as a scorer: another scorer's scores, and the pictures that it did not need."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ov2kit.codec.scoring.query_saliency import QuerySaliency
from ov2kit.codec.scoring.scorer import BlockScores, Scorer
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest


class QueryScorer(nn.Module):
    """Scores weighed by what a question is about.

    Args:
        saliency: weighs them.
        scorer: of the saliency inside it.
    """

    def __init__(self, saliency: QuerySaliency, scorer: Scorer) -> None:
        super().__init__()
        self.saliency, self.scorer = saliency, scorer

    @property
    def needs_whole_clip(self) -> bool:
        """See `Scorer`."""
        return self.scorer.needs_whole_clip

    def request(self, info: StreamInfo, size: tuple[int, int], grid: tuple[int, int]) -> FrameRequest:
        """See `Scorer`: what the scorer inside asks for; pictures are there, because they are shown."""
        return self.scorer.request(info, size, grid)

    def covered(self, frames: np.ndarray) -> np.ndarray:
        """See `Scorer`."""
        return self.scorer.covered(frames)

    def scores(
        self,
        frames: Sequence[Frame],
        info: StreamInfo,
        grid: tuple[int, int],
        *,
        before: Frame | None = None,
        threads: int = 1,
    ) -> BlockScores:
        """See `Scorer`; the signal is that of the scorer inside, and "query"."""
        found = self.scorer.scores(frames, info, grid, before=before, threads=threads)
        alike = torch.cat([self.saliency.similarity(_rgb(frame)[None], grid) for frame in frames])
        return replace(found, values=self.saliency.weighted(found.values, alike), signal=f"{found.signal}, query")


def _rgb(frame: Frame) -> Tensor:
    """(3, H, W) uint8 at the size of a canvas."""
    if frame.rgb is not None:
        return frame.rgb
    assert frame.picture is not None
    return frame.picture.rgb()
