"""Scores that know what is asked about: blocks count more the more their features are like the query's.

Letters: T frames, hb x wb blocks, N = T * hb * wb, D features.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ov2kit.codec.scoring.byte_share import ByteShareSaliency
from ov2kit.codec.scoring.color_names import COLOR_NAMES, ColorNames
from ov2kit.codec.scoring.event_saliency import EventSaliency
from ov2kit.codec.scoring.random_saliency import RandomSaliency
from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.errors import OptionError, check_number, check_numbers, check_type

PlainSaliency = MotionResidualSaliency | ByteShareSaliency | EventSaliency | RandomSaliency


class QuerySaliency(nn.Module):
    """Weigh the scores of another saliency by what a question is about.

    A positive score is multiplied by 1 + weight * similarity: the cosine of a block's features and the query, or
    0 where that is negative. A block in which nothing happens is not chosen for its looks, however well they fit.

    Args:
        query: (D,) what is looked for, in the terms of `features`; see `color_query` of the recipes.
        saliency: gives the scores; an `EventSaliency` by default.
        features: (N, 3, h, w) RGB in [0, 1] -> (N, D); an encoder of pictures, for example. `ColorNames` by default.
        weight: of the similarity; 0 changes nothing.

    Raises:
        OptionError: the query is no vector or all 0, or an option is of a wrong type or out of range.

    Example:
        >>> from ov2kit.codec import CodecTokenizer
        >>> red_things = QuerySaliency([0.0] * 3 + [1.0] + [0.0] * 7)
        >>> canvases = CodecTokenizer(budget_canvases=8, saliency=red_things)("clip.mp4")
        >>> canvases.signal
        'luma, events, query'
    """

    def __init__(
        self,
        query: Tensor | Sequence[float],
        *,
        saliency: PlainSaliency | None = None,
        features: Callable[[Tensor], Tensor] | None = None,
        weight: float = 4.0,
    ) -> None:
        super().__init__()
        values = query.tolist() if isinstance(query, Tensor) and query.ndim == 1 else query
        vector = torch.tensor(check_numbers("query", values), dtype=torch.float64)
        if not vector.any():
            raise OptionError("query is all 0: nothing is looked for")
        vector /= vector.abs().max()  # so that no square is too large or too small
        kinds = (MotionResidualSaliency, ByteShareSaliency, EventSaliency, RandomSaliency)
        check_type("saliency", saliency, kinds, "a saliency module", optional=True)
        check_type("features", features, Callable, "a function of blocks", optional=True)
        self.saliency: PlainSaliency = EventSaliency() if saliency is None else saliency
        self.features = ColorNames() if features is None else features
        if features is None and len(vector) != len(COLOR_NAMES):
            raise OptionError(f"query must have a number for each of {', '.join(COLOR_NAMES)}; got {len(vector)}")
        if features is None and not (vector > 0).any():
            raise OptionError("query has no color above 0: nothing is looked for")
        self.weight = check_number("weight", weight, low=0, high=1e6)
        self.register_buffer("query", (vector / vector.norm()).float())
        self.query: Tensor

    def extra_repr(self) -> str:
        return f"query={[round(value, 4) for value in self.query.tolist()]}, weight={self.weight}"

    def similarity(self, pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        """How like the query blocks are.

        Args:
            pictures: (T, 3, H, W) uint8.
            grid: (hb, wb); divides H and W.

        Returns:
            (T, hb, wb) float32 from 0 to 1.

        Raises:
            ValueError: `features` gives no vectors of the query's length, or numbers that are not finite.
        """
        frames, _, height, width = pictures.shape
        rows, columns = grid
        blocks = pictures.view(frames, 3, rows, height // rows, columns, width // columns).permute(0, 2, 4, 1, 3, 5)
        found = self.features(blocks.reshape(-1, 3, height // rows, width // columns).float() / 255)
        expected = (frames * rows * columns, len(self.query))
        if not isinstance(found, Tensor) or found.shape != expected:
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"features must be a tensor {expected} for this query, got {came}")
        found = found.float()
        if not found.isfinite().all():
            raise ValueError("features must be finite, got NaN or infinity")
        cosine = found @ self.query / found.norm(dim=1).clamp(min=1e-6)
        alike: Tensor = cosine.clamp(min=0).view(frames, rows, columns)
        return alike

    def weighted(self, scores: Tensor, similarity: Tensor) -> Tensor:
        """(T, hb, wb) scores by their similarity."""
        return scores * torch.where(scores > 0, 1 + self.weight * similarity, 1.0)
