"""Directories of safetensors: what is in them, one tensor at a time."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ov2kit.encoders.shards import tensor_files
from ov2kit.errors import CheckpointError


class TensorStore:
    """The tensors of a safetensors file, or of a directory of them, read when asked for.

    Args:
        path: a .safetensors file, or a directory with model.safetensors or an index of shards.
        rename: what a tensor of the files is called here; None leaves it out.

    Raises:
        CheckpointError: there are no safetensors, a shard is missing or damaged, or index and shards
            disagree.
    """

    def __init__(self, path: str | os.PathLike[str], rename: Callable[[str], str | None] = lambda name: name) -> None:
        self.path = Path(path)
        self._places: dict[str, tuple[Path, str]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        try:
            files = tensor_files(self.path, lambda name: True)
        except (FileNotFoundError, ValueError) as error:
            raise CheckpointError(str(error)) from error
        for file, listed in files.items():
            try:
                with safe_open(file, framework="pt") as opened:
                    there = list(opened.keys())
                    if listed is not None and (absent := sorted(set(listed) - set(there))):
                        raise CheckpointError(f"{file}: the index says it holds {_brief(absent)}, but it does not")
                    for stored in there if listed is None else listed:
                        if (name := rename(stored)) is not None:
                            self._places[name] = (file, stored)
                            self._shapes[name] = tuple(opened.get_slice(stored).get_shape())
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{file}: not a readable safetensors file ({error}); it may be cut short, copy it again"
                ) from error

    @property
    def names(self) -> set[str]:
        return set(self._places)

    @property
    def numel(self) -> int:
        """Numbers of all tensors."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def read(self, name: str, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Tensor:
        """One tensor, in the file's dtype unless another is asked for; integers keep theirs.

        On the host in the file's dtype it is a private mapping of the file: pages are read when touched
        and copied when written.
        """
        file, stored = self._places[name]
        with safe_open(file, framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(stored)
        return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)


def _brief(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
