"""Random block scores: what a choice of blocks is worth that knows nothing of the video."""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ov2kit.codec.scoring.scorer import BlockScores, luma_size
from ov2kit.codec.signals.collect import collect_signals
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.errors import check_number, check_type


class RandomSaliency(nn.Module):
    """Scores in [0, 1) that depend on nothing but a seed and the picture, for ablations.

    It replaces `MotionResidualSaliency` in `CodecTokenizer(saliency=...)`: frames, groups and
    canvases are chosen as usual, blocks at random. A frame has the same scores whatever frames are
    scored with it, and again in the next run.

    Args:
        seed: which random scores.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = check_number("seed", seed, integer=True)

    def extra_repr(self) -> str:
        return f"seed={self.seed}"

    def forward(self, luma: Tensor, grid: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """luma: (T, h, w) uint8; valid: (T,) bool -> (T, hb, wb) float32; frames that are not valid score 0."""
        scores = torch.zeros(len(luma), *grid)
        for frame, picture in enumerate(luma.cpu()):
            if valid is None or valid[frame]:
                own = zlib.crc32(picture.contiguous().numpy().tobytes(), self.seed & 0xFFFFFFFF)
                scores[frame] = torch.rand(grid, generator=torch.Generator().manual_seed(own))
        return scores


class RandomScorer(nn.Module):
    """`RandomSaliency` as a scorer: it takes luma, and scores what the saliency of motion and residual would.

    Args:
        saliency: the random scores.

    Raises:
        OptionError: `saliency` is none.
    """

    needs_whole_clip = False

    def __init__(self, saliency: RandomSaliency) -> None:
        super().__init__()
        self.saliency = check_type("saliency", saliency, RandomSaliency, "a RandomSaliency")

    def request(self, info: StreamInfo, size: tuple[int, int], grid: tuple[int, int]) -> FrameRequest:
        """See `Scorer`: luma, and its reference to know which frames have one."""
        return FrameRequest(size, luma_size=luma_size(size, grid), reference=True)

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
        """See `Scorer`; the signal is "random"."""
        signals = collect_signals(frames, info.orientation, before)
        return BlockScores(self.saliency(signals.luma, grid, signals.valid), "random")
