"""Segments: who sees whom in a packed sequence, as a value.

A segment is a run of the packed sequence whose tokens see each other; nothing crosses segments.
Built once per forward on the host, so that no attention backend has to read lengths back from the
device. Source: `cu_seqlens` of the LLaVA-OneVision-2 vision tower (`frame_windows_size` = 4).
Letters: N tokens, G segments.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Run lengths of a packed sequence.

    Args:
        lengths: tokens per segment, host integers >= 1.
        cu_seqlens: (G+1,) int32 running sums starting at 0, on the device of the tokens.

    Raises:
        ValueError: a length is below 1, or `cu_seqlens` has another size than lengths + 1.
    """

    lengths: tuple[int, ...]
    cu_seqlens: Tensor = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.lengths):
            raise ValueError(f"segment lengths must be at least 1, got {self.lengths}")
        if self.cu_seqlens.shape != (len(self.lengths) + 1,):
            raise ValueError(
                f"cu_seqlens must be ({len(self.lengths) + 1},) for {len(self.lengths)} lengths, "
                f"got {tuple(self.cu_seqlens.shape)}"
            )

    @classmethod
    def from_lengths(cls, lengths: Iterable[int], device: torch.device | str | None = None) -> "Segments":
        """Segments of the given token counts; empty runs are dropped."""
        kept = tuple(int(n) for n in lengths if n)
        ends = torch.tensor((0, *kept), dtype=torch.int64).cumsum(0)
        return cls(kept, ends.to(torch.int32).to(device))

    @classmethod
    def from_cu_seqlens(cls, cu_seqlens: Tensor | Sequence[int]) -> "Segments":
        """Segments from running sums (G+1,). Reads the lengths back to the host once.

        Raises:
            ValueError: the sums do not start at 0 or decrease.
        """
        sums = torch.as_tensor(cu_seqlens)
        host = sums.tolist()
        if not host or host[0] != 0 or any(b < a for a, b in pairwise(host)):
            raise ValueError(f"cu_seqlens must start at 0 and never decrease, got {host}")
        return cls.from_lengths((b - a for a, b in pairwise(host)), sums.device)

    @classmethod
    def from_grid(
        cls, grid_thw: Tensor | Sequence[Sequence[int]], window: int = 4, device: torch.device | str | None = None
    ) -> "Segments":
        """Windows of `window` frames within each grid row (t, h, w), a shorter rest at the end.

        Windows never span two rows; a row with t <= window is one segment.
        """
        if window < 1:
            raise ValueError(f"window must be at least 1 frame, got {window}")
        rows = grid_thw.tolist() if isinstance(grid_thw, Tensor) else grid_thw
        if device is None and isinstance(grid_thw, Tensor):
            device = grid_thw.device
        lengths = [min(window, t - start) * h * w for t, h, w in rows for start in range(0, t, window)]
        return cls.from_lengths(lengths, device)

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @property
    def max_length(self) -> int:
        return max(self.lengths, default=0)

    def to(self, device: torch.device | str) -> "Segments":
        return Segments(self.lengths, self.cu_seqlens.to(device))

    def dense(self) -> Tensor:
        """(N, N) bool, True where row may look at column. For tests: it grows with N squared."""
        lengths = torch.tensor(self.lengths, device=self.cu_seqlens.device)
        ids = torch.repeat_interleave(torch.arange(len(self.lengths), device=lengths.device), lengths)
        return ids[:, None] == ids[None, :]
