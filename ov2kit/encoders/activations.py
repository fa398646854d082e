"""Activations of the tower by the names that configs have for them, and back.

Source: `hidden_act` of the vision configs: the exact GELU in LLaVA-OneVision-2, its approximation by tanh in
LLaVA-OneVision-2.1.
"""

from collections.abc import Callable
from functools import partial

from torch import nn

ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
}


def activation_name(module: object) -> str | None:
    """What a config calls an activation; None where it has no name for it."""
    return next((name for name, make in ACTIVATIONS.items() if str(make()) == str(module)), None)
