"""Models from plain sizes: the released ones as data, tiny ones for tests, and what may be swapped.

A release config is a dict with the fields of the public `config.json`. It is built from here and read
here and in `ov2kit.recipes.release`; modules never see it. What the release has no field for (another
connector, other positions) stands under the key "ov2kit" and is left out where nothing is swapped.
Sources: `LlavaOnevision2Config`, and the sizes in `tools/convert_checkpoint/config` of LLaVA-OneVision-2.
"""

import copy
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import nn

import ov2kit.connectors
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import CheckpointError, MissingExtraError, OptionError, check_choice, check_type, shorten
from ov2kit.positional import NoPositions, RoPE3D
from ov2kit.recipes.model import LlavaOneVision2

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Positions = Literal["release", "exact", "2d", "none"]

# transformers replaces functions of torch.nn.init while it draws weights; two at a time would not put them back
_drawing = threading.Lock()

_TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}
_IDS = {
    "image_token_id": 151655,
    "video_token_id": 151656,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
}
_VISION: dict[str, Any] = {
    "model_type": "llava_onevision2",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_channels": 3,
    "image_size": 448,
    "patch_size": 14,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "layer_norm_type": "layer_norm",
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "rope_theta": 10000.0,
    "use_head": False,
    "spatial_merge_size": 2,
    "frame_windows_size": 4,
    "tokens_per_second": 1,
    "temporal_patch_size": 1,
}
_TEXT: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "use_cache": True,
    "vocab_size": 151936,
}


def _text(kind: str, width: int, depth: int, mlp: int, heads: tuple[int, int], theta: float, tied: bool) -> dict:  # type: ignore[type-arg]
    return _TEXT | {
        "model_type": kind,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": mlp,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "tie_word_embeddings": tied,
    }


_MOE = {
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "output_router_logits": False,
    "router_aux_loss_coef": 0.001,
}
_SMALL = {
    "vocab_size": 512,
    "head_dim": 32,
    "bos_token_id": None,
    "eos_token_id": None,
    "max_position_embeddings": 8192,
}
_SMALL_IDS = {k: 508 + i for i, k in enumerate(_IDS)}

#: (vision fields that differ, text fields, special ids) of each size
_SIZES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, int]]] = {
    "tiny": (
        {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
        _text("qwen3", 96, 2, 192, (4, 2), 1e6, True) | _SMALL,
        _SMALL_IDS,
    ),
    "small": (
        {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6},
        _text("qwen3", 256, 6, 768, (8, 4), 1e6, True) | _SMALL,
        _SMALL_IDS,
    ),
    "2b": ({}, _text("qwen3", 2048, 28, 6144, (16, 8), 1e6, True), _IDS),
    "4b": ({}, _text("qwen3", 2560, 36, 9728, (32, 8), 1e6, True), _IDS),
    "8b": ({}, _text("qwen3", 4096, 36, 12288, (32, 8), 8e6, False), _IDS),
    "30b-a3b": ({}, _text("qwen3_moe", 2048, 48, 6144, (32, 4), 1e6, False) | _MOE, _IDS),
}
SIZES = tuple(_SIZES)


def release_config(
    size: str, *, vision: Mapping[str, Any] | None = None, text: Mapping[str, Any] | None = None, tokenizer: Any = None
) -> dict[str, Any]:
    """A release config of a named size.

    Args:
        size: one of `SIZES`; "tiny" and "small" are for tests and first steps, the others are released.
        vision: fields of `vision_config` to overrule.
        text: fields of `text_config` to overrule.
        tokenizer: of transformers; the vocabulary and the special ids are made to fit it.

    Raises:
        ValueError: an unknown size, or a tokenizer without the vision tokens.
    """
    check_choice("size", size, _SIZES)
    for name, fields in (("vision", vision), ("text", text)):
        check_type(name, fields, Mapping, "a mapping", optional=True)
    if tokenizer is not None and not hasattr(tokenizer, "get_vocab"):
        raise OptionError(f"tokenizer must be one of transformers, got {shorten(tokenizer)}")
    vision_fields, text_fields, ids = copy.deepcopy(_SIZES[size])
    config: dict[str, Any] = {
        "architectures": ["LlavaOnevision2ForConditionalGeneration"],
        "model_type": "llava_onevision2",
        "vision_config": _VISION | vision_fields | dict(vision or {}),
        "text_config": text_fields | dict(text or {}),
        **ids,
    }
    config["vision_config"]["out_hidden_size"] = config["text_config"]["hidden_size"]
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"]
    return config if tokenizer is None else fit_tokenizer(config, tokenizer)


def fit_tokenizer(config: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The config with the vocabulary size and the special ids of a tokenizer of transformers.

    Raises:
        ValueError: the tokenizer has no `<|image_pad|>`.
    """
    known = tokenizer.get_vocab()
    if _TOKENS["image_token_id"] not in known:
        raise ValueError(f"the tokenizer has no token {_TOKENS['image_token_id']!r}, which stands for a visual token")
    ids = {field: known[token] for field, token in _TOKENS.items() if token in known}
    text = {**config["text_config"], "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    text |= {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return {**config, **ids, "text_config": text}


def build(
    config: Mapping[str, Any] | str,
    *,
    connector: str | nn.Module | None = None,
    connector_options: Mapping[str, Any] | None = None,
    positions: Positions | None = None,
    encoder_options: Mapping[str, Any] | None = None,
    attention: str | None = None,
) -> LlavaOneVision2:
    """A model with fresh weights.

    Args:
        config: a release config, or the name of a size.
        connector: "merger" (the release's), a name in `connectors()`, or a built module; what the
            config says when omitted.
        connector_options: further arguments of the named connector.
        positions: "release" (rotary as released), "exact" (a true rotation), "2d" (rows and columns
            only) or "none"; what the config says when omitted.
        encoder_options: further arguments of `OneVisionEncoder` that a release config has no field for.
        attention: `attn_implementation` of the language model; transformers chooses when omitted.

    Raises:
        ValueError: an unknown size, connector or positions, or sizes that do not fit.
    """
    check_type("config", config, (str, Mapping), "a release config, or the name of a size")
    check_type("connector", connector, (str, nn.Module), "a name or a module", optional=True)
    for name, options in (("connector_options", connector_options), ("encoder_options", encoder_options)):
        check_type(name, options, Mapping, "a mapping", optional=True)
    check_type("attention", attention, str, "a name", optional=True)
    config = release_config(config) if isinstance(config, str) else copy.deepcopy(dict(config))
    swapped = {**config.get("ov2kit", {})}
    if positions is not None:
        swapped["positions"] = positions
    if isinstance(connector, str):
        swapped["connector"] = {"name": connector, **dict(connector_options or {})}
    if encoder_options:
        swapped["encoder"] = {**swapped.get("encoder", {}), **encoder_options}
    config["ov2kit"] = {key: value for key, value in swapped.items() if value not in _AS_RELEASED}
    if not config["ov2kit"]:
        del config["ov2kit"]
    encoder, made = build_vision(config, connector=not isinstance(connector, nn.Module))
    language_model = build_language_model(config["text_config"], attention)
    connector = connector if isinstance(connector, nn.Module) else cast(nn.Module, made)
    model = LlavaOneVision2(encoder, connector, language_model, image_token_id=config["image_token_id"])
    model.release_config = config
    return model


def build_vision(config: Mapping[str, Any], *, connector: bool = True) -> tuple[OneVisionEncoder, nn.Module | None]:
    """Encoder and connector of a release config, with fresh weights; the connector only if wanted."""
    vision, swapped = config["vision_config"], config.get("ov2kit", {})
    position = position_module(swapped.get("positions", "release"), vision)
    encoder = OneVisionEncoder.from_config(vision, position=position, **swapped.get("encoder", {}))
    if not connector:
        return encoder, None
    options = dict(swapped.get("connector", {"name": "merger"}))
    return encoder, build_connector(options.pop("name"), vision, config["text_config"]["hidden_size"], **options)


_AS_RELEASED: tuple[Any, ...] = ("release", {"name": "merger"}, {})


def position_module(positions: Positions, vision: Mapping[str, Any]) -> nn.Module:
    """What turns (frame, row, column) into a rotation, for `OneVisionEncoder(position=...)`.

    Raises:
        ValueError: unknown positions.
    """
    check_choice("positions", positions, get_args(Positions))
    head_dim = vision["hidden_size"] // vision["num_attention_heads"]
    theta = vision.get("rope_theta", 1e4)
    if positions == "release":
        return RoPE3D(head_dim, theta, pairing="release")
    if positions == "exact":
        return RoPE3D(head_dim, theta, pairing="interleaved")
    if positions == "2d":
        return RoPE3D(head_dim, theta, split=(0, 1, 1), pairing="interleaved")
    return NoPositions()


def connectors() -> dict[str, type[nn.Module]]:
    """Connectors by the short names that configs use."""
    parts = ov2kit.connectors
    return {
        "merger": parts.PatchMerger,
        "mlp": parts.MLPConnector,
        "resampler": parts.PerceiverResampler,
        "query": parts.QueryTransformer,
        "pool": parts.AttentionPool,
        "average": parts.AveragePool,
        "conv": parts.ConvAbstractor,
    }


def build_connector(name: str, vision: Mapping[str, Any], out_width: int, **options: Any) -> nn.Module:
    """A connector by name, with the merge, eps and heads of the vision config unless `options` say else.

    Raises:
        ValueError: an unknown name.
    """
    known = connectors()
    check_choice("connector", name, known)
    options.setdefault("eps", vision.get("layer_norm_eps", 1e-6))
    if name in ("merger", "mlp", "conv"):
        options.setdefault("merge", vision.get("spatial_merge_size", 2))
    if name in ("resampler", "query", "pool"):
        options.setdefault("heads", vision["num_attention_heads"])
    if name == "query":
        options.setdefault("hidden", vision["hidden_size"])
    return known[name](vision["hidden_size"], out_width, **options)


def build_language_model(text: Mapping[str, Any], attention: str | None = None) -> "PreTrainedModel":
    """The causal language model of transformers for a `text_config`, with fresh weights.

    Raises:
        ValueError: transformers knows no such model type.
        MissingExtraError: transformers is not installed.
    """
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the language model needs {error.name}, which is not installed; run: pip install 'ov2kit[recipes]'"
        ) from error
    fields = copy.deepcopy(dict(text))
    kind = fields.pop("model_type", "qwen3")
    config = AutoConfig.for_model(kind, **fields)
    dtype = config.dtype
    options = {} if attention is None else {"attn_implementation": attention}
    with _drawing:
        # without a dtype: transformers would make it the default of the whole process meanwhile
        model = cast(Any, AutoModelForCausalLM).from_config(config, dtype=None, **options)
    model.config.dtype = dtype
    if dtype is not None:
        for parameter in model.parameters():  # buffers stay: rotary frequencies in bfloat16 are wrong
            parameter.data = parameter.data.to(dtype)
    return cast("PreTrainedModel", model)


def describe(model: LlavaOneVision2) -> dict[str, Any]:
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
    return config


def _derive(model: LlavaOneVision2) -> dict[str, Any]:
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
    swapped = [name for name in get_args(Positions) if str(position_module(name, vision)) == str(encoder.position)]
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


def _check_description(model: LlavaOneVision2, config: Mapping[str, Any]) -> None:
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
