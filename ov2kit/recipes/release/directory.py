"""Directories in the released format: reading them into a model, and writing a model as one.

Such a directory holds config.json, safetensors (one file or shards with an index),
generation_config.json, and the files of tokenizer and processor. Nothing in it is executed and no
pickle is opened. Source: the layout of `lmms-lab-encoder/LLaVA-OneVision-2-8B-Instruct`.
"""

import copy
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ov2kit.encoders.shards import write_shards
from ov2kit.errors import CheckpointError
from ov2kit.files import check_file, check_format, fill_folder, format_name, kind_of, write_folder
from ov2kit.recipes.architecture.describe import describe
from ov2kit.recipes.architecture.parts import Parts, build_parts
from ov2kit.recipes.architecture.sizes import MODEL_TYPES
from ov2kit.recipes.architecture.weightless import build_weightless
from ov2kit.recipes.release.companions import CONFIG, GENERATION, companion_files, read_companions, write_companions
from ov2kit.recipes.release.config_sizes import check_sizes
from ov2kit.recipes.release.model_card import FILE as CARD
from ov2kit.recipes.release.model_card import add_card
from ov2kit.recipes.release.names import Place, places, to_release
from ov2kit.recipes.release.tensors import TensorStore

M = TypeVar("M", bound=nn.Module)  # the model, which lives above this room

_MANY = 6
_ENTRY, _ENTRY_VERSION = "checkpoint", 2
_LARGEST_JSON = 64 * 2**20  # bytes of a config


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
    generation = _plain(model.generation_config)
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


def from_lightning_entry(entry: Mapping[str, Any], make: Callable[[Parts], M], *, fresh: bool = True) -> M:
    """The model that `lightning_entry` described.

    Args:
        entry: what stood under "ov2kit".
        make: puts the parts together: `LlavaOneVision2.from_parts`.
        fresh: draw weights; else they are left without memory (on the meta device), to be filled.

    Raises:
        CheckpointError: the entry has no config, or one that cannot be built.
    """
    check_lightning_entry(entry, "checkpoint")
    if not isinstance(entry, Mapping) or "config" not in entry:
        raise CheckpointError("the checkpoint says nothing under 'ov2kit' about its model; was it written by ov2kit?")
    from transformers import GenerationConfig

    model: Any = empty_model(entry["config"], Path("checkpoint"), make, fresh=fresh)
    if entry.get("generation_config"):
        model.generation_config = GenerationConfig.from_dict(dict(entry["generation_config"]))
    model.files = dict(entry.get("files") or {})
    return cast(M, model)


def read_config(folder: Path, kinds: tuple[str, ...] = MODEL_TYPES) -> dict[str, Any]:
    """config.json of a model directory.

    Raises:
        CheckpointError: no directory, no config, or one of another model type.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: expected a model directory, found {'a file' if folder.exists() else 'nothing'}"
        )
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


def load(
    model: Any,
    wanted: list[Place],
    store: TensorStore,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Fill `wanted` parts of a model from files that hold these and nothing else.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape.
    """
    check_tensors(wanted, store.names, store.shape, str(store.path))
    separate = [place for place in wanted if _differs_from_twin(place, store)]

    def read(place: Place) -> Tensor:
        parts = [store.read(part, dtype, device) for part in place.parts]
        return place.join(parts, model.get_parameter(place.name).shape) if len(parts) > 1 else parts[0]

    fill(model, wanted, read)
    for place in separate:
        assert place.alias is not None
        owner, _, leaf = place.alias.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(store.read(place.alias, dtype, device)))
        model.language_model.config.tie_word_embeddings = model.config.tie_word_embeddings = False


def fill(model: nn.Module, wanted: Iterable[Place], read: Callable[[Place], Tensor]) -> None:
    """Put tensors into a model, as they are; what is tied stays tied."""
    for place in wanted:
        owner_name, _, leaf = place.name.rpartition(".")
        owner = model.get_submodule(owner_name)
        old = getattr(owner, leaf)
        tensor = read(place)
        new = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
        setattr(owner, leaf, new)
        if place.alias is not None:
            other, _, tail = place.alias.rpartition(".")
            setattr(model.get_submodule(other), tail, new)


def check_tensors(
    wanted: Iterable[Place], names: set[str], shape: Callable[[str], tuple[int, ...]], where: str
) -> None:
    """Compare what a model has with what a checkpoint holds.

    Raises:
        CheckpointError: tensors are missing, unexpected or of another shape.
    """
    shapes = {part: size for place in wanted for part, size in zip(place.parts, place.shapes, strict=True)}
    allowed = {place.alias for place in wanted if place.alias is not None}
    missing = sorted(set(shapes) - names)
    unexpected = sorted(names - set(shapes) - allowed)
    wrong = [
        f"{name} is {list(shape(name))}, the config asks for {list(size)}"
        for name, size in sorted(shapes.items())
        if name in names and shape(name) != size
    ]
    complaints = [
        f"{len(found)} {what}: {', '.join(found[:_MANY])}{', ...' if len(found) > _MANY else ''}"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if found
    ]
    if complaints:
        raise CheckpointError(f"{where}: the tensors do not fit the config; " + "; ".join(complaints))


def _differs_from_twin(place: Place, store: TensorStore) -> bool:
    """Whether the tensor that this one is tied to is stored with values of its own."""
    if place.alias is None or place.alias not in store.names:
        return False
    if torch.equal(store.read(place.parts[0]), store.read(place.alias)):
        return False
    warnings.warn(
        f"{store.path}: the config ties {place.alias} to {place.parts[0]}, but both are stored and differ; "
        "they are kept apart",
        stacklevel=4,
    )
    return True


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


def _to_device(model: nn.Module, device: torch.device | str | None) -> None:
    """Buffers follow the weights."""
    if device is not None:
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))


def read_generation(folder: Path) -> Any:
    """The `GenerationConfig` of a directory that has one."""
    from transformers import GenerationConfig

    return GenerationConfig.from_dict(read_json(folder / GENERATION))


def _plain(generation: Any) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads(generation.to_json_string(use_diff=True)))


def _write_generation(model: Any, scratch: Path) -> None:
    now = model.generation_config
    source = model.source
    if source is not None and (source / GENERATION).is_file() and read_generation(source).to_dict() == now.to_dict():
        shutil.copyfile(source / GENERATION, scratch / GENERATION)
        return
    (scratch / GENERATION).write_text(json.dumps(_plain(now), indent=2) + "\n", encoding="utf-8")


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
