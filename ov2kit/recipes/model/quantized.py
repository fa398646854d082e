"""Frozen weights in 8 or 4 bits beside adapters: `ov2kit fit --model.quantization`.

transformers quantizes a model directory as it reads it, with bitsandbytes or torchao; PEFT's adapters learn beside
that (QLoRA, arXiv 2305.14314). A checkpoint of such a run holds the adapters and says which directory they belong
to; merged they are with the weights of that directory, which never lost a digit.
"""

import functools
import hashlib
import importlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ov2kit.errors import CheckpointError, OptionError, check_choice, check_keys, check_type, needs_extra
from ov2kit.recipes.model.adapters import merged
from ov2kit.recipes.model.device import usable_device
from ov2kit.recipes.model.model import LlavaOneVision2
from ov2kit.recipes.release.configs import read_config
from ov2kit.recipes.release.lightning_files import is_lightning
from ov2kit.recipes.release.tensors import TensorStore

#: short names of what is mostly wanted, as `quantization_config` of transformers has it
NAMED: dict[str, dict[str, Any]] = {
    "int8": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "nf4": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    },
}
_METHODS = ("bitsandbytes", "torchao")
_SAMPLED = 64  # numbers of each tensor that its digest looks at


def check_quantization(quantization: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A name as the config it stands for; a config as plain values.

    Args:
        quantization: "int8" or "nf4" (bitsandbytes), or a `quantization_config` of transformers for bitsandbytes
            or torchao, with its `quant_method`. None for weights as they are.

    Raises:
        OptionError: an unknown name, method or field.
    """
    if quantization is None:
        return None
    check_type("quantization", quantization, (str, Mapping), "a name or a quantization_config of transformers")
    if isinstance(quantization, str):
        check_choice("quantization", quantization, NAMED)
        return dict(NAMED[quantization])
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(quantization)))
    except TypeError as error:
        raise OptionError(f"quantization must be plain values, as config.json holds them ({error})") from error
    if found.get("quant_method") not in _METHODS:
        raise OptionError(
            f"quantization.quant_method must be {' or '.join(map(repr, _METHODS))}, got {found.get('quant_method')!r}"
        )
    if found["quant_method"] == "bitsandbytes":
        from transformers import BitsAndBytesConfig

        known = {name.removeprefix("_") for name in cast(Any, BitsAndBytesConfig)().to_dict()}
        check_keys("quantization", found, sorted(known))
        if bool(found.get("load_in_8bit")) == bool(found.get("load_in_4bit")):
            raise OptionError("quantization must say one of load_in_8bit and load_in_4bit")
    return found


def quantized_model(start: str, quantization: Mapping[str, Any]) -> LlavaOneVision2:
    """The model of a directory with its linear layers quantized, on the device where it is going to learn.

    Args:
        start: a model directory of plain weights.
        quantization: what `check_quantization` gave.

    Raises:
        OptionError: the start is not such a directory, or transformers refuses the config.
        CheckpointError: it cannot be read.
        MissingExtraError: bitsandbytes is not installed.
    """
    folder = Path(start).expanduser()
    if folder.exists() and is_lightning(folder):
        raise OptionError(
            f"quantization needs a model directory to start from, {folder} is a checkpoint; make one of it: "
            f"ov2kit convert {folder} DIR"
        )
    if "quantization_config" in read_config(folder):
        raise OptionError(
            f"the weights of {folder} are quantized already; start from the directory of the plain ones, with which "
            "adapters can be merged"
        )
    try:
        return load_quantized(functools.partial(LlavaOneVision2.from_pretrained, folder), quantization, _device())
    except (ImportError, TypeError, ValueError, AttributeError, AssertionError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise OptionError(f"{folder} cannot be quantized with {dict(quantization)} ({reason})") from error


def load_quantized(load: Callable[..., Any], quantization: Mapping[str, Any], device: torch.device) -> LlavaOneVision2:
    """What a `from_pretrained` of transformers gives, ready for adapters.

    Args:
        load: takes `quantization_config` and `device_map`.
        quantization: what `check_quantization` gave.
        device: where the model goes.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    if quantization["quant_method"] == "bitsandbytes":
        with needs_extra("quantization"):
            importlib.import_module("bitsandbytes")
        # one line for each layer and step, to say that 8-bit products are made of float16
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    model = load(quantization_config=dict(quantization), device_map={"": device})
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes packs such a layer for inference in eval mode, through which no gradient flows afterwards
            module.support_avx512bf16_for_cpu = False
        if isinstance(module, nn.Linear) and type(module.weight) is not nn.Parameter:
            module.register_forward_pre_hook(_in_autocast_dtype)
            if hasattr(module, "init_8bit_state"):
                module.register_forward_hook(_forget_input)
    return cast(LlavaOneVision2, model)


def _in_autocast_dtype(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What autocast does before a plain linear layer, and not before these.

    On a GPU it gives norms in float32, and all of the tower after the first of them would be in float32 as well.
    """
    x, *more = inputs
    kind = x.device.type
    return (x.to(torch.get_autocast_dtype(kind)), *more) if torch.is_autocast_enabled(kind) else None


def _forget_input(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Drop what the backward pass of bitsandbytes' 8-bit product keeps for the gradient of weights that are frozen.

    It keeps the layer's input as an attribute, where recomputation cannot drop it: of an 8B model and a row of 7 k
    visual tokens that would be 30 to 40 GB until the graph is gone.
    """
    for name, nothing in (("tensors", (None, None, None)), ("A", None)):
        if hasattr(output.grad_fn, name):
            setattr(output.grad_fn, name, nothing)


def _device() -> torch.device:
    """Of this process: some quantized weights do not move."""
    device = usable_device(None)
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if device.type == "cuda" else device


def base_entry(folder: str | os.PathLike[str]) -> dict[str, str]:
    """What a checkpoint of adapters alone says of the directory they belong to.

    Returns:
        `path`, and `digest`: of the names, shapes and first numbers of all tensors.

    Raises:
        CheckpointError: no such directory.
    """
    return {"path": str(Path(folder).expanduser().absolute()), "digest": _digest(Path(folder).expanduser())}


def _digest(folder: Path) -> str:
    store, found = TensorStore(folder), hashlib.sha256()
    for name in sorted(store.names):
        first = store.read(name).flatten()[:_SAMPLED]
        found.update(f"{name} {store.shape(name)} {first.dtype}".encode())
        found.update(first.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:32]


def holds_adapters_alone(rest: Mapping[str, Any]) -> bool:
    """Whether a checkpoint refers to its base instead of holding it; by its entries beside the tensors."""
    return "base" in (rest.get("ov2kit") or {})


def check_base(entry: Mapping[str, Any], folder: str | os.PathLike[str], place: object) -> None:
    """The directory must be the one that adapters were learned beside, wherever it is now.

    Args:
        entry: what `base_entry` gave then.
        folder: where it is now.
        place: of the adapters, for the message.

    Raises:
        CheckpointError: it is not there, or holds other weights.
    """
    now = Path(folder).expanduser()
    if not now.is_dir():
        raise CheckpointError(
            f"{place} holds adapters alone, for the weights of {now}, which are not there; name the place where they "
            "are: --base of `ov2kit convert`, --model.start elsewhere"
        )
    if _digest(now) != entry.get("digest"):
        raise CheckpointError(f"{place} holds adapters for the weights of {entry.get('path')}; those of {now} differ")


def model_of_adapters(
    state: Mapping[str, Tensor], rest: Mapping[str, Any], place: object, base: str | os.PathLike[str] | None = None
) -> LlavaOneVision2:
    """The plain model of a checkpoint of adapters alone: the base's own weights with the adapters merged.

    Args:
        state: tensors of the checkpoint.
        rest: its other entries.
        place: where it is, for messages.
        base: where the base is; where it was when omitted.

    Raises:
        CheckpointError: the base is not there, or holds other weights.
    """
    entry = rest["ov2kit"]["base"]
    folder = entry["path"] if base is None else base
    check_base(entry, folder, place)
    model = cast(LlavaOneVision2, LlavaOneVision2.from_pretrained(folder))
    own = model.state_dict()
    for name, tensor in merged({**own, **state}, rest["hyper_parameters"]["lora"]).items():
        if tensor is not own[name]:
            model.get_parameter(name).data = tensor
    return model


def numel(parameter: nn.Parameter) -> int:
    """How many numbers a parameter stands for: of one in 4 bits two share a byte."""
    packed = getattr(parameter, "quant_state", None)
    return parameter.numel() if packed is None else int(packed.shape.numel())
