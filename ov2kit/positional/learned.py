"""Positions without rotation, for ablations: learned tables, and none at all.

Both keep the interface of `RoPE3D`: calling one gives (cos, sin) or None, `embed` adds to features.
Source: absolute position embeddings of ViT (arXiv 2010.11929, section 3.1), one table per axis.
Letters: N tokens, C width, S entries of a table.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ov2kit.errors import check_number, check_numbers, factory_kwargs
from ov2kit.positional.pairing import Pairing


class LearnedPositions(nn.Module):
    """One learned table per axis, read with linear interpolation, summed and added to the features.

    Args:
        width: C, channels of the features.
        sizes: entries of the tables of (time, rows, columns).
        spans: position that the last entry stands for, per axis, so 64 entries can cover 2000
            frames; sizes - 1 by default. Positions beyond are read at the end of the table.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: a size below 1 or a span that is not positive.
    """

    pairing: Pairing = "half"

    def __init__(
        self,
        width: int,
        sizes: tuple[int, int, int] = (64, 64, 64),
        *,
        spans: tuple[float, float, float] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_number("width", width, low=1, integer=True)
        check_numbers("sizes", sizes, length=3, low=1, integer=True)
        check_numbers("spans", spans, length=3, above=0, optional=True)
        if spans is None:
            spans = (max(sizes[0] - 1, 1), max(sizes[1] - 1, 1), max(sizes[2] - 1, 1))
        self.sizes = tuple(sizes)
        self.spans = tuple(float(s) for s in spans)
        self.tables = nn.ModuleList(nn.Embedding(size, width, **factory_kwargs(device, dtype)) for size in sizes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the tables, normal with deviation 0.02."""
        for table in self.tables:
            nn.init.trunc_normal_(cast(nn.Embedding, table).weight, std=0.02)

    def forward(self, positions: Tensor) -> None:
        """None: nothing is rotated."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (..., N, C) plus the table entries at positions (..., N, 3) of (frame, row, column)."""
        added = torch.zeros((), dtype=torch.float32, device=x.device)
        for axis, (table, size, span) in enumerate(zip(self.tables, self.sizes, self.spans, strict=True)):
            last = size - 1
            place = (positions[..., axis].float() / span).clamp(0, 1) * last
            low = place.floor().long().clamp(max=max(last - 1, 0))
            share = (place - low)[..., None]
            added = added + table(low) * (1 - share) + table((low + 1).clamp(max=last)) * share
        return x + added.to(x.dtype)


class NoPositions(nn.Module):
    """Tokens without positions: nothing is rotated, nothing is added."""

    pairing: Pairing = "half"

    def forward(self, positions: Tensor) -> None:
        """None: nothing is rotated."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """x unchanged."""
        return x
