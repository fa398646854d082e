"""Canvases of media files, kept on disk so that a file is tokenized once and not every epoch."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Protocol

import torch

import ov2kit
from ov2kit.canvases import Canvases
from ov2kit.errors import AssetError, DataError


class Tokenizes(Protocol):
    """A tokenizer of the codec part: a file -> canvases, and the options that decide what comes out."""

    def __call__(self, source: Any, /) -> Canvases: ...

    def options(self) -> dict[str, Any]: ...


class CanvasCache:
    """Tokenize through a directory of saved canvases.

    An entry is found by the file's path, size and time of change, by the tokenizer's kind, options and by the version
    of ov2kit; it appears whole or not at all, so processes may share the directory. It has a checksum:
    what was damaged since is never used, but made again and noted. Nothing is ever deleted: remove the
    directory when it is no longer wanted.

    Args:
        directory: where to keep canvases; None keeps none.

    Raises:
        DataError: the directory cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self.directory = None if directory is None else Path(directory)
        #: what was damaged and made again, one text each; for the caller to take
        self.rebuilt: list[str] = []
        if self.directory is not None:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(
                    f"{self.directory}: expected a folder to keep canvases in ({error.strerror}); choose another place"
                ) from error

    def __call__(self, tokenizer: Tokenizes, path: Path) -> Canvases:
        """Canvases of a file.

        Raises:
            VideoError: it cannot be opened or decoded.
            OutputError: its canvases cannot be kept.
        """
        if self.directory is None:
            return tokenizer(path)
        place = self.place(tokenizer, path)
        damaged = ""
        if place.is_dir():
            try:
                return Canvases.load(place)
            except AssetError as error:
                damaged = str(error)
        canvases = tokenizer(path)
        canvases.save(place)
        if damaged:
            self.rebuilt.append(f"the canvases kept of {path.name} were damaged and are made again ({damaged})")
        return canvases

    def place(self, tokenizer: Tokenizes, path: Path) -> Path:
        """Where the canvases of a file are kept.

        Raises:
            OSError: the file is not there.
        """
        assert self.directory is not None
        facts = path.stat()
        key = [
            str(path.resolve()), facts.st_size, facts.st_mtime_ns,
            type(tokenizer).__name__, tokenizer.options(), _modules(tokenizer), ov2kit.__version__,
        ]  # fmt: skip
        name = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:32]
        return self.directory / name[:2] / name


def _modules(tokenizer: Tokenizes) -> str:
    """Options that `options()` may not list, of the modules inside."""
    return repr(tokenizer) if isinstance(tokenizer, torch.nn.Module) else ""
