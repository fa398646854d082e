"""Random block scores: what a choice of blocks is worth that knows nothing of the video."""

import zlib

import torch
from torch import Tensor, nn

from ov2kit.codec.scoring.saliency import Normalize
from ov2kit.errors import check_number


class RandomSaliency(nn.Module):
    """Scores in [0, 1) that depend on nothing but a seed and the picture, for ablations.

    It stands in for `MotionResidualSaliency` in `CodecTokenizer(saliency=...)`: frames, groups and
    canvases are chosen as ever, blocks at random. A frame has the same scores whatever frames are
    scored with it, and again in the next run.

    Args:
        seed: which random scores.
    """

    normalize: Normalize = "group"

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
