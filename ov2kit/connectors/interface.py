"""What every connector agrees on: packed items in, packed tokens out.

An item is a run of rows in the packed features (an image, a canvas, a group, a clip: whoever calls
decides). `counts` or `grids` say where items end; nothing crosses from one item into another.
Letters: N feature rows, K items, M tokens out.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ov2kit.segments import Segments

Counts = Sequence[int] | Segments
Grids = Sequence[Sequence[int]]


@runtime_checkable
class Connector(Protocol):
    """Vision features to tokens of the language model's width.

    Calling it: ``connector(features)`` takes all rows as one item, ``connector(features, counts)`` and
    ``connector(features, grids=...)`` say where items end. The result is always the tokens (M, out_width), item
    after item. How many each item has is known without it: ``[connector.tokens_out(n) for n in counts]``.

    `rows_per_token` and `needs_grids` are what a model asks instead of a connector's type.
    """

    width: int
    out_width: int

    @property
    def rows_per_token(self) -> int | None:
        """Feature rows that one token stands for, whatever item they are in; None if an item is read as a whole.

        With a number, items do not matter, and the tokens of padding can be dropped afterwards. With None,
        an item's tokens depend on all of its rows, so padding must be left out before.
        """
        ...

    @property
    def needs_grids(self) -> bool:
        """Whether it has to know which rows lie next to each other: `grids` is then required."""
        ...

    def tokens_out(self, n: int) -> int:
        """Tokens that an item of n feature rows becomes, known without running anything."""
        ...

    def __call__(self, features: Tensor, counts: Counts | None = None, *, grids: Grids | None = None) -> Tensor:
        """(N, width) -> (M, out_width).

        Args:
            features: (N, width), items one after another.
            counts: rows per item; one item when omitted.
            grids: (t, h, w) in patches per item, instead of or beside `counts`.

        Returns:
            (M, out_width), item after item; of each item `tokens_out` of its rows.

        Raises:
            ValueError: the items do not add up to N, or an item cannot be taken, such as one that is not a whole
                number of blocks.
        """
        ...


def item_lengths(features: Tensor, width: int, counts: Counts | None, grids: Grids | None) -> tuple[int, ...]:
    """Rows of each item, as host integers.

    Args:
        features: (N, width), items one after another.
        width: expected channels.
        counts: rows per item, or None for one item, or where `grids` are given.
        grids: (t, h, w) patches per item, or None.

    Raises:
        ValueError: features of another shape; counts below 1, on a device, or with another sum than N;
            grids that are not (t, h, w) or disagree with the counts.
    """
    if features.ndim != 2 or features.shape[1] != width:
        hint = "; flatten the batch and pass counts=[n] * batch" if features.ndim == 3 else ""
        raise ValueError(f"features must be packed rows (N, {width}), got {tuple(features.shape)}{hint}")
    n = features.shape[0]
    lengths: tuple[int, ...] = (n,) if n else ()
    if counts is not None:
        lengths = tuple(int(c) for c in _host(counts.lengths if isinstance(counts, Segments) else counts, "counts"))
    if grids is not None:
        areas = tuple(t * h * w for t, h, w in host_grids(grids))
        if counts is not None and areas != lengths:
            raise ValueError(f"counts and grids must describe the same items, got counts {lengths} and t*h*w {areas}")
        lengths = areas
    if any(c < 1 for c in lengths):
        raise ValueError(f"every item must have at least 1 row, got {lengths}; leave empty items out")
    if sum(lengths) != n:
        raise ValueError(f"the items must add up to the {n} rows of features, got {_brief(lengths)} = {sum(lengths)}")
    return lengths


def host_grids(grids: Grids) -> list[tuple[int, int, int]]:
    """(t, h, w) of every item as host integers, from lists or an (items, 3) host tensor.

    Raises:
        ValueError: an entry is not three numbers, or the tensor is on a device.
    """
    rows = []
    for grid in _host(grids, "grids"):
        if len(grid) != 3:
            raise ValueError(f"each grid must be (t, h, w) in patches, got {tuple(grid)}")
        rows.append((int(grid[0]), int(grid[1]), int(grid[2])))
    return rows


def merged_count(n: int, merge: int) -> int:
    """Blocks of merge x merge rows in an item of n rows.

    Raises:
        ValueError: n is not a whole number of blocks.
    """
    if n % merge**2:
        raise ValueError(
            f"an item must be whole blocks of merge**2 = {merge**2} rows in block layout, got {n} rows; "
            "see ov2kit.geometry.to_block_layout"
        )
    return n // merge**2


def _host(values: Any, name: str) -> Any:
    if isinstance(values, Tensor):
        if values.device.type != "cpu":
            raise ValueError(
                f"{name} must be on the host, got a tensor on {values.device}; call .tolist() once outside"
            )
        return values.tolist()
    return values


def _brief(lengths: Sequence[int]) -> str:
    shown = " + ".join(str(c) for c in lengths[:6]) or "no items"
    return shown if len(lengths) <= 6 else f"{shown} + ... ({len(lengths)} items)"
