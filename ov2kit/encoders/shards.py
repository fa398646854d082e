"""Directories of safetensors as transformers lays them out: one file, or shards and an index of them."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from ov2kit.files import is_safe_name, write_tensors, write_text

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


def tensor_files(path: Path, wanted: Callable[[str], bool]) -> dict[Path, list[str] | None]:
    """Which files to open, and which names to read from each (None: look into the file).

    Args:
        path: a .safetensors file, or a directory with model.safetensors or an index of shards.
        wanted: whether to read the tensor of this name.

    Raises:
        FileNotFoundError: no safetensors there, or a shard is missing.
        ValueError: the index cannot be read, or names a file outside the directory.
    """
    if path.is_file() and path.suffix == ".safetensors":
        return {path: None}
    if (index := path / INDEX).is_file():
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"{index}: expected JSON with a weight_map, got {type(error).__name__}: {error}"
            ) from error
        shards: dict[Path, list[str] | None] = {}
        for name, shard in places.items():
            if not wanted(name):
                continue
            if not is_safe_name(shard) or not shard.endswith(".safetensors"):
                raise ValueError(f"{index}: {name!r} must be in a .safetensors file beside the index, got {shard!r}")
            names = shards.setdefault(path / shard, [])
            assert names is not None
            names.append(name)
        if absent := [shard.name for shard in shards if not shard.is_file()]:
            raise FileNotFoundError(f"{path}: the index names shards that are not there: {', '.join(absent)}")
        return shards
    if (single := path / SINGLE).is_file():
        return {single: None}
    raise FileNotFoundError(
        f"{path}: expected a .safetensors file, or a directory with {SINGLE} or {INDEX}; "
        "pickled checkpoints (.bin, .pt, .pth) are never opened, convert them to safetensors first"
    )


def write_shards(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    max_shard_bytes: int,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to a directory: one file, or shards and an index, named and laid out as by transformers.

    Only one shard at a time is copied to the host.

    Args:
        tensors: by name, in the order in which they go into shards.
        path: the directory.
        max_shard_bytes: of the tensors of one shard; a larger tensor is alone in its shard.
        metadata: further entries for each file, beside {"format": "pt"}.

    Raises:
        OutputError: it cannot be written there.
    """
    folder = Path(path)
    plan: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if plan[-1] and size + tensor.nbytes > max_shard_bytes:
            plan.append([])
            size = 0
        plan[-1].append(name)
        size += tensor.nbytes
    places: dict[str, str] = {}
    for i, names in enumerate(plan, start=1):
        file = SINGLE if len(plan) == 1 else f"model-{i:05d}-of-{len(plan):05d}.safetensors"
        shard = {name: tensors[name].detach().cpu().contiguous() for name in names}
        write_tensors(folder / file, shard, {"format": "pt", **(metadata or {})}, sync=True)
        places |= dict.fromkeys(names, file)
    if len(plan) > 1:
        totals = {
            "total_parameters": sum(t.numel() for t in tensors.values()),
            "total_size": sum(t.nbytes for t in tensors.values()),
        }
        index = {"metadata": totals, "weight_map": places}
        write_text(folder / INDEX, json.dumps(index, indent=2, sort_keys=True) + "\n")
