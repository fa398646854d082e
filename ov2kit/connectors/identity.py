"""The connector that does nothing, for language models that take the tower's own width."""

from torch import Tensor, nn

from ov2kit.connectors.checks import check_same_width
from ov2kit.connectors.interface import Counts, Grids, item_lengths


class Identity(nn.Module):
    """Features pass unchanged; only the items are checked.

    Args:
        width: channels of the features and of the tokens.
        out_width: `width` or omitted; there so that every connector is built the same way.

    Raises:
        ValueError: `out_width` is another number than `width`.
    """

    rows_per_token = 1
    needs_grids = False

    def __init__(self, width: int, out_width: int | None = None) -> None:
        super().__init__()
        check_same_width("Identity", width, out_width)
        self.width = self.out_width = width

    def tokens_out(self, n: int) -> int:
        """n."""
        return n

    def forward(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) -> the same tensor.

        Raises:
            ValueError: the items do not add up to N.
        """
        item_lengths(features, self.width, counts, grids)
        return features
