"""Lightning checkpoints, read without arbitrary unpickling.

One file as `torch.save` writes it, or a directory as the sharded strategies (FSDP, model parallel) do
with `torch.distributed.checkpoint`.
"""

import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from ov2kit.errors import CheckpointError, shorten
from ov2kit.files import check_file, is_safe_name

#: the attribute of the LightningModule that holds the model
PREFIX = "model."
#: what wrappers put into names: torch.compile, and recomputation
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
_SHARDED = ".metadata"
_REST = "meta.pt"
#: the only globals that the table of contents of a sharded checkpoint may name
_HARMLESS = {
    "torch.distributed.checkpoint.metadata": {
        "Metadata",
        "MetadataIndex",
        "TensorStorageMetadata",
        "BytesStorageMetadata",
        "TensorProperties",
        "ChunkStorageMetadata",
        "StorageMeta",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo", "_StoragePrefix"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"}
    | {str(value).removeprefix("torch.") for value in vars(torch).values() if isinstance(value, torch.dtype)},
    "pathlib": {"Path", "PosixPath", "PurePosixPath", "WindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "PurePosixPath", "WindowsPath"},
    "collections": {"OrderedDict"},
}


def is_lightning(path: Path) -> bool:
    """Whether this looks like a Lightning checkpoint: a file, or a directory of shards."""
    return path.is_file() or (path / _SHARDED).is_file()


def read_lightning(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The model's state dict and the rest of a Lightning checkpoint.

    Returns:
        (tensors under the model's own names, the other entries without optimizer states). Of a file
        the tensors are mappings of it.

    Raises:
        CheckpointError: unreadable, holds objects other than tensors and plain data, or no model.
    """
    source = Path(path)
    if source.is_dir():
        state, rest = _read_sharded(source)
    else:
        rest = read_plain(source)
        state = rest.pop("state_dict", {})
    model = {_bare(name): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
    if not model:
        raise CheckpointError(f"{source}: no tensor is named {PREFIX}...; was it written by LitLlavaOneVision2?")
    return model, rest


def _bare(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name.removeprefix(PREFIX)


def read_plain(file: str | os.PathLike[str], *, mmap: bool = True) -> dict[str, Any]:
    """The content of a file of `torch.save`: tensors on the host and plain data, and nothing that runs code.

    Args:
        file: to read.
        mmap: tensors are mappings of the file, read when touched.

    Raises:
        CheckpointError: no such file, unreadable, no dict, or it holds something else.
    """
    check_file(file, "a checkpoint", CheckpointError)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = str(error).replace("\n", " ")
        raise CheckpointError(
            f"{file}: holds something other than tensors and plain data, and is not read because that could run "
            f"code ({reason[:160]}...)"
        ) from error
    except Exception as error:  # whatever a broken file does to the reader
        reason = str(error).replace("\n", " ") or type(error).__name__
        raise CheckpointError(f"{file}: not a readable checkpoint ({reason[:160]})") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{file}: expected a Lightning checkpoint, got {type(loaded).__name__}")
    return loaded


class _Names(pickle.Unpickler):
    """Opens the table of contents and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in _HARMLESS.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


class _Reader(FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        metadata: Metadata = _Names(io.BytesIO((Path(self.path) / _SHARDED).read_bytes())).load()
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        for entry in metadata.storage_data.values():
            if not is_safe_name(entry.relative_path):
                raise CheckpointError(f"it names the file {shorten(entry.relative_path)}, which is not beside it")
            check_file(Path(self.path) / entry.relative_path, "a shard", CheckpointError)
        metadata.storage_meta.load_id = self.load_id
        return metadata


def _read_sharded(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not (folder / _SHARDED).is_file():
        raise CheckpointError(f"{folder}: expected a sharded checkpoint with {_SHARDED} and {_REST}")
    rest = read_plain(folder / _REST, mmap=False)
    reader = _Reader(folder)
    try:
        stored = reader.read_metadata().state_dict_metadata
        wanted: dict[str, Any] = {
            key: torch.empty(entry.size, dtype=entry.properties.dtype)
            for key, entry in stored.items()
            if isinstance(entry, TensorStorageMetadata) and key.partition(".")[2].startswith(PREFIX)
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # which is how it is meant to be read
            load(wanted, storage_reader=reader, no_dist=True)
    except Exception as error:  # torch.distributed.checkpoint wraps what it meets in errors of its own
        reason = str(error.__cause__ or error).replace("\n", " ")
        raise CheckpointError(f"{folder}: not a readable sharded checkpoint ({reason[:300]})") from error
    return {key.partition(".")[2]: tensor for key, tensor in wanted.items()}, rest
