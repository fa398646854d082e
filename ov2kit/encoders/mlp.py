"""The two-layer perceptron of a block.

Source: `SiglipMLP` as LLaVA-OneVision-2 uses it. Letters: N tokens, C width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ov2kit.encoders.linear import is_plain, is_plain_gelu, linear
from ov2kit.errors import check_layer, check_number, factory_kwargs

# Tokens per step at inference, so that a large (N, hidden) activation never exists as a whole: few on
# a CPU, where a step then stays in cache; on a GPU enough to keep all of it busy.
_STEP_TOKENS = 1024
_STEP_TOKENS_GPU = 16384


class MLP(nn.Module):
    """fc2(act(fc1(x))).

    Args:
        width: C.
        hidden: width of the layer in between.
        act_layer: makes the activation; called without arguments.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_number("width", width, low=1, integer=True)
        check_number("hidden", hidden, low=1, integer=True)
        check_layer("act_layer", act_layer)
        factory = factory_kwargs(device, dtype)
        self.fc1 = nn.Linear(width, hidden, **factory)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden, width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C) -> (N, C)."""
        step = _STEP_TOKENS if x.device.type == "cpu" else _STEP_TOKENS_GPU
        if (
            torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or len(x) <= step
            or not (is_plain(self.fc1) and is_plain(self.fc2))  # a hook must see all tokens, and once
            or not is_plain_gelu(self.act)
        ):
            return linear(linear(x, self.fc1, self.act), self.fc2)
        out = torch.empty_like(x)
        for part, into in zip(torch.split(x, step), torch.split(out, step), strict=True):
            into.copy_(linear(linear(part, self.fc1, self.act), self.fc2))
        return out
