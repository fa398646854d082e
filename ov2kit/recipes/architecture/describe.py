"""A model back to the config that describes it."""

import copy
import json
from collections.abc import Mapping
from typing import Any, Protocol, cast, get_args

import torch
from torch import nn

from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import CheckpointError
from ov2kit.recipes.architecture.parts import PositionsName, build_vision, position_module
from ov2kit.recipes.architecture.sizes import _VISION


class Described(Protocol):
    """What a description reads of a model."""

    encoder: Any
    connector: Any
    language_model: Any
    image_token_id: int
    release_config: dict[str, Any]


def describe(model: Described) -> dict[str, Any]:
    """The release config of a model: what it was built from, with what has changed since.

    Raises:
        CheckpointError: encoder or connector are not what a config can describe.
    """
    config = copy.deepcopy(model.release_config) or _derive(model)
    text = config["text_config"]
    embedding = cast(nn.Embedding, model.language_model.get_input_embeddings())
    text["vocab_size"] = embedding.num_embeddings
    config["image_token_id"] = model.image_token_id
    _check_description(model, config)
    try:
        json.dumps(config)
    except TypeError as error:
        raise CheckpointError(
            f"the config of this model cannot be written as JSON ({error}), so no directory in the released format can "
            "hold it; build the model from names and numbers, or save its state dict"
        ) from None
    return config


def _derive(model: Described) -> dict[str, Any]:
    """A release config for a model that was put together by hand."""
    import transformers

    encoder, language = model.encoder, model.language_model.config
    if not isinstance(encoder, OneVisionEncoder):
        raise CheckpointError(
            f"the released format has a OneVisionEncoder, got {type(encoder).__name__}; save the state dict instead"
        )
    width = cast(nn.Embedding, model.language_model.get_input_embeddings()).embedding_dim
    text = {**language.to_dict(), "model_type": language.model_type}
    vision = _VISION | encoder.config() | {"out_hidden_size": width}
    swapped = [name for name in get_args(PositionsName) if str(position_module(name, vision)) == str(encoder.position)]
    return {
        "architectures": ["LlavaOnevision2ForConditionalGeneration"],
        "model_type": "llava_onevision2",
        "vision_config": vision,
        "text_config": text,
        "image_token_id": model.image_token_id,
        "tie_word_embeddings": bool(text.get("tie_word_embeddings", False)),
        "transformers_version": transformers.__version__,
        **({"ov2kit": {"positions": swapped[0]}} if swapped and swapped[0] != "release" else {}),
    }


def _check_description(model: Described, config: Mapping[str, Any]) -> None:
    """Build encoder and connector from the config once more, without memory, and compare."""
    with torch.device("meta"):
        vision = build_vision(config)
    for part, said, there in zip(("encoder", "connector"), vision, (model.encoder, model.connector), strict=True):
        assert said is not None
        shapes = [{name: tensor.shape for name, tensor in m.state_dict().items()} for m in (said, there)]
        if str(said) != str(there) or shapes[0] != shapes[1]:
            raise CheckpointError(
                f"the {part} of this model is not the one its config describes, so no directory in the released format "
                "can hold it; build the model with ov2kit.recipes.build, or save its state dict"
            )
