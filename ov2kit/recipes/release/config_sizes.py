"""Sizes in a config.json, looked at before any of them becomes memory."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ov2kit.errors import CheckpointError, shorten

#: field -> (least, most); far beyond every model there is
_VISION = {
    "hidden_size": (1, 2**17),
    "intermediate_size": (1, 2**21),
    "num_hidden_layers": (1, 4096),
    "num_attention_heads": (1, 4096),
    "num_channels": (3, 3),
    "patch_size": (1, 4096),
    "spatial_merge_size": (1, 64),
    "temporal_patch_size": (1, 64),
    "out_hidden_size": (1, 2**17),
}
_TEXT = {
    "hidden_size": (1, 2**17),
    "intermediate_size": (1, 2**21),
    "moe_intermediate_size": (1, 2**21),
    "num_hidden_layers": (1, 4096),
    "num_attention_heads": (1, 4096),
    "num_key_value_heads": (1, 4096),
    "head_dim": (1, 2**14),
    "num_experts": (0, 2**14),
    "vocab_size": (1, 2**24),
    "max_position_embeddings": (1, 2**31),
}
_IDS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
_TEXT_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_MOST_PARAMETERS = 2**43
# A config may ask for what is stored several times over (ties, other connectors) before it is certainly not its own.
_SLACK, _SMALL = 4, 10**9


def check_sizes(config: Mapping[str, Any], where: Path, stored: int | None = None) -> None:
    """Refuse a config of impossible or absurd sizes.

    Args:
        config: a release config.
        where: the file it stands in, for messages.
        stored: numbers that the files beside it hold, if there are files.

    Raises:
        CheckpointError: names the field.
    """
    vision, text = config.get("vision_config"), config.get("text_config")
    if not isinstance(vision, Mapping) or not isinstance(text, Mapping):
        raise CheckpointError(f"{where}: expected objects under 'vision_config' and 'text_config'")
    for name, part, bounds in (("vision_config", vision, _VISION), ("text_config", text, _TEXT)):
        for field, (least, most) in bounds.items():
            value = part.get(field, least)
            if value is not None and not (_is_whole(value) and least <= value <= most):
                raise CheckpointError(
                    f"{where}: {name}.{field} must be a whole number from {least} to {most}, got {shorten(value)}"
                )
        for field in ("layer_norm_eps", "rms_norm_eps", "rope_theta"):
            value = part.get(field, 1.0)
            if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise CheckpointError(f"{where}: {name}.{field} must be a number above 0, got {shorten(value)}")
    _check_divides(vision, "hidden_size", "num_attention_heads", f"{where}: vision_config")
    _check_divides(text, "num_attention_heads", "num_key_value_heads", f"{where}: text_config")
    _check_ids(config, text, where)
    wanted = _parameters(vision, text)
    if wanted > _MOST_PARAMETERS:
        raise CheckpointError(f"{where}: the sizes make a model of {wanted:.1e} parameters; is it damaged?")
    if stored is not None and wanted > _SLACK * stored + _SMALL:
        raise CheckpointError(
            f"{where}: the sizes make a model of {wanted:.1e} parameters, the files hold {stored:.1e}; "
            "they do not belong together"
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_divides(part: Mapping[str, Any], whole: str, by: str, where: str) -> None:
    a, b = part.get(whole), part.get(by)
    if a is not None and b is not None and a % b:
        raise CheckpointError(f"{where}.{whole} must be a multiple of {by}, got {a} and {b}")


def _check_ids(config: Mapping[str, Any], text: Mapping[str, Any], where: Path) -> None:
    size = text.get("vocab_size")
    if size is None:
        return
    for part, names, prefix in ((config, _IDS, ""), (text, _TEXT_IDS, "text_config.")):
        for name in names:
            value = part.get(name)
            for number in value if isinstance(value, list) else [value]:
                if number is not None and not (_is_whole(number) and 0 <= number < size):
                    raise CheckpointError(
                        f"{where}: {prefix}{name} must be a token from 0 to {size - 1} (text_config.vocab_size is "
                        f"{size}), got {shorten(number)}"
                    )


def _parameters(vision: Mapping[str, Any], text: Mapping[str, Any]) -> int:
    """Of the large matrices: what the model has at least."""

    def size(part: Mapping[str, Any], name: str, otherwise: int = 0) -> int:
        value = part.get(name)
        return otherwise if value is None else int(value)

    width, mlp = size(vision, "hidden_size"), size(vision, "intermediate_size")
    tower = size(vision, "num_hidden_layers") * (4 * width**2 + 2 * width * mlp)
    hidden, heads = size(text, "hidden_size"), size(text, "num_attention_heads", 1)
    head_dim = size(text, "head_dim", hidden // heads)
    attention = 2 * hidden * head_dim * (heads + size(text, "num_key_value_heads", heads))
    experts = size(text, "num_experts")
    per_layer = 3 * hidden * (experts * size(text, "moe_intermediate_size") or size(text, "intermediate_size"))
    language = size(text, "num_hidden_layers") * (attention + per_layer) + size(text, "vocab_size") * hidden
    return tower + language
