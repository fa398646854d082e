"""Adapters as folders of PEFT (adapter_config.json, adapter_model.safetensors): out of a run, and into a model.

`peft.PeftModel.from_pretrained` reads such a folder on the model that the adapters were learned beside.
"""

import os
from pathlib import Path
from typing import Any

from ov2kit.errors import CheckpointError, needs_extra
from ov2kit.files import write_folder, write_tensors
from ov2kit.recipes.model.adapters import lora_config
from ov2kit.recipes.model.convert import model_from_lightning
from ov2kit.recipes.model.model import LlavaOneVision2
from ov2kit.recipes.model.quantized import holds_adapters_alone
from ov2kit.recipes.release.lightning_files import read_lightning

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BEFORE = "base_model.model."  # what PEFT puts before the names of a model


def write_adapters(checkpoint: str | os.PathLike[str], target: str | os.PathLike[str], base: str | None = None) -> None:
    """The adapters of a checkpoint of `ov2kit fit --model.lora` as a folder of PEFT.

    Args:
        checkpoint: what Lightning wrote.
        target: folder that is not there yet, or empty.
        base: the model that they belong beside, as the folder names it; what the checkpoint says when omitted.

    Raises:
        CheckpointError: unreadable, without adapters, or the place is taken.
        MissingExtraError: PEFT is not installed.
    """
    state, rest = read_lightning(checkpoint)
    lora = (rest.get("hyper_parameters") or {}).get("lora")
    if lora is None:
        raise CheckpointError(f"{checkpoint}: no adapters are in it; it was not trained with --model.lora")
    target = Path(target)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CheckpointError(f"{target}: exists already; choose another place for the adapters")
    owners: dict[str, str] = {}
    if holds_adapters_alone(rest):
        base = base or rest["ov2kit"]["base"]["path"]
    else:
        plain = model_from_lightning(checkpoint)
        owners = {plain.part_name(name): name for name in plain.state_dict()}
    tensors, layers = {}, set()
    for name, tensor in state.items():
        layer, found, rest_of_name = name.partition(".lora_")
        if not found:
            continue
        layer = owners.get(f"{layer}.weight", f"{layer}.weight").removesuffix(".weight")
        layers.add(layer)
        tensors[f"{_BEFORE}{layer}.lora_{rest_of_name.replace('.default.', '.')}"] = tensor.contiguous()
    with write_folder(target) as scratch:
        config = lora_config(lora, sorted(layers))
        config.base_model_name_or_path = base
        config.task_type = "CAUSAL_LM"
        config.inference_mode = True
        config.save_pretrained(scratch)
        write_tensors(scratch / _WEIGHTS, tensors, {"format": "pt"})


def merge_adapters(model: LlavaOneVision2, folder: str | os.PathLike[str]) -> LlavaOneVision2:
    """The plain model that computes what a model with the adapters of a folder of PEFT does.

    Args:
        model: changed in place.
        folder: of LoRA and its relatives; `modules_to_save` are taken over as well.

    Raises:
        CheckpointError: not such a folder, or of another model.
        MissingExtraError: PEFT is not installed.
    """
    folder = Path(folder)
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: expected adapters of PEFT, {name} is missing")
    with needs_extra("adapters"):
        from peft import PeftModel
        from peft.utils import load_peft_weights
    try:
        adapted: Any = PeftModel.from_pretrained(model, folder)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder}: these adapters do not fit the model ({reason})") from error
    known = {_bare(name) for name in adapted.state_dict()}
    strange = sorted(name for name in load_peft_weights(str(folder), device="cpu") if _bare(name) not in known)
    if strange:
        raise CheckpointError(f"{folder}: {len(strange)} tensors belong to no layer of the model: {strange[0]}, ...")
    merged: LlavaOneVision2 = adapted.merge_and_unload()
    return merged


def _bare(name: str) -> str:
    """A name without what PEFT puts into it for the adapter's own name."""
    return name.replace(".default", "").replace(".modules_to_save", "")
