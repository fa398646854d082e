"""What pruning after the encoder has in common: rows of a clip are worth something, the best of them are kept.

Letters: N rows, B clips of one shape, t frames, n rows of a frame, C width, M tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ov2kit.connectors.buckets import buckets, join, take
from ov2kit.connectors.checks import check_same_width
from ov2kit.connectors.interface import Counts, Grids, host_grids, item_lengths
from ov2kit.errors import check_number


class Pruner(nn.Module):
    """Keep the `tokens` rows of each clip that are worth most, in their order; has no parameters.

    An item is a clip, and its grid (t, h, w) says that frame after frame has h * w rows in the same order. Ties go to
    the earlier row. A subclass says what a row is worth.

    Rows that are not finite would be chosen by accident, and are refused. Compiled code does not look for them.

    Args:
        width: C, channels of the features and of the tokens.
        out_width: `width` or omitted; there so that every connector is built the same way.
        tokens: most tokens per item; an item of fewer rows keeps its rows.

    Raises:
        ValueError: `out_width` differs from `width`, or `tokens` is below 1.
    """

    rows_per_token = None
    needs_grids = True

    def __init__(self, width: int, out_width: int | None = None, tokens: int = 64) -> None:
        super().__init__()
        check_same_width(type(self).__name__, width, out_width)
        check_number("tokens", tokens, low=1, integer=True)
        self.width = self.out_width = width
        self.tokens = tokens

    def tokens_out(self, n: int) -> int:
        """min(n, tokens)."""
        return min(n, self.tokens)

    def worth(self, x: Tensor) -> Tensor:
        """(B, t, n, C) in float32 at least -> (B, t, n): the `tokens` highest of a clip are kept."""
        raise NotImplementedError

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) -> (M, width), M the sum of min(rows, tokens) over the items: rows of `features` as they are.

        Gradients pass through the rows that are kept, not through the choice.

        Arguments and errors as in `Connector`; `grids` are required.
        """
        return features.index_select(0, self.kept(features, counts, grids=grids))

    def kept(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """The rows of `features` that `forward` keeps: (M,) int64, ascending.

        For what goes with the tokens: their positions and times are those of these rows.
        """
        if grids is None:
            raise ValueError(
                f"{type(self).__name__} compares frames: pass grids=[(t, h, w), ...] in patches, one per item"
            )
        item_lengths(features, self.width, counts, grids)
        if not torch.compiler.is_compiling() and not bool(features.detach().isfinite().all()):
            bad = int((~features.detach().isfinite().all(dim=1)).sum())
            raise ValueError(
                f"{type(self).__name__}: {bad} of {len(features)} rows are not finite; look for NaN or infinity "
                "in what made them"
            )
        return self._kept(features, [(t, h * w) for t, h, w in host_grids(grids)])

    @torch.no_grad()
    def _kept(self, features: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        found = buckets(shapes)
        parts = []
        for bucket in found:
            first = torch.tensor(bucket.starts, device=features.device)[:, None]
            if bucket.length <= self.tokens:
                rows = torch.arange(bucket.length, device=features.device).expand(len(bucket.items), -1)
            else:
                x = take(features, bucket).reshape(len(bucket.items), *bucket.shape, self.width)
                worth = self.worth(x.to(torch.promote_types(x.dtype, torch.float32))).flatten(1)
                best = worth.argsort(dim=1, descending=True, stable=True)[:, : self.tokens]
                rows = best.sort(dim=1).values
            parts.append(rows + first)
        return join(parts, found) if parts else torch.zeros(0, dtype=torch.long, device=features.device)

    def extra_repr(self) -> str:
        return f"tokens={self.tokens}"
