"""What a run starts from: fresh weights of a size, a released model, or an earlier run."""

import copy
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from ov2kit.connectors import Connector
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import CheckpointError, OptionError, check_choice
from ov2kit.recipes.architecture.parts import PositionsName, build_connector, connectors, position_module
from ov2kit.recipes.architecture.sizes import release_config, vision_fields
from ov2kit.recipes.model.adapters import merged
from ov2kit.recipes.model.build import build
from ov2kit.recipes.model.model import LlavaOneVision2
from ov2kit.recipes.model.quantized import holds_adapters_alone, model_of_adapters
from ov2kit.recipes.release.checkpoint_entry import check_lightning_entry, is_named_by_parts
from ov2kit.recipes.release.lightning_files import is_lightning, read_lightning, read_plain, settings_file
from ov2kit.recipes.release.names import from_part_names


def fresh_model(
    size: str | Mapping[str, Any],
    *,
    tokenizer: str | None = None,
    connector: str | None = None,
    connector_options: Mapping[str, Any] | None = None,
    positions: PositionsName | None = None,
) -> LlavaOneVision2:
    """A model with fresh weights.

    Args:
        size: name of a size, whose vocabulary is made to fit the tokenizer, or a whole release config.
        tokenizer: directory of the tokenizer; the small one when omitted. A released size without one
            keeps its own vocabulary.
        connector: name or class path, see `swap`.
        connector_options: further arguments of the connector.
        positions: see `ov2kit.recipes.model.build.build`.

    Raises:
        ValueError: an unknown size, connector or positions.
        CheckpointError: the tokenizer cannot be read.
    """
    check_connector(connector)
    if isinstance(size, str):
        known = None
        if tokenizer is not None or size in ("tiny", "small"):
            from ov2kit.recipes.prompt.text_tokenizer import load_tokenizer

            known = load_tokenizer(tokenizer)
        size = release_config(size, tokenizer=known)
    if connector is None or connector in connectors():
        return build(size, connector=connector, connector_options=connector_options, positions=positions)
    return swap(build(size, positions=positions), connector, connector_options)


def started_model(start: str) -> LlavaOneVision2:
    """The model of a directory in the released format, or of a Lightning checkpoint.

    Raises:
        CheckpointError: neither, or it cannot be read.
    """
    path = Path(start).expanduser()
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or directory; a start is a model directory or a checkpoint")
    if not is_lightning(path):
        return cast(LlavaOneVision2, LlavaOneVision2.from_pretrained(path))
    state, rest = read_lightning(path)
    settings = _settings(rest, path)
    if holds_adapters_alone(rest):
        return model_of_adapters(state, rest, path)
    parts: dict[str, Any] = {name: settings.get(name) for name in ("connector", "connector_options", "positions")}
    model = fresh_model(settings["size"], **parts)
    model.load_state_dict(from_part_names(model, merged(state, settings.get("lora"))))
    return model


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The plain content of a checkpoint of `ov2kit fit`, optimizer included, tensors memory-mapped.

    Of a folder of shards it is what the file of settings beside them says.

    Raises:
        CheckpointError: nothing there, no checkpoint, one that holds more than tensors and plain values,
            one of another model, or shards that cannot be resumed.
    """
    checkpoint = read_plain(settings_file(path))
    _settings(checkpoint, Path(path))
    if Path(path).is_dir() and is_named_by_parts(checkpoint.get("ov2kit")):  # each process looks for its own
        raise CheckpointError(
            f"{path}: shards of an older format, whose tensors have other names, cannot be resumed; start a new run "
            f"from them with --model.start {path}, or make a model directory with 'ov2kit convert {path} my-model'"
        )
    return checkpoint


def _settings(checkpoint: Any, path: Path) -> dict[str, Any]:
    """What `LitLlavaOneVision2` was made with."""
    if not isinstance(checkpoint, dict) or "size" not in (checkpoint.get("hyper_parameters") or {}):
        raise CheckpointError(f"{path}: not a checkpoint of `ov2kit fit`: it does not say what its model is made of")
    check_lightning_entry(checkpoint.get("ov2kit"), path)
    return cast(dict[str, Any], checkpoint["hyper_parameters"])


def swap(
    model: LlavaOneVision2,
    connector: str | None = None,
    connector_options: Mapping[str, Any] | None = None,
    positions: PositionsName | None = None,
) -> LlavaOneVision2:
    """The model with a fresh connector or other positions; all other weights stay.

    Args:
        model: left without its parts.
        connector: one of `connectors()`, or the class path of another one, which takes
            (width, out_width, **connector_options); the one of the model when omitted.
        connector_options: further arguments of the connector.
        positions: those of the model when omitted.

    Raises:
        ValueError: an unknown connector, or one that does not take these arguments.
    """
    check_connector(connector)
    config = copy.deepcopy(model.release_config)
    vision, swapped = vision_fields(config), dict(config.get("ov2kit") or {})
    encoder, bridge = model.encoder, model.connector
    if positions is not None and positions != swapped.get("positions", "release"):
        swapped["positions"] = positions
        encoder = OneVisionEncoder.from_config(
            vision, position=position_module(positions, vision), **swapped.get("encoder", {})
        )
        encoder.load_state_dict(model.encoder.state_dict())
    wanted = {"name": connector, **dict(connector_options or {})}
    if connector is not None and wanted != swapped.get("connector", {"name": "merger"}):
        width = cast(int, cast(Any, bridge).out_width)
        if connector in connectors():
            bridge = build_connector(connector, vision, width, **dict(connector_options or {}))
            swapped["connector"] = wanted
        else:
            bridge = _own_connector(connector, vision["hidden_size"], width, dict(connector_options or {}))
    config["ov2kit"] = swapped
    if not swapped:
        del config["ov2kit"]
    result = LlavaOneVision2(config, encoder, bridge, model.language_model)
    result.source, result.files = model.source, model.files
    return result


def check_connector(connector: str | None) -> None:
    """A connector must be a known name, or look like a class path.

    Raises:
        OptionError: it is neither.
    """
    if connector is not None and not (isinstance(connector, str) and "." in connector):
        check_choice("connector", connector, (*connectors(), "the class path of another one"))


def _own_connector(path: str, width: int, out_width: int, options: dict[str, Any]) -> nn.Module:
    known = f"known: {', '.join(connectors())}, or the class path of another one"
    module, _, name = path.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)(width, out_width, **options)
    except (ImportError, AttributeError, TypeError) as error:
        raise OptionError(f"the connector {path!r} cannot be made ({error}); {known}") from error
    if not isinstance(made, nn.Module) or not isinstance(made, Connector):
        asked = "width, out_width, rows_per_token, needs_grids and tokens_out"
        raise OptionError(f"{path!r} is not a connector: it must be an nn.Module with {asked}")
    return made
