"""Rotary angles for tokens that sit at (frame, row, column).

Source: `VisionRotaryEmbedding` of LLaVA-OneVision-2, `VideoRotaryEmbeddingSplit466` of
OneVision-Encoder; time scaling after Position Interpolation (arXiv 2306.15595, equation 4) and the
NTK-aware change of base (YaRN, arXiv 2309.00071, section 3.1).
Letters: N tokens, D head_dim, F = D / 2 frequencies, n frequencies of one axis.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ov2kit.errors import OptionError, check_choice, check_number, check_numbers
from ov2kit.positional.pairing import EXACT, PAIRINGS, Pairing, mark

TimeScaling = Literal["none", "linear", "ntk"]


class RoPE3D(nn.Module):
    """Share F frequencies among time, rows and columns, and turn positions into cosines and sines.

    Frequency k of an axis with n of them is theta ** (-k / n); the angles are the products with
    the positions, concatenated as (time, rows, columns). Holds no parameters and no buffers, and
    works in float32 whatever the model is cast to, so no cast or meta device can damage it.

    Args:
        head_dim: D, channels per head; even, and D / 2 a multiple of sum(split).
        theta: base of the frequency progression, dimensionless.
        split: shares of (time, rows, columns); (0, 1, 1) is the 2-D form that ignores time.
        pairing: which channels rotate together, see `ov2kit.positional.rotation`; an exact one unless
            "release" is given, which the released weights expect.
        time_scaling: for videos longer than those trained on. "linear" divides the time positions
            by `time_factor`; "ntk" raises the base of the time axis until its slowest angle is
            divided by `time_factor` and leaves its fastest one alone.
        time_factor: how many times longer, at least 1.

    Raises:
        ValueError: `head_dim` does not fit `split`, or an option is unknown.
    """

    def __init__(
        self,
        head_dim: int,
        theta: float = 1e4,
        *,
        split: tuple[int, int, int] = (4, 6, 6),
        pairing: Pairing = EXACT,
        time_scaling: TimeScaling = "none",
        time_factor: float = 1.0,
    ) -> None:
        super().__init__()
        check_number("head_dim", head_dim, low=1, integer=True)
        check_number("theta", theta, above=0)
        check_numbers("split", split, length=3, low=0, integer=True)
        check_choice("pairing", pairing, PAIRINGS)
        check_choice("time_scaling", time_scaling, get_args(TimeScaling))
        check_number("time_factor", time_factor, low=1)
        total = sum(split)
        if total == 0:
            raise OptionError(f"split must be three shares >= 0 that are not all 0, got {split}")
        if head_dim % (2 * total):
            below = head_dim // (2 * total) * 2 * total
            fits = " and ".join(str(n) for n in (below, below + 2 * total) if n > 0)
            raise OptionError(
                f"RoPE3D splits head_dim / 2 as {split[0]}:{split[1]}:{split[2]}, so head_dim must be a positive "
                f"multiple of {2 * total}; got {head_dim}. Nearest that fit: {fits}."
            )
        if time_scaling == "ntk" and split[0] * (head_dim // 2 // total) == 1:
            raise OptionError("time_scaling 'ntk' needs at least 2 time frequencies, got 1; use 'linear'")
        self.head_dim = head_dim
        self.theta = theta
        self.pairing: Pairing = pairing
        self.time_scaling = time_scaling
        self.time_factor = time_factor
        #: frequencies of (time, rows, columns)
        self.sizes = tuple(share * (head_dim // 2 // total) for share in split)

    def extra_repr(self) -> str:
        scaled = "" if self.time_scaling == "none" else f", time_scaling={self.time_scaling!r} x{self.time_factor}"
        return f"{self.head_dim}, theta={self.theta}, frequencies={self.sizes}, pairing={self.pairing!r}{scaled}"

    def frequencies(self, axis: int, device: torch.device | str | None = None) -> Tensor:
        """(n,) float32 radians per step of `axis` (0 time, 1 rows, 2 columns), fastest first."""
        n = self.sizes[axis]
        theta, divisor = self.theta, 1.0
        if axis == 0 and self.time_scaling == "ntk":
            theta *= self.time_factor ** (n / (n - 1))
        elif axis == 0 and self.time_scaling == "linear":
            divisor = self.time_factor
        steps = torch.arange(n, dtype=torch.float32, device=device)
        return 1.0 / (theta ** (steps / max(n, 1))) / divisor

    def angles(self, positions: Tensor) -> Tensor:
        """positions (..., N, 3) -> (..., N, F) float32 radians."""
        if positions.shape[-1] != 3:
            raise ValueError(f"positions must be (N, 3) holding (frame, row, column), got {tuple(positions.shape)}")
        steps = positions.float()
        return torch.cat(
            [steps[..., axis, None] * self.frequencies(axis, positions.device) for axis in range(3)], dim=-1
        )

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines for `apply_rope`. They carry their pairing: another is refused.

        Args:
            positions: (N, 3) or (..., N, 3) of (frame, row, column); integers, or floats when time
                is in seconds (`times_in_seconds`). Padding is -1 and gets ordinary angles.

        Returns:
            (cos, sin), each (..., N, D) float32.
        """
        return spread(self.angles(positions), self.pairing)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """x unchanged: rotary positions enter in the attention only."""
        return x


def spread(angles: Tensor, pairing: Pairing) -> tuple[Tensor, Tensor]:
    """(..., F) angles -> cos, sin (..., 2F), each angle where `pairing` looks for it, and marked with it."""
    full = angles.repeat_interleave(2, dim=-1) if pairing == "interleaved" else torch.cat((angles, angles), dim=-1)
    return mark(full.cos(), full.sin(), pairing)
