"""The release's vision configuration as constructor arguments.

Source: `vision_config` of LLaVA-OneVision-2 and the configuration of the stand-alone release.
"""

from collections.abc import Mapping
from typing import Any

from ov2kit.encoders.activations import ACTIVATIONS
from ov2kit.errors import check_choice

_NAMES = {
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp_width",
    "patch_size": "patch",
    "spatial_merge_size": "merge",
    "num_channels": "channels",
    "layer_norm_type": "norm",
    "layer_norm_eps": "norm_eps",
    "rope_theta": "theta",
    "frame_windows_size": "frame_window",
}

#: fields of sister checkpoints that change the arithmetic
_NOT_BUILT = {
    "use_patch_position_encoding": "row and column embeddings in the merger",
    "use_post_layernorm": "a norm after the last layer, without a pooling head",
    "zero_centered_gamma": "norms of the encoder with 1 added to their weights",
    "merger_zero_centered_gamma": "a norm of the merger with 1 added to its weights",
}


def arguments_from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `OneVisionEncoder` for a config dict with the release's field names.

    Fields that do not shape the encoder (image_size, out_hidden_size, model_type, ...) are passed
    over: the encoder takes any resolution, and the output size belongs to the connector. The release
    has no field for the pairing and always means "release".

    Raises:
        ValueError: an activation or dropout that the encoder does not have, or a field of a sister that is not built.
    """
    arguments = {ours: config[theirs] for theirs, ours in _NAMES.items() if config.get(theirs) is not None}
    activation = check_choice("hidden_act", config.get("hidden_act", "gelu"), ACTIVATIONS)
    if dropout := config.get("attention_dropout", 0.0):
        raise ValueError(f"attention_dropout must be 0, got {dropout}")
    for field, what in _NOT_BUILT.items():
        if config.get(field):
            raise ValueError(f"{field} is not built: {what}; a model trained with it gives other numbers without")
    has_head = bool(config.get("use_head", False))
    made = {"act_layer": ACTIVATIONS[activation], "post_norm": has_head, "pooling_head": has_head}
    return arguments | made | {"pairing": "release"}


def config_from_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The release's field names for these arguments; the inverse where the release has a field."""
    config = {theirs: arguments[ours] for theirs, ours in _NAMES.items()}
    return config | {"use_head": arguments["pooling_head"], "hidden_act": arguments["hidden_act"]}
