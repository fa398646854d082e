"""Checkpoints from one format into another: `ov2kit convert`.

Lightning checkpoint -> released format, released format -> Lightning checkpoint, released format with
another dtype or other shards, and a stand-alone encoder with a stand-alone language model -> a
checkpoint to start training from.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ov2kit.encoders.checkpoint import join_qkv
from ov2kit.errors import CheckpointError, OptionError
from ov2kit.files import refuse_overwriting_inputs, write_file
from ov2kit.recipes.architecture.sizes import fit_tokenizer, release_config, vision_fields
from ov2kit.recipes.model.adapters import merged
from ov2kit.recipes.model.model import LlavaOneVision2
from ov2kit.recipes.model.quantized import holds_adapters_alone, model_of_adapters
from ov2kit.recipes.release.checkpoint_entry import check_lightning_entry, from_lightning_entry, lightning_entry
from ov2kit.recipes.release.companions import CONFIG, GENERATION
from ov2kit.recipes.release.config_sizes import check_sizes
from ov2kit.recipes.release.configs import empty_model, read_config, read_generation
from ov2kit.recipes.release.directory import from_pretrained, save_pretrained
from ov2kit.recipes.release.file_kinds import check_saved
from ov2kit.recipes.release.filling import check_tensors, fill, load
from ov2kit.recipes.release.lightning_files import PREFIX, is_lightning, read_lightning
from ov2kit.recipes.release.names import Place, from_part_names, part_name, places
from ov2kit.recipes.release.preprocessor import FILE, PreprocessorFacts, write_preprocessor
from ov2kit.recipes.release.tensors import TensorStore

_PATCHES = "embeddings.patch_embedding.weight"
#: parts of the stand-alone encoder that the full model has no use for
_NOT_IN_THE_MODEL = ("layernorm_post.", "head.", "video_rope.")
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.json")


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    llm: str | os.PathLike[str] | None = None,
    adapter: str | os.PathLike[str] | None = None,
    base: str | os.PathLike[str] | None = None,
    files_from: str | os.PathLike[str] | None = None,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = 5 * 10**9,
    merge: int = 2,
    seed: int = 0,
    overwrite: bool = False,
) -> str:
    """Convert by what `source` is and what `target` is called.

    Args:
        source: a Lightning checkpoint (file or directory of shards), a directory in the released format,
            or with `llm` a directory of the stand-alone encoder.
        target: a directory; or a file ending in .ckpt for a Lightning checkpoint.
        adapter: folder of adapters of PEFT, merged into a model directory.
        base: model directory that the adapters of a Lightning checkpoint were learned beside, if it has moved.
        llm: directory of a causal language model of transformers, with its tokenizer.
        files_from: directory to take the files of tokenizer and processor from.
        dtype: of the weights written; those of the source when omitted.
        max_shard_bytes: see `save_pretrained`.
        merge: patches per block edge of a new connector.
        seed: of a new connector's weights.
        overwrite: replace what is there.

    Returns:
        What was done, in a few words.

    Raises:
        CheckpointError: nothing that can be converted, or it does not fit together.
        OutputError: `target` cannot be written, or writing it would destroy what is read.
    """
    source, target = Path(source), Path(target)
    refuse_overwriting_inputs(target, [source, llm, adapter, base, files_from])

    def write(model: LlavaOneVision2) -> None:
        save_pretrained(
            model,
            target,
            files_from=files_from,
            also=lambda folder: _add_preprocessor(model, folder),
            max_shard_bytes=max_shard_bytes,
            overwrite=overwrite,
        )

    if llm is not None:
        write(start_model(source, Path(llm), merge=merge, seed=seed, dtype=dtype))
        return "encoder and language model -> start checkpoint with a new connector"
    if not source.exists():
        raise CheckpointError(f"{source}: there is no such file or directory")
    to_lightning = target.suffix == ".ckpt"
    if is_lightning(source):
        if source.is_file():
            check_saved(source)
        if to_lightning:
            raise CheckpointError(f"{target}: the source is a Lightning checkpoint already; name a directory")
        model = model_from_lightning(source, dtype, base)
        kind = "Lightning checkpoint -> released format"
    else:
        model = from_pretrained(source, dtype, make=LlavaOneVision2.from_parts)
        kind = "released format -> " + ("Lightning checkpoint" if to_lightning else "released format")
    if adapter is not None:
        if is_lightning(source):
            raise CheckpointError(f"{source}: adapters are merged into a model directory; convert the checkpoint first")
        from ov2kit.recipes.model.adapter_folders import merge_adapters

        model, kind = merge_adapters(model, adapter), f"{kind}, with the adapters merged"
    if to_lightning:
        write_lightning(model, target, overwrite=overwrite)
    else:
        write(model)
    return kind


def model_from_lightning(
    path: str | os.PathLike[str], dtype: torch.dtype | None = None, base: str | os.PathLike[str] | None = None
) -> LlavaOneVision2:
    """The model in a Lightning checkpoint of `LitLlavaOneVision2`, without Lightning and without its config file.

    Args:
        path: the checkpoint.
        dtype: of the weights; the checkpoint's own when omitted.
        base: where the base of a checkpoint of adapters alone is; where it was when omitted.

    Raises:
        CheckpointError: unreadable, or the tensors are not those of the model it describes.
    """
    state, rest = read_lightning(path)
    if holds_adapters_alone(rest):
        check_lightning_entry(rest["ov2kit"], path)
        whole = model_of_adapters(state, rest, path, base)
        return cast(LlavaOneVision2, cast(Any, whole if dtype is None else cast(Any, whole).to(dtype)).eval())
    if base is not None:
        raise OptionError(f"{path} holds all weights of its model, and needs no base")
    state = merged(state, (rest.get("hyper_parameters") or {}).get("lora"))
    check_lightning_entry(rest.get("ov2kit"), path)
    if isinstance(config := (rest.get("ov2kit") or {}).get("config"), Mapping):
        check_sizes(config, Path(path), sum(tensor.numel() for tensor in state.values()))
    model = from_lightning_entry(rest.get("ov2kit") or {}, LlavaOneVision2.from_parts, fresh=False, place=str(path))
    state = from_part_names(model, state)
    wanted = places(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    own = [Place(p.name, (p.name,), (shapes[p.name],), p.alias) for p in wanted]
    tied = {p.alias for p in wanted if p.alias is not None}
    check_tensors(own, set(state) - tied, lambda name: tuple(state[name].shape), str(path))
    fill(model, own, lambda place: _cast(state[place.name], dtype))
    return cast(LlavaOneVision2, cast(Any, model).eval())


def write_lightning(model: LlavaOneVision2, target: Path, *, overwrite: bool = False) -> None:
    """A Lightning checkpoint of the model alone: `LitLlavaOneVision2.load_from_checkpoint` reads it.

    Raises:
        CheckpointError: the place is taken.
        OutputError: it cannot be written there.
    """
    from importlib.metadata import PackageNotFoundError, version

    if target.exists() and (target.is_dir() or not overwrite):
        raise CheckpointError(f"{target}: exists already; overwrite=True (--overwrite) replaces a file")
    try:
        lightning = version("lightning")
    except PackageNotFoundError:
        lightning = "2.5.0"
    entry = lightning_entry(model)
    content = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning,
        "state_dict": {PREFIX + name: tensor for name, tensor in model.state_dict().items()},
        "hyper_parameters": {"size": entry["config"]},
        "ov2kit": entry,
    }
    with write_file(target, sync=True) as file:
        torch.save(content, file)


def start_model(
    encoder: Path, llm: Path, *, merge: int = 2, seed: int = 0, dtype: torch.dtype | None = None
) -> LlavaOneVision2:
    """A released encoder and a released language model, joined by a connector of fresh weights.

    Raises:
        CheckpointError: one of them is incomplete, or the tokenizer has no vision tokens.
    """
    vision, text = read_config(encoder, ()), read_config(llm, ())
    if "model_type" not in text or "hidden_size" not in text:
        raise CheckpointError(f"{llm / CONFIG}: expected the config of a causal language model of transformers")
    if absent := [field for field in ("hidden_size", "patch_size", "num_attention_heads") if field not in vision]:
        raise CheckpointError(f"{encoder / CONFIG}: expected an encoder's config, it has no {', '.join(absent)}")
    config = release_config("8b")
    described = {k: v for k, v in vision.items() if k in config["vision_config"] and k != "model_type"}
    config["vision_config"] |= described | {"use_head": False, "spatial_merge_size": merge}
    config["vision_config"]["out_hidden_size"] = text["hidden_size"]
    config["text_config"] = {k: v for k, v in text.items() if k not in ("architectures", "auto_map", "_name_or_path")}
    config["tie_word_embeddings"] = bool(text.get("tie_word_embeddings", False))
    config = _with_tokenizer(config, llm)
    check_sizes(config, llm / CONFIG, TensorStore(encoder).numel + TensorStore(llm).numel)
    model = empty_model(config, llm, LlavaOneVision2.from_parts)
    wanted = places(model)
    _fill_language_model(
        model, [p for p in wanted if part_name(model, p.name).startswith("language_model.")], llm, dtype
    )
    main = next(model.language_model.parameters()).dtype
    _fill_encoder(model, [p for p in wanted if part_name(model, p.name).startswith("encoder.")], encoder, main)
    _draw_connector(model, [p for p in wanted if part_name(model, p.name).startswith("connector.")], seed, main)
    if (llm / GENERATION).is_file():
        model.generation_config = read_generation(llm)
    model.source = llm.absolute()
    return cast(LlavaOneVision2, cast(Any, model).eval())


def _add_preprocessor(model: LlavaOneVision2, folder: Path) -> None:
    """The release's treatment of pixels, where no other file says how this model's are treated."""
    if not (folder / FILE).exists():
        vision = vision_fields(model.release_config)
        write_preprocessor(folder, PreprocessorFacts(patch=vision["patch_size"], merge=vision["spatial_merge_size"]))


def _with_tokenizer(config: dict[str, Any], llm: Path) -> dict[str, Any]:
    """The special ids as the language model's tokenizer has them; the vocabulary stays as large as its embedding."""
    if not any((llm / name).is_file() for name in _TOKENIZER):
        raise CheckpointError(f"{llm}: expected the language model's tokenizer beside its weights, found none")
    from transformers import AutoTokenizer

    try:
        fitted = fit_tokenizer(config, AutoTokenizer.from_pretrained(llm, trust_remote_code=False))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{llm}: its tokenizer cannot be used ({error})") from error
    return {**fitted, "text_config": config["text_config"]}


def _fill_language_model(model: LlavaOneVision2, wanted: list[Place], llm: Path, dtype: torch.dtype | None) -> None:
    inner = f"{getattr(model.language_model, 'base_model_prefix', 'model')}."

    def released(name: str) -> str:
        return f"model.language_model.{name.removeprefix(inner)}" if name.startswith(inner) else name

    load(model, wanted, TensorStore(llm, released), dtype)


def _fill_encoder(model: LlavaOneVision2, wanted: list[Place], encoder: Path, dtype: torch.dtype) -> None:
    found = [name for name in TensorStore(encoder).names if name.endswith(_PATCHES)]
    if len(found) != 1:
        raise CheckpointError(f"{encoder}: expected the weights of one encoder ({_PATCHES}), found {len(found)}")
    prefix = found[0].removesuffix(_PATCHES)

    def bare(name: str) -> str | None:
        rest = name.removeprefix(prefix)
        return rest if name.startswith(prefix) and not rest.startswith(_NOT_IN_THE_MODEL) else None

    store = TensorStore(encoder, bare)
    state: Mapping[str, Tensor] = {
        f"model.visual.{k}": v for k, v in join_qkv({n: store.read(n) for n in store.names}).items()
    }
    own = [Place(p.name, (p.name,), p.shapes) for p in wanted]
    check_tensors(own, set(state), lambda name: tuple(state[name].shape), str(encoder))
    fill(model, own, lambda place: state[place.name].to(dtype))


def _draw_connector(model: LlavaOneVision2, wanted: list[Place], seed: int, dtype: torch.dtype) -> None:
    """Fresh weights: normal with deviation 0.02, biases 0, norms 1; the same for the same seed."""
    rng = torch.Generator().manual_seed(seed)

    def draw(place: Place) -> Tensor:
        shape = place.shapes[0]
        if len(shape) > 1:
            return torch.empty(shape).normal_(std=0.02, generator=rng).to(dtype)
        return (torch.ones if place.name.endswith("weight") else torch.zeros)(shape, dtype=dtype)

    fill(model, wanted, draw)


def _cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
