"""Score maps that the caller brings: bits per block from a patched decoder, or scores of any kind."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ov2kit.codec.scoring.maps import MAP_PERCENTILE, MAP_PIXELS, cell_sums, normalized
from ov2kit.codec.scoring.scorer import BlockScores
from ov2kit.codec.video.frame import Frame, StreamInfo
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.errors import OptionError, check_choice, shorten

MapKind = Literal["bits", "scores"]
ScoreMap = np.ndarray | Tensor
ScoreMaps = Mapping[int, ScoreMap] | Sequence[ScoreMap] | np.ndarray | Tensor


class ExternalMapScorer:
    """Maps of the frames of one video.

    Args:
        score_maps: map of each frame by display index, see `CodecTokenizer.forward`.
        map_kind: what they hold: "bits" are compressed by log1p and scaled by their 99th
            percentile, as the release does; "scores" are taken as they are.

    Raises:
        OptionError: `score_maps` is neither a mapping nor a sequence, or `map_kind` is unknown.
    """

    needs_whole_clip = False

    def __init__(self, score_maps: ScoreMaps, map_kind: MapKind = "bits") -> None:
        given: object = score_maps
        if isinstance(given, (str, bytes)) or not isinstance(given, (Mapping, Sequence, np.ndarray, Tensor)):
            raise OptionError(f"score_maps must be a mapping or sequence of (rows, cols) arrays, got {shorten(given)}")
        self.maps = score_maps
        self.map_kind: MapKind = check_choice("map_kind", map_kind, get_args(MapKind))

    def request(self, info: StreamInfo, size: tuple[int, int], grid: tuple[int, int]) -> FrameRequest:
        """See `Scorer`: nothing but the picture."""
        return FrameRequest(size)

    def covered(self, frames: np.ndarray) -> np.ndarray:
        """See `Scorer`: those that have a map."""
        return frames[[self._has(int(frame)) for frame in frames]] if len(frames) else frames

    def scores(
        self,
        frames: Sequence[Frame],
        info: StreamInfo,
        grid: tuple[int, int],
        *,
        before: Frame | None = None,
        threads: int = 1,
    ) -> BlockScores:
        """See `Scorer`; the signal is "external".

        Raises:
            ValueError: a map is not (rows, cols) of finite numbers.
        """
        return BlockScores(self.of_frames(frames, grid), "external")

    def of_frames(self, frames: Sequence[Frame], grid: tuple[int, int]) -> Tensor:
        """(T, rows, cols) float32 scores; 0 where there is no map."""
        pixels = (grid[0] * MAP_PIXELS, grid[1] * MAP_PIXELS)
        rows = []
        for frame in frames:
            if not self._has(frame.index):  # an anchor without a map: it is shown whole anyway
                rows.append(torch.zeros(grid))
                continue
            given = torch.as_tensor(np.asarray(self.maps[frame.index]), dtype=torch.float32)
            if given.ndim != 2:
                raise ValueError(f"a score map must be (rows, cols), got {tuple(given.shape)} for frame {frame.index}")
            if not given.isfinite().all():
                raise ValueError(f"the score map of frame {frame.index} holds NaN or infinity")
            if self.map_kind == "bits":
                given = normalized(given.clamp(min=0).log1p(), MAP_PERCENTILE, 1e-6)[0]
            rows.append(cell_sums(given, pixels, grid))
        return torch.stack(rows)

    def _has(self, index: int) -> bool:
        return index in self.maps if isinstance(self.maps, Mapping) else index < len(self.maps)
