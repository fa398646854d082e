"""Models from plain sizes: the released ones as data, tiny ones for tests, and what may be swapped.

A release config is a dict with the fields of the public `config.json`. It is built from here and read
here and in `ov2kit.recipes.release.directory`; modules never see it. What the release has no field for (another
connector, other positions) stands under the key "ov2kit" and is left out where nothing is swapped.
Sources: `LlavaOnevision2Config`, and the sizes in `tools/convert_checkpoint/config` of LLaVA-OneVision-2.
"""

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from torch import nn

import ov2kit.connectors
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import check_choice, check_type, needs_extra
from ov2kit.positional import NoPositions, RoPE3D
from ov2kit.recipes.architecture.sizes import release_config, vision_fields

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

PositionsName = Literal["release", "exact", "2d", "none"]

#: held while transformers draws weights: it replaces functions of torch.nn.init, and two at a time do not put them back
drawing = threading.Lock()


@dataclass(frozen=True)
class Parts:
    """What a model is put together from.

    Args:
        encoder: packed patches -> features.
        connector: features -> tokens of the language model's width.
        language_model: a causal language model of transformers.
        config: the release config that describes them.
    """

    encoder: nn.Module
    connector: nn.Module
    language_model: "PreTrainedModel"
    config: dict[str, Any]


def build_parts(
    config: Mapping[str, Any] | str,
    *,
    connector: str | nn.Module | None = None,
    connector_options: Mapping[str, Any] | None = None,
    positions: PositionsName | None = None,
    encoder_options: Mapping[str, Any] | None = None,
    attention: str | None = None,
) -> Parts:
    """Encoder, connector and language model with fresh weights.

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
    swapped = {**(config.get("ov2kit") or {})}
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
    return Parts(encoder, connector, language_model, config)


def build_vision(config: Mapping[str, Any], *, connector: bool = True) -> tuple[OneVisionEncoder, nn.Module | None]:
    """Encoder and connector of a release config, with fresh weights; the connector only if wanted."""
    vision, swapped = vision_fields(config), config.get("ov2kit") or {}
    position = position_module(swapped.get("positions", "release"), vision)
    encoder = OneVisionEncoder.from_config(vision, position=position, **swapped.get("encoder", {}))
    if not connector:
        return encoder, None
    options = dict(swapped.get("connector", {"name": "merger"}))
    return encoder, build_connector(options.pop("name"), vision, config["text_config"]["hidden_size"], **options)


_AS_RELEASED: tuple[Any, ...] = ("release", {"name": "merger"}, {})


def position_module(positions: PositionsName, vision: Mapping[str, Any]) -> nn.Module:
    """What turns (frame, row, column) into a rotation, for `OneVisionEncoder(position=...)`.

    Raises:
        ValueError: unknown positions.
    """
    check_choice("positions", positions, get_args(PositionsName))
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


def build_language_model(
    text: "Mapping[str, Any] | PreTrainedConfig", attention: str | None = None
) -> "PreTrainedModel":
    """The causal language model of transformers for a `text_config`, with fresh weights.

    Raises:
        ValueError: transformers knows no such model type.
        MissingExtraError: transformers is not installed.
    """
    with needs_extra("the language model"):
        from transformers import AutoConfig, AutoModelForCausalLM
    if isinstance(text, Mapping):
        fields = copy.deepcopy(dict(text))
        config = AutoConfig.for_model(fields.pop("model_type", "qwen3"), **fields)
    else:
        config = text
    dtype = config.dtype
    options = {} if attention is None else {"attn_implementation": attention}
    with drawing:
        # without a dtype: transformers would make it the default of the whole process meanwhile
        model = cast(Any, AutoModelForCausalLM).from_config(config, dtype=None, **options)
    model.config.dtype = dtype
    if dtype is not None:
        for parameter in model.parameters():  # buffers stay: rotary frequencies in bfloat16 are wrong
            parameter.data = parameter.data.to(dtype)
    return cast("PreTrainedModel", model)
