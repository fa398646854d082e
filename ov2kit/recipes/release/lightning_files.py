"""Lightning checkpoints, read without arbitrary unpickling.

One file as `torch.save` writes it, or a directory as the sharded strategies (FSDP, model parallel) do
with `torch.distributed.checkpoint`.
"""

import io
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from ov2kit.errors import CheckpointError, shorten
from ov2kit.files import check_file, is_safe_name
from ov2kit.recipes.release.file_kinds import check_saved

#: the attribute of the LightningModule that holds the model
PREFIX = "model."
#: what wrappers put into names: torch.compile, and recomputation
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
_SHARDED = ".metadata"
_REST = "meta.pt"
#: entries that are mappings where they are there at all
_MAPPINGS = ("state_dict", "hyper_parameters", "ov2kit")
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
        raise CheckpointError(
            f"{source}: expected a checkpoint as 'ov2kit fit' writes it, no tensor in it is named {PREFIX}...; name "
            "another, or a model directory"
        )
    if strange := next((name for name, tensor in model.items() if not isinstance(tensor, Tensor)), None):
        raise CheckpointError(f"{source}: expected tensors, got {type(model[strange]).__name__} as {PREFIX}{strange}")
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
    check_saved(check_file(file, "a checkpoint", CheckpointError))
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # whatever a broken file does to the reader
        if (named := re.search(r"GLOBAL ([\w.]+)", str(error))) and isinstance(error, pickle.UnpicklingError):
            raise CheckpointError(
                f"{file}: holds something other than tensors and plain data ({named[1]}), and is not read because "
                "that could run code; name a .ckpt file that 'ov2kit fit' or 'ov2kit convert' wrote"
            ) from error
        raise CheckpointError(
            f"{file}: this checkpoint is damaged and cannot be read; copy it again, or use an earlier one"
        ) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(
            f"{file}: expected a checkpoint as 'ov2kit fit' writes it, a mapping, got {type(loaded).__name__}"
        )
    for name in _MAPPINGS:
        if not isinstance(loaded.get(name) or {}, Mapping):
            raise CheckpointError(
                f"{file}: expected a checkpoint as 'ov2kit fit' writes it, with a mapping under {name!r}, "
                f"got {type(loaded[name]).__name__}"
            )
    return loaded


class _ForbiddenName(pickle.UnpicklingError):
    """A table of contents that could run code."""


class _Names(pickle.Unpickler):
    """Opens the table of contents and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in _HARMLESS.get(module, ()):
            raise _ForbiddenName(f"it names {module}.{name}")
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


def settings_file(path: str | os.PathLike[str]) -> Path:
    """The file that says what a checkpoint was made with: the checkpoint itself, or one beside its shards.

    Raises:
        CheckpointError: a folder that holds no shards.
    """
    place = Path(path)
    if not place.is_dir():
        return place
    if absent := [name for name in (_SHARDED, _REST) if not (place / name).is_file()]:
        raise CheckpointError(
            f"{place}: expected a checkpoint as 'ov2kit fit' writes it, got a folder without {' and '.join(absent)}; "
            "name a .ckpt file, or a folder of shards"
        )
    return place / _REST


def _read_sharded(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    rest = read_plain(settings_file(folder), mmap=False)
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
    except (Exception, CheckpointException) as error:
        raise _unreadable(error, folder) from error
    return {key.partition(".")[2]: tensor for key, tensor in wanted.items()}, rest


def _unreadable(error: BaseException, folder: Path) -> BaseException:
    """What is to be raised for what shards did to their reader: ours as it is, and an interruption."""
    # torch.distributed.checkpoint wraps whatever it meets, Ctrl-C too, in errors of its own
    inner = [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
    for cause in inner:
        if isinstance(cause, KeyboardInterrupt):
            return cause
        if isinstance(cause, CheckpointError | _ForbiddenName):
            return CheckpointError(f"{folder}: not a checkpoint that can be read ({cause})")
    return CheckpointError(f"{folder}: the shards of this checkpoint are damaged; copy it again, or use an earlier one")
