"""Segments: who sees whom in a packed sequence, as a value.

A segment is a run of the packed sequence whose tokens see the same keys: one another, and with
`causal` also the segments before them. Built once per forward on the host, so that no attention
backend has to read lengths back from the device. Source: `cu_seqlens` of the LLaVA-OneVision-2
vision tower (`frame_windows_size` = 4).
Letters: N tokens, G segments.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from ov2kit.errors import OptionError, check_number, check_numbers, check_type
from ov2kit.geometry import check_grids


@dataclass(frozen=True)
class Segments:
    """Run lengths of a packed sequence, and the run of keys that each of them sees.

    Args:
        lengths: tokens per segment, host integers >= 1.
        cu_seqlens: (G+1,) int32 running sums starting at 0, on the device of the tokens.
        keys: per segment the tokens [start, end) that it sees; its own when omitted.

    Raises:
        ValueError: a length is no whole number from 1 on, `cu_seqlens` or `keys` has another size than `lengths`
            asks for, or a run of keys is empty or leaves the sequence.
    """

    lengths: tuple[int, ...]
    cu_seqlens: Tensor = field(repr=False, compare=False)
    keys: tuple[tuple[int, int], ...] | None = None
    #: (G, 4) int64 on the host: start, end, first key, end of keys. For compiled code, which may
    #: read tensors but would be recompiled for every other tuple.
    table: Tensor = field(init=False, repr=False, compare=False)
    #: the tokens [start, end) of each segment
    runs: tuple[tuple[int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_type("lengths", self.lengths, tuple, "a tuple of whole numbers")
        check_numbers("lengths", self.lengths, low=1, integer=True)
        check_type("cu_seqlens", self.cu_seqlens, Tensor, "a tensor")
        if self.cu_seqlens.shape != (len(self.lengths) + 1,):
            raise OptionError(
                f"cu_seqlens must be ({len(self.lengths) + 1},) for {len(self.lengths)} lengths, "
                f"got {tuple(self.cu_seqlens.shape)}"
            )
        object.__setattr__(self, "runs", tuple(pairwise(accumulate(self.lengths, initial=0))))
        if self.keys is not None:
            check_type("keys", self.keys, tuple, "a tuple of (start, end)")
            for place, run in enumerate(self.keys):
                check_numbers(f"keys[{place}]", run, length=2, integer=True)
            if len(self.keys) != len(self.lengths):
                raise OptionError(f"keys must have one run per segment: {len(self.lengths)}, got {len(self.keys)}")
            tokens = self.num_tokens
            if bad := [k for k in self.keys if not 0 <= k[0] < k[1] <= tokens]:
                raise OptionError(f"runs of keys must lie within 0..{tokens} and not be empty, got {bad[:3]}")
            if self.keys == self.runs:  # one way to say "itself", so that equal visibility compares equal
                object.__setattr__(self, "keys", None)
        rows = [(*run, *keys) for run, keys in zip(self.runs, self.keys or self.runs, strict=True)]
        object.__setattr__(self, "table", torch.tensor(rows, dtype=torch.int64).reshape(-1, 4))

    @classmethod
    def from_lengths(cls, lengths: Iterable[int], device: torch.device | str | None = None) -> "Segments":
        """Segments of the given token counts; empty runs are dropped.

        Raises:
            OptionError: the counts are no whole numbers from 0 on.
        """
        check_type("lengths", lengths, Iterable, "whole numbers")
        counts: Any = lengths.tolist() if isinstance(lengths, Tensor) else lengths
        given = counts if isinstance(counts, str | bytes | Mapping) else list(counts)
        kept = tuple(int(n) for n in check_numbers("lengths", given, low=0, integer=True) if n)
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
            raise OptionError(f"cu_seqlens must start at 0 and never decrease, got {host}")
        return cls.from_lengths((b - a for a, b in pairwise(host)), sums.device)

    @classmethod
    def from_grid(
        cls,
        grid_thw: Tensor | Sequence[Sequence[int]],
        window: int | None = 4,
        device: torch.device | str | None = None,
    ) -> "Segments":
        """Windows of `window` frames within each grid row (t, h, w), a shorter rest at the end.

        Windows never span two rows; a row with t <= window is one segment. With `window=1` every
        canvas sees itself only, with `window=None` a row sees all of itself.
        """
        check_number("window", window, low=1, integer=True, optional=True)
        rows = check_grids("grid_thw", grid_thw)
        if device is None and isinstance(grid_thw, Tensor):
            device = grid_thw.device
        lengths = [
            min(window or t, t - start) * h * w for t, h, w in rows for start in range(0, t, window or max(t, 1))
        ]
        return cls.from_lengths(lengths, device)

    @classmethod
    def from_groups(cls, groups: Tensor | Sequence[int], tokens: int = 1) -> "Segments":
        """Runs of equal consecutive group ids see one another.

        Args:
            groups: one id per canvas (or per token); read back to the host once.
            tokens: tokens per id, the patches of one canvas.
        """
        check_number("tokens", tokens, low=0, integer=True)
        ids = torch.as_tensor(groups)
        runs = torch.unique_consecutive(ids.cpu(), return_counts=True)[1].tolist() if len(ids) else []
        return cls.from_lengths((n * tokens for n in runs), ids.device)

    def causal(self, segments_per_item: Sequence[int] | None = None) -> "Segments":
        """Let every segment see those before it too: causal over groups, full within one.

        Args:
            segments_per_item: how many segments each video of the batch has, in order; all belong
                to one video when omitted. Nothing crosses from one video to the next.

        Raises:
            ValueError: the counts do not add up to the number of segments.
        """
        counts = [len(self.lengths)] if segments_per_item is None else list(segments_per_item)
        if sum(counts) != len(self.lengths) or any(n < 0 for n in counts):
            raise OptionError(f"segments_per_item must add up to {len(self.lengths)} segments, got {counts}")
        firsts = [first for first, n in zip(accumulate(counts, initial=0), counts, strict=False) for _ in range(n)]
        runs = self.runs
        keys = tuple((runs[first][0], end) for first, (_, end) in zip(firsts, runs, strict=True))
        return Segments(self.lengths, self.cu_seqlens, keys)

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @property
    def max_length(self) -> int:
        return max(self.lengths, default=0)

    def to(self, device: torch.device | str) -> "Segments":
        return Segments(self.lengths, self.cu_seqlens.to(device), self.keys)

    def ids(self) -> Tensor:
        """(N,) int64 which segment each token belongs to, on the device of `cu_seqlens`."""
        lengths = self.cu_seqlens.diff()
        index = torch.arange(len(self.lengths), device=lengths.device)
        return torch.repeat_interleave(index, lengths, output_size=self.num_tokens)

    def dense(self) -> Tensor:
        """(N, N) bool, True where row may look at column. For tests: it grows with N squared."""
        table = self.table.to(self.cu_seqlens.device)[self.ids()]
        column = torch.arange(self.num_tokens, device=table.device)
        return (column >= table[:, 2:3]) & (column < table[:, 3:4])
