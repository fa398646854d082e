"""All of it put together: the full model, its data, training, checkpoints and metrics.

Names are imported when they are first used, so that a module that needs only PyTorch and
transformers (the model) does not bring Lightning in. What is missing is named with its extra. From here on
`AutoConfig`, `AutoModelForImageTextToText` and `AutoProcessor` of transformers know the model.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ov2kit.encoders.import_hooks import import_after
from ov2kit.errors import needs_extra

if TYPE_CHECKING:  # type checkers see the names that `__getattr__` finds
    from ov2kit.recipes.architecture.sizes import release_config as release_config
    from ov2kit.recipes.data.datamodule import ConversationData as ConversationData
    from ov2kit.recipes.data.index import ConversationIndex as ConversationIndex
    from ov2kit.recipes.data.packing import pack_bins as pack_bins
    from ov2kit.recipes.data.packing import parse_lengths as parse_lengths
    from ov2kit.recipes.data.visual_tokenizers import build_tokenizers as build_tokenizers
    from ov2kit.recipes.evaluation.evaluate import evaluate_jumpscore as evaluate_jumpscore
    from ov2kit.recipes.model.build import build as build
    from ov2kit.recipes.model.model import LlavaOneVision2 as LlavaOneVision2
    from ov2kit.recipes.paired import compare_predictions as compare_predictions
    from ov2kit.recipes.prompt.layout import VisualLayout as VisualLayout
    from ov2kit.recipes.prompt.plain_images import plain_image_messages as plain_image_messages
    from ov2kit.recipes.prompt.processor import Processor as Processor
    from ov2kit.recipes.prompt.prompts import rewrite_prompt as rewrite_prompt
    from ov2kit.recipes.prompt.sample import Batch as Batch
    from ov2kit.recipes.prompt.sample import Sample as Sample
    from ov2kit.recipes.prompt.sample import collate as collate
    from ov2kit.recipes.prompt.sample import pack as pack
    from ov2kit.recipes.prompt.subtitles import read_subtitles as read_subtitles
    from ov2kit.recipes.prompt.text_tokenizer import load_tokenizer as load_tokenizer
    from ov2kit.recipes.prompt.text_tokenizer import small_tokenizer as small_tokenizer
    from ov2kit.recipes.routing.color_query import color_query as color_query
    from ov2kit.recipes.routing.embedding_classifier import EmbeddingClassifier as EmbeddingClassifier
    from ov2kit.recipes.routing.plan import Plan as Plan
    from ov2kit.recipes.routing.question_kind import QuestionClassifier as QuestionClassifier
    from ov2kit.recipes.routing.router import Router as Router
    from ov2kit.recipes.training.lit import LitLlavaOneVision2 as LitLlavaOneVision2

_PLACES = {
    "Batch": "ov2kit.recipes.prompt.sample",
    "ConversationData": "ov2kit.recipes.data.datamodule",
    "ConversationIndex": "ov2kit.recipes.data.index",
    "LitLlavaOneVision2": "ov2kit.recipes.training.lit",
    "LlavaOneVision2": "ov2kit.recipes.model.model",
    "Plan": "ov2kit.recipes.routing.plan",
    "Processor": "ov2kit.recipes.prompt.processor",
    "EmbeddingClassifier": "ov2kit.recipes.routing.embedding_classifier",
    "QuestionClassifier": "ov2kit.recipes.routing.question_kind",
    "Router": "ov2kit.recipes.routing.router",
    "Sample": "ov2kit.recipes.prompt.sample",
    "VisualLayout": "ov2kit.recipes.prompt.layout",
    "build": "ov2kit.recipes.model.build",
    "build_tokenizers": "ov2kit.recipes.data.visual_tokenizers",
    "collate": "ov2kit.recipes.prompt.sample",
    "color_query": "ov2kit.recipes.routing.color_query",
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

# each module of ours registers its class with the Auto classes when it is imported
import_after("transformers.models.auto.configuration_auto", "ov2kit.recipes.architecture.released_config")
import_after("transformers.models.auto.modeling_auto", "ov2kit.recipes.model.model")
import_after("transformers.models.auto.processing_auto", "ov2kit.recipes.prompt.released_processor")


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra(name):
        return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
