"""Released weights in and out, as safetensors and under the release's names.

Only safetensors are opened, never pickles.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ov2kit.encoders.shards import tensor_files, write_shards
from ov2kit.positional.pairing import PAIRINGS, Pairing

#: key of the files' metadata
_PAIRING = "pairing"
#: under the encoder's prefix, but the connector's
_NOT_OURS = ("merger.",)
_SEPARATE = re.compile(r"(.*self_attn\.)(q_proj|k_proj|v_proj|out_proj)\.(weight|bias)$")


class ReleaseState(dict[str, Tensor]):
    """Tensors under the release's names, and how the encoder they belong to rotates.

    Args:
        tensors: by name.
        pairing: None if nothing says so, as in the releases themselves.
    """

    def __init__(self, tensors: Mapping[str, Tensor], pairing: Pairing | None = None) -> None:
        super().__init__(tensors)
        self.pairing = pairing


def read_tensors(path: str | os.PathLike[str], prefix: str = "", *, skip: str | None = None) -> ReleaseState:
    """Tensors whose names start with `prefix`, from one safetensors file or a directory.

    Args:
        path: a .safetensors file, or a directory with model.safetensors or an index of shards;
            shards without a wanted tensor are not opened.
        prefix: names to read.
        skip: names with this prefix are left out.

    Raises:
        FileNotFoundError: no safetensors there, or a shard is missing.
        ValueError: the index cannot be read, or names a file outside the directory; an unknown pairing.
    """

    def wanted(name: str) -> bool:
        return name.startswith(prefix) and not (skip is not None and name.startswith(skip))

    tensors = ReleaseState({})
    for file, names in tensor_files(Path(path), wanted).items():
        with safe_open(file, framework="pt") as opened:
            for name in names if names is not None else filter(wanted, opened.keys()):
                tensors[name] = opened.get_tensor(name)
            noted = (opened.metadata() or {}).get(_PAIRING)
            if noted is not None and noted not in PAIRINGS:
                raise ValueError(f"{file}: unknown pairing {noted!r} in its metadata; known: {', '.join(PAIRINGS)}")
            tensors.pairing = tensors.pairing or cast(Pairing | None, noted)
    return tensors


def write_tensors(tensors: Mapping[str, Tensor], path: str | os.PathLike[str], max_shard_bytes: int) -> None:
    """Write tensors to a directory with `write_shards`; the pairing of a `ReleaseState` goes into the metadata."""
    noted: Pairing | None = getattr(tensors, "pairing", None)
    write_shards(tensors, path, max_shard_bytes, {} if noted is None else {_PAIRING: noted})


def load_state(module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str) -> tuple[list[str], list[str]]:
    """Fill the parameters of `module` from names that start with `prefix`; see `OneVisionEncoder`."""
    ours = {
        name.removeprefix(prefix): tensor
        for name, tensor in state_dict.items()
        if name.startswith(prefix) and not name.removeprefix(prefix).startswith(_NOT_OURS)
    }
    ours = join_qkv(ours)
    parameters = dict(module.named_parameters())
    wrong = [
        f"{prefix}{name} is {tuple(tensor.shape)}, the encoder has {tuple(parameters[name].shape)}"
        for name, tensor in ours.items()
        if name in parameters and tensor.shape != parameters[name].shape
    ]
    if wrong:
        raise ValueError("the checkpoint is of another size:\n  - " + "\n  - ".join(wrong))
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name not in ours:
                continue
            if parameter.is_meta:
                owner, _, leaf = name.rpartition(".")
                setattr(module.get_submodule(owner), leaf, nn.Parameter(ours[name].clone(), parameter.requires_grad))
            else:
                parameter.copy_(ours[name])
    missing = [prefix + name for name in parameters if name not in ours]
    return missing, [prefix + name for name in ours if name not in parameters]


def release_state(module: nn.Module, prefix: str, *, split_qkv: bool) -> dict[str, Tensor]:
    """The parameters of `module` under the release's names."""
    state = {name: parameter.detach() for name, parameter in module.named_parameters()}
    return {prefix + name: tensor for name, tensor in (separate_qkv(state) if split_qkv else state).items()}


def join_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """self_attn.{q,k,v}_proj -> self_attn.qkv and self_attn.out_proj -> self_attn.proj.

    Layers of which one of the three is missing are left as they are, to be reported.
    """
    joined = dict(state)
    for name in state:
        if (match := _SEPARATE.match(name)) is None:
            continue
        layer, part, kind = match.groups()
        if part == "out_proj":
            joined[f"{layer}proj.{kind}"] = joined.pop(name)
        elif part == "q_proj":
            names = [f"{layer}{p}_proj.{kind}" for p in "qkv"]
            if all(n in joined for n in names):
                joined[f"{layer}qkv.{kind}"] = torch.cat([joined.pop(n) for n in names])
    return joined


def separate_qkv(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `join_qkv`."""
    separate: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, found, kind = name.rpartition("self_attn.qkv.")
        if found:
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                separate[f"{layer}self_attn.{part}_proj.{kind}"] = chunk
        else:
            separate[name.replace("self_attn.proj.", "self_attn.out_proj.")] = tensor
    return separate
