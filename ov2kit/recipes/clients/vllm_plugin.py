"""Entry point of vLLM: what each of its processes learns about our models, without importing much.

After `pip install ov2kit` beside vLLM, `vllm serve my-model` reads codec videos, with no trust flag.
Tried with vLLM 0.32.
"""

from typing import Any

_ARCHITECTURES = (
    "LlavaOnevision2ForConditionalGeneration",
    "LlavaOnevision2MoeForConditionalGeneration",
)
_MODEL = "ov2kit.recipes.clients.vllm_model:LlavaOnevision2"
LOADER = "ov2kit"
_CONNECTOR = "http"  # vLLM's default
#: how vLLM finds the loader of a model type
_VIDEO_PROCESSOR = "LlavaOnevision2VideoProcessor"


def register() -> None:
    """Config, model, video loaders and the connector that reads files for them. May be called again."""
    # by the module's full name: its package gives a stand-in where torchvision is missing
    from transformers.models.auto.video_processing_auto import (  # type: ignore[attr-defined]
        VIDEO_PROCESSOR_MAPPING_NAMES,
    )
    from vllm import ModelRegistry
    from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector
    from vllm.multimodal.video import VIDEO_LOADER_REGISTRY

    from ov2kit.recipes.architecture.sizes import MODEL_TYPES
    from ov2kit.recipes.clients.vllm_media import FileConnector
    from ov2kit.recipes.clients.vllm_videos import CodecBytes, FrameBytes, HybridBytes, RouteBytes, VideoBytes

    names: Any = VIDEO_PROCESSOR_MAPPING_NAMES
    is_by_backend = any(isinstance(name, dict) for name in names.values())  # from transformers 5.19 on
    for kind in MODEL_TYPES:
        names[kind] = {"torchvision": _VIDEO_PROCESSOR} if is_by_backend else _VIDEO_PROCESSOR
    VIDEO_LOADER_REGISTRY.register(LOADER, video_processor=_VIDEO_PROCESSOR)(VideoBytes)
    loaders = {
        "codec": CodecBytes, "frame": FrameBytes, "frames": FrameBytes, "hybrid": HybridBytes, "route": RouteBytes,
    }  # fmt: skip
    for backend, loader in loaders.items():
        VIDEO_LOADER_REGISTRY.register(backend)(loader)
    if MEDIA_CONNECTOR_REGISTRY.name2class.get(_CONNECTOR) is MediaConnector:  # and not somebody else's
        MEDIA_CONNECTOR_REGISTRY.register(_CONNECTOR)(FileConnector)
    for name in _ARCHITECTURES:
        ModelRegistry.register_model(name, _MODEL)
