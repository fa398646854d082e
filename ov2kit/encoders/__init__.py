"""Packed patches to features: attention, windows, and the OneVision encoder.

After importing it, timm knows `onevision_encoder_large_patch14` and `..._patch16`; timm itself is imported by
whoever uses it, `OneVisionViT` included.
"""

from typing import TYPE_CHECKING, Any

from ov2kit.encoders.attention import GroupVisibleAttention
from ov2kit.encoders.backends import attend, attention_backends
from ov2kit.encoders.block import Block
from ov2kit.encoders.import_hooks import import_after
from ov2kit.encoders.mlp import MLP
from ov2kit.encoders.onevision import OneVisionEncoder
from ov2kit.encoders.patch_embedding import PatchEmbedding, patchify
from ov2kit.encoders.pooling_head import PoolingHead
from ov2kit.encoders.timm_weights import Started, load_timm_vit
from ov2kit.encoders.windowed import WindowedAttention
from ov2kit.encoders.windows import Windows, spatial_windows

if TYPE_CHECKING:
    from ov2kit.encoders.timm_model import OneVisionViT

__all__ = [
    "MLP",
    "Block",
    "GroupVisibleAttention",
    "OneVisionEncoder",
    "OneVisionViT",
    "PatchEmbedding",
    "PoolingHead",
    "Started",
    "WindowedAttention",
    "Windows",
    "attend",
    "attention_backends",
    "load_timm_vit",
    "patchify",
    "spatial_windows",
]

import_after("timm.models", "ov2kit.encoders.timm_model")  # which registers the names given above


def __getattr__(name: str) -> Any:
    if name == "OneVisionViT":
        from ov2kit.encoders.timm_model import OneVisionViT

        return OneVisionViT
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
