"""Packed patches to features: attention, windows, and the OneVision encoder."""

from ov2kit.encoders.attention import GroupVisibleAttention
from ov2kit.encoders.backends import attend, attention_backends
from ov2kit.encoders.block import Block
from ov2kit.encoders.mlp import MLP
from ov2kit.encoders.onevision import OneVisionEncoder
from ov2kit.encoders.patch_embedding import PatchEmbedding, patchify
from ov2kit.encoders.pooling_head import PoolingHead
from ov2kit.encoders.windowed import WindowedAttention
from ov2kit.encoders.windows import Windows, spatial_windows

__all__ = [
    "MLP",
    "Block",
    "GroupVisibleAttention",
    "OneVisionEncoder",
    "PatchEmbedding",
    "PoolingHead",
    "WindowedAttention",
    "Windows",
    "attend",
    "attention_backends",
    "patchify",
    "spatial_windows",
]
