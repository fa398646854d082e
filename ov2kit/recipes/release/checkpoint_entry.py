"""What a Lightning checkpoint says of its model under "ov2kit", as plain data."""

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from ov2kit.errors import CheckpointError
from ov2kit.files import check_format, format_name
from ov2kit.recipes.architecture.describe import describe
from ov2kit.recipes.architecture.parts import Parts
from ov2kit.recipes.release.companions import read_companions
from ov2kit.recipes.release.configs import M, empty_model, plain_generation

_ENTRY, _ENTRY_VERSION = "checkpoint", 2


def lightning_entry(model: Any, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What a Lightning checkpoint holds under "ov2kit": plain data from which the model is rebuilt.

    Args:
        model: what the checkpoint is of.
        files: texts of tokenizer and processor by file name; those that the model came with when omitted.
    """
    if files is None:
        files = model.files or (read_companions(model.source) if model.source is not None else {})
    try:
        config = describe(model)
    except CheckpointError:  # a part of the user's own, which only the settings of the run know
        config = copy.deepcopy(model.release_config)
    generation = plain_generation(model.generation_config)
    format = format_name(_ENTRY, _ENTRY_VERSION)
    return {"format": format, "config": config, "generation_config": generation, "files": dict(files)}


def check_lightning_entry(entry: object, place: str | os.PathLike[str]) -> None:
    """What a checkpoint holds under "ov2kit", if anything, must be of a format that is known.

    Raises:
        CheckpointError: it is newer.
    """
    if isinstance(entry, Mapping):
        check_format(entry.get("format"), _ENTRY, _ENTRY_VERSION, place, CheckpointError)


def is_named_by_parts(entry: object) -> bool:
    """Whether a checkpoint with this under "ov2kit" is of version 1 or before, whose tensors have names of parts."""
    return isinstance(entry, Mapping) and entry.get("format") in (None, format_name(_ENTRY, 1))


def from_lightning_entry(
    entry: Mapping[str, Any], make: Callable[[Parts], M], *, fresh: bool = True, place: str = "the checkpoint"
) -> M:
    """The model that `lightning_entry` described.

    Args:
        entry: what stood under "ov2kit".
        make: puts the parts together: `LlavaOneVision2.from_parts`.
        fresh: draw weights; else they are left without memory (on the meta device), to be filled.
        place: where the checkpoint is, for messages.

    Raises:
        CheckpointError: the entry has no config, or one that cannot be built.
    """
    check_lightning_entry(entry, place)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise CheckpointError(
            f"{place} says nothing under 'ov2kit' about its model: expected a checkpoint that 'ov2kit fit' or "
            "'ov2kit convert' wrote"
        )
    from transformers import GenerationConfig

    model: Any = empty_model(entry["config"], Path("checkpoint"), make, fresh=fresh)
    if entry.get("generation_config"):
        model.generation_config = GenerationConfig.from_dict(dict(entry["generation_config"]))
    model.files = dict(entry.get("files") or {})
    return cast(M, model)
