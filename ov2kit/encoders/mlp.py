"""The two-layer perceptron of a block.

Source: `SiglipMLP` as LLaVA-OneVision-2 uses it (exact GELU). Letters: N tokens, C width.
"""

import torch
from torch import Tensor, nn

from ov2kit.encoders.linear import is_plain, linear
from ov2kit.errors import check_number

# Tokens per step at inference, so that a large (N, hidden) activation never exists as a whole: few on
# a CPU, where a step then stays in cache; on a GPU enough to keep all of it busy.
_STEP_TOKENS = 1024
_STEP_TOKENS_GPU = 16384


class MLP(nn.Module):
    """fc2(gelu(fc1(x))).

    Args:
        width: C.
        hidden: width of the layer in between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        check_number("width", width, low=1, integer=True)
        check_number("hidden", hidden, low=1, integer=True)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C) -> (N, C)."""
        step = _STEP_TOKENS if x.device.type == "cpu" else _STEP_TOKENS_GPU
        if (
            torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or len(x) <= step
            or not (is_plain(self.fc1) and is_plain(self.fc2))  # a hook must see all tokens, and once
        ):
            return linear(linear(x, self.fc1, gelu=True), self.fc2)
        out = torch.empty_like(x)
        for part, into in zip(torch.split(x, step), torch.split(out, step), strict=True):
            into.copy_(linear(linear(part, self.fc1, gelu=True), self.fc2))
        return out
