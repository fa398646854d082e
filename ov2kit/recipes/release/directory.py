"""Directories in the released format: reading them into a model, and writing a model as one.

Such a directory holds config.json, safetensors (one file or shards with an index),
generation_config.json, and the files of tokenizer and processor. Nothing in it is executed and no
pickle is opened. Source: the layout of `lmms-lab-encoder/LLaVA-OneVision-2-8B-Instruct`.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ov2kit.encoders.shards import write_shards
from ov2kit.errors import CheckpointError
from ov2kit.files import fill_folder, write_folder
from ov2kit.recipes.architecture.describe import describe
from ov2kit.recipes.architecture.parts import Parts
from ov2kit.recipes.release.companions import CONFIG, GENERATION, companion_files, write_companions
from ov2kit.recipes.release.config_sizes import check_sizes
from ov2kit.recipes.release.configs import M, empty_model, plain_generation, read_config, read_generation
from ov2kit.recipes.release.filling import load
from ov2kit.recipes.release.model_card import FILE as CARD
from ov2kit.recipes.release.model_card import add_card
from ov2kit.recipes.release.names import places, to_release
from ov2kit.recipes.release.tensors import TensorStore


def from_pretrained(
    path: str | os.PathLike[str],
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    *,
    attention: str | None = None,
    make: Callable[[Parts], M],
) -> M:
    """The model in a directory of the released format, ready to run (`eval`).

    On the host and in the files' dtype the weights are mappings of the files: nothing is copied
    until it is written to. Otherwise one tensor at a time is converted.

    Args:
        path: directory with config.json and safetensors.
        dtype: of the floating-point weights; the files' own when omitted.
        device: where they go; the host when omitted.
        attention: `attn_implementation` of the language model ("sdpa", "eager", "flash_attention_2").
        make: puts the parts together: `LlavaOneVision2.from_parts`.

    Raises:
        CheckpointError: the directory is incomplete or damaged, only holds pickles, or its tensors are
            not those that its config describes; all that is wrong is named at once.
    """
    folder = Path(path)
    config = read_config(folder)
    store = TensorStore(folder)
    check_sizes(config, folder / CONFIG, store.numel)
    model: Any = empty_model(config, folder, make, attention=attention)
    load(model, places(model), store, dtype, device)
    _to_device(model, device)
    if (folder / GENERATION).is_file():
        model.generation_config = read_generation(folder)
    model.source = folder.absolute()
    return cast(M, model.eval())


def save_pretrained(
    model: Any,
    path: str | os.PathLike[str],
    tokenizer: Any = None,
    *,
    state: Mapping[str, Tensor] | None = None,
    files_from: str | os.PathLike[str] | None = None,
    also: Callable[[Path], None] | None = None,
    max_shard_bytes: int = 5 * 10**9,
    overwrite: bool = False,
    keep: bool = False,
) -> None:
    """Write a directory of the released format; it is there complete or not at all.

    Fields of the config that was read and the files of tokenizer and processor beside it are kept as
    they came.

    Args:
        model: what to write.
        path: the directory.
        tokenizer: of transformers, or a `Processor`; written in place of the one that was read.
        state: its state dict, if the weights to write are not those in the module (gathered ones).
        files_from: directory to take the files of tokenizer and processor from; the one that the model
            was read from when omitted.
        also: called with the directory before it is put in its place, to add more files.
        max_shard_bytes: size at which another file of weights is begun.
        overwrite: replace a model directory that is there. Anything else in its place stays.
        keep: with `overwrite`, replace the files of the model alone and leave others, whatever is there.

    Raises:
        CheckpointError: the place is taken, `files_from` is gone, or the model has parts that a config
            cannot describe.
        OutputError: it cannot be written there.
    """
    target = Path(path)
    if not keep:
        _check_place(target, overwrite)
    config = describe(model)
    tensors = to_release(model, state)
    _name_dtype(config, tensors, always=model.source is None)
    fills = keep and target.is_dir() and any(target.iterdir())
    with fill_folder(target) if fills else write_folder(target, replace=True) as scratch:
        bring_files(model, None if files_from is None else Path(files_from), scratch)
        if tokenizer is not None:
            tokenizer.save_pretrained(scratch)
        (scratch / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        _write_generation(model, scratch)
        if also is not None:
            also(scratch)
        write_shards(tensors, scratch, max_shard_bytes)
        if not (fills and (target / CARD).exists()):
            add_card(scratch, config)
        written = {file.name for file in scratch.iterdir()}
    if fills:
        for file in target.glob("model*.safetensors*"):  # of a model that had other shards
            if file.name not in written:
                file.unlink()


def _to_device(model: nn.Module, device: torch.device | str | None) -> None:
    """Buffers follow the weights."""
    if device is not None:
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))


def _write_generation(model: Any, scratch: Path) -> None:
    now = model.generation_config
    source = model.source
    if source is not None and (source / GENERATION).is_file() and read_generation(source).to_dict() == now.to_dict():
        shutil.copyfile(source / GENERATION, scratch / GENERATION)
        return
    (scratch / GENERATION).write_text(json.dumps(plain_generation(now), indent=2) + "\n", encoding="utf-8")


def _name_dtype(config: dict[str, Any], tensors: Mapping[str, Tensor], *, always: bool) -> None:
    """Let the config name the dtype of the weights where it names one, or `always`."""
    found = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
    main = str(tensors["model.language_model.embed_tokens.weight"].dtype).removeprefix("torch.")
    levels = [config, config["vision_config"], config["text_config"]]
    fields = [(level, field) for level in levels for field in ("dtype", "torch_dtype") if field in level]
    for level, field in fields or [(config, "dtype")] * always:
        if level.get(field) not in found:
            level[field] = main


def bring_files(model: Any, files_from: Path | None, scratch: Path) -> None:
    """Files of tokenizer and processor: from the directory named, else those that the model came with."""
    folder = files_from or (None if model.files else model.source)
    if folder is None:
        write_companions(model.files, scratch)
        return
    for file in companion_files(folder):
        shutil.copyfile(file, scratch / file.name)


def _check_place(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir() or not (target / CONFIG).is_file():
        raise CheckpointError(f"{target}: exists and is no model directory; choose another place")
    if not overwrite:
        raise CheckpointError(f"{target}: exists already; overwrite=True (--overwrite) replaces it")
