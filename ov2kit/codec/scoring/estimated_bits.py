"""Scores from the bits of each macroblock, as `BitCostMap` estimates them."""

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from torch import nn

from ov2kit.codec.scoring.maps import LEAST_BITS, MAP_PERCENTILE, MAP_PIXELS, normalized
from ov2kit.codec.scoring.scorer import BlockScores, Motion
from ov2kit.codec.signals.bit_cost import BitCostMap, mean_on_grid
from ov2kit.codec.signals.macroblock_inputs import Moved, macroblock_luma_size
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.errors import check_choice


class EstimatedBitsScorer(nn.Module):
    """Estimated bits, compressed by log1p and scaled by their 99th percentile, as the release does with true ones.

    Args:
        motion: which motion to use, see `CodecTokenizer`.

    Raises:
        OptionError: `motion` is unknown.
    """

    needs_whole_clip = False

    def __init__(self, motion: Motion = "auto") -> None:
        super().__init__()
        self.motion: Motion = check_choice("motion", motion, get_args(Motion))
        self.models: dict[Moved, BitCostMap] = {}

    def extra_repr(self) -> str:
        return f"motion={self.motion!r}"

    def request(self, info: StreamInfo, size: tuple[int, int], grid: tuple[int, int]) -> FrameRequest:
        """See `Scorer`: luma and reference on the macroblock grid as coded, vectors and quantizers."""
        searched = self.motion != "none"
        return FrameRequest(
            size, luma_size=macroblock_luma_size(info.coded_size), reference=True, motion=searched, quantizer=searched,
            as_coded=True,
        )  # fmt: skip

    def covered(self, frames: np.ndarray) -> np.ndarray:
        """See `Scorer`: all of them."""
        return frames

    def moved(self, exports_motion: bool) -> Moved:
        """What bits are estimated from, for a stream that has vectors or not."""
        if self.motion == "none":
            return "difference"
        if exports_motion:
            return "vectors"
        return "estimated" if self.motion == "estimate" else "difference"

    def scores(
        self,
        frames: Sequence[Frame],
        info: StreamInfo,
        grid: tuple[int, int],
        *,
        before: Frame | None = None,
        threads: int = 1,
    ) -> BlockScores:
        """See `Scorer`; the signal is "bit-cost, estimated"."""
        moved = self.moved(info.exports_motion)
        if moved not in self.models:
            self.models[moved] = BitCostMap(moved)
        bits = self.models[moved].of_frames(frames, info.coded_size, threads=threads)
        cost = normalized(bits.log1p(), MAP_PERCENTILE, math.log1p(LEAST_BITS))[0]
        scores = mean_on_grid(cost, info.coded_size, info.orientation.size(*grid)) * MAP_PIXELS**2
        return BlockScores(torch.from_numpy(info.orientation.picture(scores.numpy())), "bit-cost, estimated", moved)
