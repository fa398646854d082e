"""All of it put together: the full model, its data, training, checkpoints and metrics.

Names are imported when they are first used, so that a module that needs only PyTorch and
transformers (the model) does not bring Lightning in. What is missing is named with its extra.
"""

import importlib
from typing import Any

from ov2kit.errors import needs_extra

_PLACES = {
    "Batch": "ov2kit.recipes.prompt.sample",
    "ConversationData": "ov2kit.recipes.data.datamodule",
    "ConversationIndex": "ov2kit.recipes.data.index",
    "LitLlavaOneVision2": "ov2kit.recipes.training.lit",
    "LlavaOneVision2": "ov2kit.recipes.model.model",
    "Processor": "ov2kit.recipes.prompt.processor",
    "Sample": "ov2kit.recipes.prompt.sample",
    "VisualLayout": "ov2kit.recipes.prompt.layout",
    "build": "ov2kit.recipes.model.build",
    "build_tokenizers": "ov2kit.recipes.data.visual_tokenizers",
    "collate": "ov2kit.recipes.prompt.sample",
    "compare_predictions": "ov2kit.recipes.paired",
    "evaluate_jumpscore": "ov2kit.recipes.evaluation.evaluate",
    "load_tokenizer": "ov2kit.recipes.prompt.text_tokenizer",
    "pack": "ov2kit.recipes.prompt.sample",
    "pack_bins": "ov2kit.recipes.data.packing",
    "parse_lengths": "ov2kit.recipes.data.packing",
    "plain_image_messages": "ov2kit.recipes.prompt.plain_images",
    "read_subtitles": "ov2kit.recipes.prompt.subtitles",
    "release_config": "ov2kit.recipes.architecture.sizes",
    "rewrite_prompt": "ov2kit.recipes.prompt.prompts",
    "small_tokenizer": "ov2kit.recipes.prompt.text_tokenizer",
}
__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra(name):
        return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
