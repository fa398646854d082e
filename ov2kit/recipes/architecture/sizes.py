"""The released sizes as data, and tiny ones for tests."""

import copy
from collections.abc import Mapping
from typing import Any

from ov2kit.errors import OptionError, check_choice, check_type, shorten

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
# What a config.json means that leaves a field out. The config class of the release has another merge than its 8B.
_ABSENT: dict[str, dict[str, Any]] = {
    "llava_onevision2": {"spatial_merge_size": 3},
    "llava_onevision2_moe": {"spatial_merge_size": 3},
    "mage_vl": {"model_type": "mage_vl", "patch_size": 16},
}
#: `model_type` of the line's checkpoints: LLaVA-OneVision-2 and 2.1, their mixtures of experts, and Mage-VL
MODEL_TYPES = tuple(_ABSENT)
MAGE_VL = "mage_vl"
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


def vision_defaults(model_type: object) -> dict[str, Any]:
    """The fields of a `vision_config`, as they are where a config.json of this model type leaves them out."""
    return _VISION | _ABSENT.get(str(model_type), {})


def vision_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `vision_config` of a release config, with what it leaves out."""
    given = {name: value for name, value in config["vision_config"].items() if value is not None}
    return vision_defaults(config.get("model_type")) | given


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
