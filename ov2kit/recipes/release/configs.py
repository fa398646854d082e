"""What the files of a directory in the released format say in JSON, and a model of it without weights."""

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from torch import nn

from ov2kit.errors import CheckpointError
from ov2kit.files import check_file, check_folder, kind_of
from ov2kit.recipes.architecture.parts import Parts, build_parts
from ov2kit.recipes.architecture.sizes import MODEL_TYPES
from ov2kit.recipes.architecture.weightless import build_weightless
from ov2kit.recipes.release.companions import CONFIG, GENERATION
from ov2kit.recipes.release.config_sizes import check_sizes

M = TypeVar("M", bound=nn.Module)  # the model, which lives above this room

_LARGEST_JSON = 64 * 2**20  # bytes of a config


def read_config(folder: Path, kinds: tuple[str, ...] = MODEL_TYPES) -> dict[str, Any]:
    """config.json of a model directory.

    Raises:
        CheckpointError: no directory, no config, or one of another model type.
    """
    check_folder(folder, "a model directory ('ov2kit convert' makes one of a checkpoint)", CheckpointError)
    config = read_json(folder / CONFIG)
    if kinds and config.get("model_type") not in kinds:
        raise CheckpointError(
            f"{folder / CONFIG}: expected model_type {' or '.join(map(repr, kinds))}, got {config.get('model_type')!r}"
        )
    for part in ("vision_config", "text_config") if kinds == MODEL_TYPES else ():
        if not isinstance(config.get(part), dict):
            raise CheckpointError(f"{folder / CONFIG}: expected an object under {part!r}, got {config.get(part)!r}")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError when there is none."""
    if kind_of(path) is None:
        raise CheckpointError(f"{path}: the file is missing; the directory is incomplete, copy it again")
    check_file(path, "a JSON file", CheckpointError, _LARGEST_JSON)
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def read_generation(folder: Path) -> Any:
    """The `GenerationConfig` of a directory that has one."""
    from transformers import GenerationConfig

    return GenerationConfig.from_dict(read_json(folder / GENERATION))


def plain_generation(generation: Any) -> dict[str, Any]:
    """What a `GenerationConfig` says beside the defaults."""
    return cast(dict[str, Any], json.loads(generation.to_json_string(use_diff=True)))


def empty_model(
    config: Mapping[str, Any],
    where: Path,
    make: Callable[[Parts], M],
    *,
    attention: str | None = None,
    fresh: bool = False,
) -> M:
    """A model of a release config whose weights have no memory yet, or are drawn if `fresh`.

    Raises:
        CheckpointError: the config cannot be built; the message names `where` it stood.
    """
    config = copy.deepcopy(dict(config))
    check_sizes(config, where / CONFIG)
    try:
        return make((build_parts if fresh else build_weightless)(config, attention=attention))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where / CONFIG}: no model can be built from it ({error!r})") from error
