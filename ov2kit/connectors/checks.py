"""Checks of constructor arguments that connectors share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from ov2kit.errors import OptionError, check_divides, check_layer, check_number, factory_kwargs


def check_same_width(name: str, width: int, out_width: int | None) -> None:
    """For connectors without parameters, which cannot change the width.

    Raises:
        OptionError: `out_width` is given and is not `width`.
    """
    check_sizes(width=width)
    check_number("out_width", out_width, low=1, integer=True, optional=True)
    if out_width not in (None, width):
        raise OptionError(
            f"{name} has no parameters and keeps the width, so out_width must be {width}, got {out_width}; "
            f"put an MLPConnector({width}, {out_width}, merge=1) after it"
        )


def check_sizes(*, eps: float = 0.0, **sizes: int | None) -> None:
    """Sizes must be whole numbers from 1 on, `hidden` may be None for a default; `eps` must not be negative.

    Raises:
        OptionError: names the argument.
    """
    for name, size in sizes.items():
        check_number(name, size, low=1, integer=True, optional=name == "hidden")
    check_number("eps", eps, low=0)


def check_heads(heads: int, width_name: str, width: int, **ratios: float) -> None:
    """Heads must divide the width that they share, and every ratio to it (`mlp_ratio`) must leave a channel.

    Raises:
        OptionError: names the argument.
    """
    check_divides("heads", heads, width_name, width)
    for name, ratio in ratios.items():
        check_number(name, ratio, low=1 / width)


def layer_arguments(
    eps: float,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    *,
    norm_layer: Callable[..., nn.Module],
    **others: Callable[..., nn.Module],
) -> tuple[Callable[[int], nn.Module], dict[str, Any]]:
    """Check the layers that were handed in, and where parameters go.

    Returns:
        What makes a norm of so many channels, and the keyword arguments of every other layer.

    Raises:
        OptionError: names the argument.
    """
    for name, layer in {"norm_layer": norm_layer, **others}.items():
        check_layer(name, layer)
    factory = factory_kwargs(device, dtype)
    return partial(norm_layer, eps=eps, **factory), factory
