"""Score maps that the caller brings: bits per block from a patched decoder, or scores of any kind."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from torch import Tensor

MapKind = Literal["bits", "scores"]
ScoreMap = np.ndarray | Tensor
ScoreMaps = Mapping[int, ScoreMap] | Sequence[ScoreMap] | np.ndarray | Tensor
_MAP_PIXELS = 28  # pixels per block edge that an external map is spread over before it is summed
_MAP_PERCENTILE = 99.0
_LEAST_BITS = 8.0  # decoders count whole bytes: a frame whose blocks all cost less is not lifted to the scale of others


def mapped_frames(maps: ScoreMaps, frames: np.ndarray) -> np.ndarray:
    """Those of `frames` that have a map."""
    return frames[[_has(maps, int(frame)) for frame in frames]] if len(frames) else frames


def _has(maps: ScoreMaps, index: int) -> bool:
    return index in maps if isinstance(maps, Mapping) else index < len(maps)
