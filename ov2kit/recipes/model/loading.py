"""Model directories in and out, in the way that transformers' own loaders and trainers ask for it.

A directory is read by ov2kit: strict, mapped, one line for all that is wrong, and nothing changed for other threads.
What transformers does with a model beyond that (`device_map`, `quantization_config`, adapters in the directory,
a config that is not the directory's) is left to it, and checked before and after.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ov2kit.errors import CheckpointError, OptionError, check_keys, deprecated
from ov2kit.files import fill_folder
from ov2kit.recipes.release.companions import CONFIG
from ov2kit.recipes.release.configs import read_config
from ov2kit.recipes.release.directory import bring_files, from_pretrained, save_pretrained
from ov2kit.recipes.release.model_card import FILE as CARD
from ov2kit.recipes.release.model_card import add_card

#: options that say where files are, or what we do anyway
_PLAIN = {
    "_from_auto", "adapter_kwargs", "attn_implementation", "cache_dir", "config", "force_download", "local_files_only",
    "low_cpu_mem_usage", "proxies", "revision", "subfolder", "token", "trust_remote_code", "use_safetensors",
    "weights_only",
}  # fmt: skip
#: fields of a config that change without another model being meant
_NOT_THE_MODEL = ("dtype", "torch_dtype", "transformers_version", "_name_or_path")
_OF_TRAINERS = ("is_main_process", "save_function", "safe_serialization")
_OF_SAVING = ("max_shard_size", "state_dict", "files_from", "also", "overwrite", *_OF_TRAINERS)


def load(
    cls: Any,
    theirs: Callable[..., Any],
    place: str | os.PathLike[str],
    dtype: torch.dtype | str | None,
    device: torch.device | str | None,
    options: dict[str, Any],
) -> Any:
    """The model of a directory.

    Args:
        cls: `LlavaOneVision2`, or what inherits from it.
        theirs: `from_pretrained` of transformers.
        place: see `LlavaOneVision2.from_pretrained`, as the rest.
        dtype: "auto" is the files' own.
        device: where it goes.
        options: of transformers.

    Raises:
        CheckpointError: see there.
    """
    if "attention" in options:
        deprecated("attention=", "attn_implementation=", "0.2")
        options["attn_implementation"] = options.pop("attention")
    options = {name: value for name, value in options.items() if value is not None}
    dtype = options.pop("torch_dtype", dtype)
    folder, config = Path(place), options.get("config")
    if folder.is_dir() or config is None:
        stored = read_config(folder)
        wants_more = set(options) - _PLAIN or "quantization_config" in stored or _has_adapters(folder)
        if not wants_more and (config is None or _is_of(config, folder)):
            chosen = options.get("attn_implementation") or getattr(config, "_attn_implementation_internal", None)
            return from_pretrained(folder, _dtype(dtype), device, attention=chosen, make=cls.from_parts)
    if device is not None:
        options["device_map"] = device
    wants_info = options.pop("output_loading_info", False)
    model, info = theirs(place, dtype=dtype or "auto", output_loading_info=True, **options)
    _check(info, place)
    if folder.is_dir():
        model.release_config, model.source = read_config(folder), folder.absolute()
    return (model, info) if wants_info else model


def save(
    model: Any, theirs: Callable[..., Any], directory: str | os.PathLike[str], tokenizer: Any, options: dict[str, Any]
) -> None:
    """Write a model.

    Args:
        model: what to write.
        theirs: its `save_pretrained` of transformers.
        directory: see `LlavaOneVision2.save_pretrained`, as the rest.
        tokenizer: or a processor.
        options: of ours and of transformers' trainers.

    Raises:
        CheckpointError: see there, as for `OutputError`.
    """
    for old, use in (("state", "state_dict"), ("max_shard_bytes", "max_shard_size")):
        if old in options:
            deprecated(f"{old}=", f"{use}=", "0.2")
            options[use] = options.pop(old)
    check_keys("save_pretrained", options, _OF_SAVING, OptionError)
    if not options.get("is_main_process", True):
        return
    size, state = options.get("max_shard_size", 5 * 10**9), options.get("state_dict")
    if _is_ours_to_write(model):
        more = {name: options[name] for name in ("files_from", "also") if name in options}
        overwrite = options.get("overwrite", True)
        save_pretrained(
            model, directory, tokenizer, state=state, max_shard_bytes=_bytes(size), overwrite=overwrite,
            keep=overwrite, **more,
        )  # fmt: skip
        return
    with fill_folder(directory) as scratch:
        bring_files(model, None, scratch)
        if tokenizer is not None:
            tokenizer.save_pretrained(scratch)
        theirs(scratch, state_dict=state, max_shard_size=size)
        written = json.loads((scratch / CONFIG).read_text(encoding="utf-8"))
        written["architectures"] = model.release_config.get("architectures", written.get("architectures"))
        (scratch / CONFIG).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        if not (Path(directory) / CARD).exists():
            add_card(scratch, written)


def _has_adapters(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def _is_of(config: Any, folder: Path) -> bool:
    """Whether a config is that of the directory, but for how it is computed with."""
    return _bare(config.to_dict()) == _bare(type(config).from_pretrained(folder).to_dict())


def _bare(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _bare(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in _NOT_THE_MODEL
    }


def _dtype(name: torch.dtype | str | None) -> torch.dtype | None:
    if name is None or isinstance(name, torch.dtype):
        return name
    found = None if name == "auto" else getattr(torch, name.removeprefix("torch."), name)
    if not (found is None or isinstance(found, torch.dtype)):
        raise OptionError(f"dtype must be 'auto' or a dtype of torch such as 'bfloat16', got {name!r}")
    return found


def _check(info: Mapping[str, Any], place: object) -> None:
    """Nothing is drawn at random because a file lacks it."""
    complaints = [
        f"{len(info[key])} {said}: {', '.join(sorted(map(str, info[key]))[:6])}"
        for key, said in (
            ("missing_keys", "missing"),
            ("unexpected_keys", "unexpected"),
            ("mismatched_keys", "of another shape"),
        )
        if info[key]
    ]
    if complaints:
        raise CheckpointError(f"{place}: the tensors do not fit the config; " + "; ".join(complaints))


def _is_ours_to_write(model: Any) -> bool:
    """Neither quantized, nor anything of it left on disk by a `device_map`."""
    return getattr(model, "hf_quantizer", None) is None and not any(p.is_meta for p in model.parameters())


def _bytes(size: int | str) -> int:
    """A size as transformers writes it, such as "5GB"."""
    if isinstance(size, int):
        return size
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
    number = size.upper().rstrip("KMGIB")
    try:
        return int(float(number) * units[size.upper().removeprefix(number)])
    except (ValueError, KeyError):
        raise OptionError(f"max_shard_size must be bytes or such as '5GB', got {size!r}") from None
