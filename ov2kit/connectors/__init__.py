"""Connectors: vision features in, tokens of the language model's width out.

One interface (`Connector`): packed features (N, width) and rows per item in, packed tokens and tokens
per item out, `tokens_out(n)` known ahead. Nothing here knows the encoder or the codec.
"""

from ov2kit.connectors.attention_pool import AttentionPool
from ov2kit.connectors.average_pool import AveragePool
from ov2kit.connectors.conv_abstractor import ConvAbstractor
from ov2kit.connectors.evs_pruner import EVSPruner
from ov2kit.connectors.identity import Identity
from ov2kit.connectors.interface import Connector
from ov2kit.connectors.mlp import MLPConnector
from ov2kit.connectors.patch_merger import PatchMerger
from ov2kit.connectors.perceiver import PerceiverResampler
from ov2kit.connectors.query_transformer import QueryTransformer
from ov2kit.connectors.token_merger import TokenMerger
from ov2kit.connectors.uniqueness_pruner import UniquenessPruner

__all__ = [
    "AttentionPool",
    "AveragePool",
    "Connector",
    "ConvAbstractor",
    "EVSPruner",
    "Identity",
    "MLPConnector",
    "PatchMerger",
    "PerceiverResampler",
    "QueryTransformer",
    "TokenMerger",
    "UniquenessPruner",
]
