"""Multimodal rotary angles as Qwen-VL assigns them: one spectrum shared by the three axes.

Sources: Qwen2-VL (arXiv 2409.12191, section 2.1; `mrope_section`), Qwen3-VL (`mrope_interleaved`).
Letters: N tokens, D head_dim, F = D / 2 frequencies.
"""

import torch
from torch import Tensor, nn

from ov2kit.errors import OptionError, check_choice, check_flag, check_number, check_numbers
from ov2kit.positional.pairing import PAIRINGS, Pairing
from ov2kit.positional.rope3d import spread


class MRoPE(nn.Module):
    """Same interface as `RoPE3D`, with one geometric spectrum theta ** (-k / F) shared by the axes.

    Sectioned (Qwen2-VL, Qwen2.5-VL): the fastest frequencies go to time, the next to rows, the
    slowest to columns. Interleaved (Qwen3-VL): time, row, column take turns, so that every axis
    sees fast and slow angles; what is left over after the shorter axes ran out goes to time.

    Args:
        head_dim: D, even.
        sections: frequencies of (time, rows, columns), with sum D / 2.
        theta: base of the progression, dimensionless.
        interleaved: assign in turns instead of in sections.
        pairing: "half" is what Qwen uses.

    Raises:
        ValueError: the sections do not add up to D / 2, do not fit the turns, or an unknown pairing.
    """

    def __init__(
        self,
        head_dim: int,
        sections: tuple[int, int, int],
        *,
        theta: float = 1e6,
        interleaved: bool = False,
        pairing: Pairing = "half",
    ) -> None:
        super().__init__()
        check_number("head_dim", head_dim, low=2, integer=True)
        check_numbers("sections", sections, length=3, low=0, integer=True)
        check_number("theta", theta, above=0)
        check_flag("interleaved", interleaved)
        check_choice("pairing", pairing, PAIRINGS)
        if head_dim % 2 or sum(sections) != head_dim // 2:
            raise OptionError(f"sections must be three counts with sum head_dim / 2 = {head_dim / 2:g}, got {sections}")
        if interleaved and max(3 * sections[1] - 1, 3 * sections[2]) > head_dim // 2:
            raise OptionError(
                f"interleaved sections need rows and columns of at most a third of {head_dim // 2}, got {sections}"
            )
        self.head_dim = head_dim
        self.sections = tuple(sections)
        self.theta = theta
        self.interleaved = interleaved
        self.pairing: Pairing = pairing

    def extra_repr(self) -> str:
        return f"{self.head_dim}, sections={self.sections}, theta={self.theta}, interleaved={self.interleaved}"

    def axes(self) -> list[int]:
        """Which axis (0 time, 1 rows, 2 columns) each of the F frequencies belongs to."""
        if not self.interleaved:
            return [axis for axis, count in enumerate(self.sections) for _ in range(count)]
        turns = [k % 3 for k in range(self.head_dim // 2)]
        return [axis if k < 3 * self.sections[axis] else 0 for k, axis in enumerate(turns)]

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions (..., N, 3) of (frame, row, column) -> cos, sin (..., N, D) float32."""
        if positions.shape[-1] != 3:
            raise ValueError(f"positions must be (N, 3) holding (frame, row, column), got {tuple(positions.shape)}")
        half = self.head_dim // 2
        steps = torch.arange(half, dtype=torch.float32, device=positions.device)
        chosen = positions.float()[..., torch.tensor(self.axes(), device=positions.device)]
        return spread(chosen * self.theta ** (-steps / half), self.pairing)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """x unchanged: rotary positions enter in the attention only."""
        return x
