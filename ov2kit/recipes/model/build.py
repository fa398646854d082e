"""A model with fresh weights from a config or the name of a size."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ov2kit.recipes.architecture.parts import PositionsName, build_parts
from ov2kit.recipes.model.model import LlavaOneVision2


def build(
    config: Mapping[str, Any] | str,
    *,
    connector: str | nn.Module | None = None,
    connector_options: Mapping[str, Any] | None = None,
    positions: PositionsName | None = None,
    encoder_options: Mapping[str, Any] | None = None,
    attention: str | None = None,
) -> LlavaOneVision2:
    """A model with fresh weights.

    Args:
        config: a release config, or the name of a size.
        connector: see `ov2kit.recipes.architecture.parts.build_parts`, as all that follows.
        connector_options: further arguments of the named connector.
        positions: "release", "exact", "2d" or "none".
        encoder_options: further arguments of `OneVisionEncoder`.
        attention: `attn_implementation` of the language model.

    Raises:
        ValueError: an unknown size, connector or positions, or sizes that do not fit.
    """
    return LlavaOneVision2.from_parts(
        build_parts(
            config,
            connector=connector,
            connector_options=connector_options,
            positions=positions,
            encoder_options=encoder_options,
            attention=attention,
        )
    )
