"""Packet bytes shared among blocks: an estimate of what the encoder spent on each that needs no fitting.

Letters: B clips or groups, T frames, h x w luma pixels, gh x gw motion cells, hb x wb blocks.
"""

from typing import get_args

import torch
from torch import Tensor, nn

from ov2kit.codec.scoring.residual import check_pictures, parts, residuals, sum_blocks
from ov2kit.codec.signals.collect import FrameSignals
from ov2kit.codec.signals.compensate import Sampling
from ov2kit.errors import check_choice

_UNCODED_GRAY = 2.0  # mean gray levels that an encoder hardly spends bits on


class ByteShareSaliency(nn.Module):
    """Share each packet's bytes among its blocks by log(1 + mean residual / 2 gray levels).

    The residual is that of `MotionResidualSaliency`; motion serves its compensation alone.

    Args:
        sampling: of the reference picture, ``"bilinear"`` or ``"nearest"``.

    Raises:
        OptionError: `sampling` is unknown.
    """

    needs_whole_clip = False

    def __init__(self, sampling: Sampling = "bilinear") -> None:
        super().__init__()
        self.sampling: Sampling = check_choice("sampling", sampling, get_args(Sampling))

    def extra_repr(self) -> str:
        return f"sampling={self.sampling!r}"

    def forward(
        self,
        luma: Tensor,
        reference: Tensor,
        motion: Tensor | None,
        grid: tuple[int, int],
        nbytes: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Score the blocks of T frames; every argument may have a leading batch dimension B.

        Args:
            luma: (T, h, w) uint8 at scoring size, h and w multiples of the grid.
            reference: (T, h, w) uint8, for each frame the picture its vectors point to.
            motion: (T, gh, gw, 2) float32 pixels, NaN where there is no vector; None: plain difference.
            grid: (hb, wb) blocks.
            nbytes: (T,) bytes of each frame's packet.
            valid: (T,) bool; False has no reference and scores 0.

        Returns:
            (T, hb, wb) float32 bytes; the blocks of a frame sum to its bytes, or to 0 without a residual.

        Raises:
            ValueError: shapes do not fit.
        """
        if luma.ndim == 3:
            motion, valid = (None if x is None else x[None] for x in (motion, valid))
            scores: Tensor = self(luma[None], reference[None], motion, grid, nbytes[None], valid)
            return scores[0]
        valid = check_pictures(luma, reference, motion, grid, valid)
        residual = residuals(luma, reference, motion, valid, self.sampling)
        return _shared(residual, nbytes, grid) * valid[..., None, None]

    def of_signals(self, signals: FrameSignals, motion: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """As `forward`, of collected signals with the motion that is to count."""
        scores: Tensor = self(signals.luma, signals.reference, motion, grid, signals.nbytes, signals.valid)
        return scores


def _shared(residual: Tensor, nbytes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, T, h, w) uint8 and (B, T) bytes -> (B, T, hb, wb) bytes."""
    flat = residual.flatten(0, 1)
    sums = torch.cat([sum_blocks(flat[part].float(), grid) for part in parts(flat)])
    pixels = residual.shape[2] * residual.shape[3] / (grid[0] * grid[1])
    cost = (sums / (pixels * _UNCODED_GRAY)).log1p_().view(*residual.shape[:2], *grid)
    total = cost.sum((2, 3), keepdim=True)
    return cost / total.clamp(min=1e-12) * nbytes.to(cost)[..., None, None]
