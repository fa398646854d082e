"""What the checkpoint of a run says of its model beside the weights, and which of the weights it holds.

A run beside quantized weights keeps its adapters alone, and the directory they belong to.
"""

from collections.abc import Mapping
from typing import Any

from ov2kit.errors import CheckpointError
from ov2kit.recipes.model.model import LlavaOneVision2
from ov2kit.recipes.model.quantized import base_entry, check_base
from ov2kit.recipes.release.checkpoint_entry import check_lightning_entry, lightning_entry
from ov2kit.recipes.release.lightning_files import PREFIX
from ov2kit.recipes.release.names import from_part_names


def add_entry(
    checkpoint: dict[str, Any], model: LlavaOneVision2, files: Mapping[str, str] | None, base: str | None
) -> None:
    """Add what `ov2kit convert` needs to make a model directory of the checkpoint alone.

    Args:
        checkpoint: about to be written, changed in place.
        model: of the run.
        files: that go with the weights, by name.
        base: directory whose weights stay out of the checkpoint.

    Raises:
        CheckpointError: the base is not there any more.
    """
    checkpoint["ov2kit"] = lightning_entry(model, files)
    if base is not None:
        checkpoint["ov2kit"]["base"] = base_entry(base)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: state[name] for name in state if ".lora_" in name}


def take_entry(checkpoint: dict[str, Any], model: LlavaOneVision2, base: str | None) -> None:
    """Check what a checkpoint says, and give its weights the names that the model has now.

    Args:
        checkpoint: as read, changed in place.
        model: that is going to take the weights.
        base: directory whose weights the model has already.

    Raises:
        CheckpointError: a newer format, another base, or other adapters.
    """
    check_lightning_entry(checkpoint.get("ov2kit"), "checkpoint")
    state = checkpoint.get("state_dict") or {}
    inner = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
    if base is not None:
        check_base((checkpoint.get("ov2kit") or {}).get("base") or {}, base, "the checkpoint")
        wanted = {name for name in model.state_dict() if ".lora_" in name}
        if wanted != set(inner):
            raise CheckpointError("the checkpoint does not hold the adapters that the settings make")
    elif inner:
        rest = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
        renamed = from_part_names(model, inner)
        checkpoint["state_dict"] = rest | {PREFIX + name: tensor for name, tensor in renamed.items()}
