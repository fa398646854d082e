"""How many tokens a connector makes, asked of the connector or of the config that describes it."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from ov2kit.connectors.interface import Connector
from ov2kit.recipes.architecture.parts import build_vision


def tokens_out(connector: Connector, merge: int) -> Callable[[int], int] | None:
    """None if every merge x merge block of patches gives one token, else: real patches of an item -> its tokens."""
    return None if connector.rows_per_token == merge**2 else connector.tokens_out


def config_tokens_out(config: Mapping[str, Any]) -> Callable[[int], int] | None:
    """The same of the connector that a release config describes, built without memory."""
    with torch.device("meta"):
        encoder, connector = build_vision(config)
    return tokens_out(cast(Connector, connector), encoder.merge)
