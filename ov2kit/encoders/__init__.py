"""Packed patches to features: attention, windows, and the OneVision encoder.

Importing it registers `onevision_encoder_large_patch14` and `..._patch16` with timm.
"""

from ov2kit.encoders.attention import GroupVisibleAttention
from ov2kit.encoders.backends import attend, attention_backends
from ov2kit.encoders.block import Block
from ov2kit.encoders.mlp import MLP
from ov2kit.encoders.onevision import OneVisionEncoder
from ov2kit.encoders.patch_embedding import PatchEmbedding, patchify
from ov2kit.encoders.pooling_head import PoolingHead
from ov2kit.encoders.timm_model import OneVisionViT
from ov2kit.encoders.timm_weights import Started, load_timm_vit
from ov2kit.encoders.windowed import WindowedAttention
from ov2kit.encoders.windows import Windows, spatial_windows

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
