"""Where a dataset lies: a folder of this machine, or of a store that fsspec reaches; one way to read and write both.

A file of this machine appears under its name when it is whole and on the disk. A file of a store is written aside and
then put there in one request, which object stores make visible at its end.
"""

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from ov2kit.errors import OutputError
from ov2kit.files import write_file
from ov2kit.recipes.datasets.stores import is_remote, modules_of, store_errors, store_of, words_of

_PARTIAL = ".*.partial*"


class Storage(Protocol):
    """Named files below one root; a name has "/" between its folders."""

    root: str

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """The content of a file, or `size` bytes of it from `start`.

        Raises:
            OSError: it cannot be read; FileNotFoundError where it is not there.
        """

    def size(self, name: str) -> int | None:
        """Bytes of a file; None where it is not there."""

    def names(self, folder: str = "") -> list[str]:
        """What lies in a folder, sorted; nothing where it is not there."""

    def write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A file to fill, which appears when the block ends well and replaces one that is there.

        Raises:
            OutputError: it cannot be written.
        """

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it, if it is there."""

    def place(self, name: str) -> str:
        """Path or URL of a file."""


class LocalStorage:
    """Files below a folder of this machine."""

    def __init__(self, root: str) -> None:
        self.root = root

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """See `Storage.read`."""
        with open(Path(self.root, name), "rb") as file:
            file.seek(start)
            return file.read(-1 if size is None else size)

    def size(self, name: str) -> int | None:
        """See `Storage.size`."""
        path = Path(self.root, name)
        return path.stat().st_size if path.is_file() else None

    def names(self, folder: str = "") -> list[str]:
        """See `Storage.names`."""
        place = Path(self.root, folder)
        return sorted(each.name for each in place.iterdir() if not each.match(_PARTIAL)) if place.is_dir() else []

    def write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """See `Storage.write`."""
        return write_file(Path(self.root, name), sync=True)

    def remove(self, name: str) -> None:
        """See `Storage.remove`."""
        path = Path(self.root, name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def place(self, name: str) -> str:
        """See `Storage.place`."""
        return str(Path(self.root, name))

    def remove_partial(self) -> None:
        """Remove what a run left that was killed while it wrote; nobody else may be writing."""
        for leftover in Path(self.root).rglob(_PARTIAL):
            leftover.unlink(missing_ok=True)


class RemoteStorage:
    """Objects below a URL that fsspec knows, such as s3://bucket/folder.

    What a store needs (keys, an endpoint) it takes from its own environment variables and files.

    Raises:
        DataError: fsspec knows no such URLs, or the package for them is not installed.
    """

    def __init__(self, root: str) -> None:
        modules_of(root)
        self.root = root.rstrip("/")

    def _at(self, name: str) -> tuple[Any, str]:
        return store_of(self.place(name))

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """See `Storage.read`."""
        with store_errors(self.place(name)):
            system, path = self._at(name)
            content: bytes = system.cat_file(path, start=start or None, end=None if size is None else start + size)
        return content

    def size(self, name: str) -> int | None:
        """See `Storage.size`."""
        with store_errors(self.place(name)):
            system, path = self._at(name)
            try:
                found = system.info(path)
            except FileNotFoundError:
                return None
        return int(found["size"]) if found.get("type") == "file" else None

    def names(self, folder: str = "") -> list[str]:
        """See `Storage.names`."""
        with store_errors(self.place(folder)):
            system, path = self._at(folder)
            try:
                found = system.ls(path, detail=False)
            except FileNotFoundError:
                return []
        return sorted(
            name for each in found if (name := PurePosixPath(each).name) and each.strip("/") != path.strip("/")
        )

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[BinaryIO]:
        """See `Storage.write`."""
        url = self.place(name)
        with contextlib.ExitStack() as stack:
            try:
                copy: Any = stack.enter_context(tempfile.NamedTemporaryFile())
                yield copy
                copy.flush()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise OutputError(f"{tempfile.gettempdir()}: no space for what goes to {url}; free some") from error
            try:
                system, path = self._at(name)
                system.put_file(copy.name, path)
            except Exception as error:  # every store has its own
                raise OutputError(f"{url}: cannot be written ({words_of(error)}); run the command again") from error

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; whether it is this one that is there then.

        One alone succeeds of all that try it at the same time, where the store has a conditional put.

        Raises:
            OutputError: it cannot be written.
        """
        url, why = self.place(name), ""
        try:
            system, path = self._at(name)
            system.pipe_file(path, content, mode="create")
        except Exception as error:  # it is there, or it was written and the answer was lost, or it cannot be
            why = words_of(error)
        try:
            return self.read(name) == content
        except OSError as error:
            raise OutputError(f"{url}: cannot be written ({why or error}); run the command again") from error

    def remove(self, name: str) -> None:
        """See `Storage.remove`."""
        try:
            system, path = self._at(name)
            with contextlib.suppress(FileNotFoundError):
                system.rm(path, recursive=True)
        except Exception as error:
            raise OutputError(f"{self.place(name)}: cannot be removed ({words_of(error)})") from error

    def place(self, name: str) -> str:
        """See `Storage.place`."""
        return f"{self.root}/{name}" if name else self.root


def open_storage(root: "str | Path") -> Storage:
    """The storage of a path or URL; nothing is asked of it yet.

    Raises:
        DataError: fsspec knows no such URLs, or the package for them is not installed.
    """
    return RemoteStorage(str(root)) if is_remote(str(root)) else LocalStorage(str(root))
