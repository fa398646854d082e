"""Files and folders written whole or not at all, and paths looked at before they are opened.

What is written appears under its name when it is complete, with the mode that the umask gives; after any
failure nothing of it is left, and what was there before is as it was. Every failure of the place is an
`OutputError` that names it.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ov2kit.errors import DataError, OutputError, Ov2kitError, shorten

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OF_THE_PLACE = _FULL | {errno.EROFS}
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
_CHECKSUM_BYTES = 16
_LONGEST_NAME = 200  # bytes; systems take 255, and suffixes are added
# Windows reserves these whatever follows the first dot.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@contextlib.contextmanager
def write_file(path: str | os.PathLike[str], *, sync: bool = False) -> Iterator[BinaryIO]:
    """A binary file to fill; it appears under `path` when the block ends well.

    A link is followed, a file that is replaced keeps its mode, and the folder is made if need be.

    Args:
        path: where it goes.
        sync: be sure that it is on the disk before it takes its name: for what took long to make.

    Raises:
        OutputError: it cannot be written there.
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))
    scratch = target.with_name(f".{secrets.token_hex(6)}.partial{target.suffix}")
    with _clear_errors(target, scratch), _folder_for(target):
        kind = kind_of(target)
        if kind not in (None, "file"):
            raise OutputError(f"{path}: expected the name of a file to write, got a {kind}; choose another")
        try:
            with open(scratch, "xb") as file:
                mode = stat.S_IMODE((target if kind else scratch).stat().st_mode)
                yield file
            os.chmod(scratch, mode)  # by name, as below: the block may have put another file there
            if sync:
                _to_disk(scratch)
            os.replace(scratch, target)
            if sync:
                _to_disk(target.parent)
        finally:
            scratch.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str, *, sync: bool = False) -> None:
    """Write a text file (UTF-8; half characters become "?") with `write_file`."""
    with write_file(path, sync=sync) as file:
        file.write(text.encode("utf-8", "replace"))


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: dict[str, str], *, sync: bool = False
) -> None:
    """Write a safetensors file with `write_file`."""
    from safetensors.torch import save_file

    with write_file(path, sync=sync) as file:
        save_file(dict(tensors), file.name, metadata=metadata)


def checksum(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Hexadecimal digest (BLAKE2b) of names, dtypes, shapes and values of tensors, and of a text.

    Kept in a file beside them: what has changed since is not read as if it had not.

    Args:
        tensors: on the host.
        text: such as the facts stored beside them.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_CHECKSUM_BYTES)
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextlib.contextmanager
def write_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill; it appears under `path` when the block ends well.

    Args:
        path: where it goes. An empty folder may be there.
        replace: a folder with something in it may be there too; it goes away after the new one has its place.

    Raises:
        OutputError: it cannot be written there.
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))
    token = secrets.token_hex(6)
    scratch, old = target.with_name(f".{token}.partial"), target.with_name(f".{token}.old")
    with _clear_errors(target, scratch), _folder_for(target):
        scratch.mkdir()
        try:
            yield scratch
            is_there = replace and target.is_dir() and any(target.iterdir())
            if is_there:
                target.rename(old)
            try:
                scratch.rename(target)
            except BaseException as error:
                if is_there:
                    old.rename(target)
                if not isinstance(error, OSError):
                    raise
                raise OutputError(f"{target}: somebody else wrote there meanwhile ({error.strerror})") from error
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def fill_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, whose files go into the folder `path`, beside what is there, when the block ends well.

    Raises:
        OutputError: they cannot be written there.
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))
    scratch = target / f".{secrets.token_hex(6)}.partial"
    with _clear_errors(target, scratch), _folder_for(scratch):
        try:
            scratch.mkdir()
            yield scratch
            for file in scratch.iterdir():
                file.replace(target / file.name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def append_to(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to add whole lines to. Where that fails, what was there before is all that is there.

    Raises:
        OutputError: it cannot be written there.
    """
    target = Path(path).expanduser()
    with _clear_errors(target, target), _folder_for(target):
        if (kind := kind_of(target)) not in (None, "file"):
            raise OutputError(f"{path}: expected the name of a file to add to, got a {kind}; choose another")
        with open(target, "ab") as file:
            size = os.fstat(file.fileno()).st_size
            try:
                yield file
                file.flush()
            except BaseException:
                with contextlib.suppress(OSError):
                    file.close()
                os.truncate(target, size)
                raise


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """ "file", "folder", "pipe", "socket" or "device"; None where nothing is. Links are followed, nothing is opened."""
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "device")
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return None


def format_name(kind: str, version: int) -> str:
    """What a file says of its format: "ov2kit.canvases.2"."""
    return f"ov2kit.{kind}.{version}"


def check_format(
    said: object, kind: str, newest: int, place: str | os.PathLike[str], error: type[Ov2kitError] = DataError
) -> int:
    """The version of what is read. What is read for how long stands in docs/formats.md.

    Args:
        said: what was written as `format_name`; None, before versions were written, is version 1.
        kind: of the file.
        newest: the version that is written today, and the newest that can be read.
        place: of the file, for the message.
        error: class of the error.

    Raises:
        Ov2kitError: of class `error`: another kind of file, or a newer version.
    """
    if said is None:
        return 1
    found = re.fullmatch(rf"ov2kit\.{kind}\.([1-9][0-9]{{0,8}})", said) if isinstance(said, str) else None
    ours = format_name(kind, newest)
    if found is None:
        raise error(f"{place}: expected format {ours!r}, got {shorten(said)}")
    if int(found[1]) > newest:
        raise error(
            f"{place}: format {said!r} is newer than {ours!r}, the newest that this ov2kit reads; update ov2kit"
        )
    return int(found[1])


def check_file(
    path: str | os.PathLike[str], what: str = "a file", error: type[Ov2kitError] = DataError, most: int | None = None
) -> Path:
    """The path of a regular file, looked at before it is opened: opening a pipe would wait for ever.

    Whatever `/dev/stdin` and its like stand for counts: a file redirected there is one, a pipe is not.

    Args:
        path: to look at.
        what: what was expected, for the message.
        error: class of the error.
        most: bytes that the file may have.

    Raises:
        Ov2kitError: of class `error`: nothing is there, or something else than a file, or it is too large.
    """
    place = str(path) if 0 < len(str(path)) <= 300 else shorten(str(path))
    kind = kind_of(path)
    if kind is None:
        raise error(f"{place}: no such file; check the path")
    if kind == "folder":
        raise error(f"{place}: expected {what}, got a folder")
    if kind != "file":
        raise error(f"{place}: expected {what}, got a {kind}; write what it gives to a file first")
    if most is not None and (size := os.stat(path).st_size) > most:
        raise error(f"{place}: expected {what} of at most {most} bytes, got {size}")
    return Path(path)


def check_folder(path: str | os.PathLike[str], what: str, error: type[Ov2kitError] = DataError) -> Path:
    """The path of a folder. What is expected, `what`, and the class of the error are as in `check_file`.

    Raises:
        Ov2kitError: of class `error`: nothing is there, or something else than a folder.
    """
    kind = kind_of(path)
    if kind != "folder":
        place = str(path) if 0 < len(str(path)) <= 300 else shorten(str(path))
        raise error(
            f"{place}: expected {what}, " + (f"got a {kind}" if kind else "found nothing there; check the path")
        )
    return Path(path)


def refuse_overwriting_inputs(out: str | os.PathLike[str], inputs: Iterable[Any]) -> None:
    """Raise where writing the file or replacing the folder `out` would destroy what is read.

    Args:
        out: what is written; links are followed and other names of the same file are known.
        inputs: paths that are read. What is no path is passed over.

    Raises:
        OutputError: `out` is one of them, or a folder that one of them lies in.
    """
    if not os.path.exists(out):
        return
    for given in inputs:
        if not isinstance(given, str | os.PathLike) or not os.path.exists(given):
            continue
        real = Path(os.path.realpath(given))
        if os.path.samefile(out, given) or (os.path.isdir(out) and Path(os.path.realpath(out)) in real.parents):
            raise OutputError(f"{out}: is read by this command ({given}) and would be overwritten; choose another name")


def is_safe_name(text: object) -> bool:
    """Whether a string that came from outside can name one file or folder, on any system, and nothing elsewhere."""
    return (
        isinstance(text, str)
        and text.strip(". ") != ""
        and not re.search(r"[/\\\x00-\x1f\x7f]", text)
        and not _RESERVED.fullmatch(text)
        and len(text.encode("utf-8", "surrogateescape")) <= _LONGEST_NAME
    )


def safe_name(text: str) -> str:
    """`text` if it is a safe name, else the nearest that is one: "." gives "_", "a/b" gives "a_b"."""
    name = re.sub(r"[/\\\x00-\x1f\x7f]", "_", text)
    name = name.encode("utf-8", "surrogateescape")[:_LONGEST_NAME].decode("utf-8", "ignore")
    if not name.strip(". "):
        return "_" * max(1, len(name))
    return f"_{name}" if _RESERVED.fullmatch(name) else name


@contextlib.contextmanager
def _folder_for(target: Path) -> Iterator[None]:
    """Make the folder that `target` lies in; those that were made go away again when the block fails."""
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # somebody else may have put something there
                folder.rmdir()
        raise


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _clear_errors(target: Path, scratch: Path) -> Iterator[None]:
    """Turn what a place does to its writer into one `OutputError`; what has other causes passes."""
    try:
        yield
    except OutputError as error:
        if str(scratch) not in str(error) or scratch == target:
            raise
        raise OutputError(str(error).replace(str(scratch), str(target))) from error
    except Exception as error:
        number = _number(error, target, scratch)
        if number is None:
            raise
        hint = "free some space or choose another place" if number in _FULL else "choose another place"
        in_the_way = number in (errno.EEXIST, errno.ENOTDIR)
        reason = "what should be a folder is a file" if in_the_way else os.strerror(number)
        raise OutputError(f"{target}: cannot be written ({reason}); {hint}") from error


def _number(error: BaseException, target: Path, scratch: Path) -> int | None:
    """The system's number of what went wrong with the place, however the writer has wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if said := re.search(r"\(os error (\d+)\)", str(cause)):  # safetensors has it in words alone
            number = int(said[1])
        elif isinstance(cause, OSError) and number is None and "requested and" in str(cause):  # numpy has not even it
            number = errno.ENOSPC
        name = getattr(cause, "filename", None)
        is_own = name is not None and (
            str(name).startswith(str(scratch)) or Path(str(name)) in (target, *target.parents)
        )
        if isinstance(number, int) and (number in _OF_THE_PLACE or (is_own and isinstance(cause, OSError))):
            return number
        cause = cause.__cause__ or cause.__context__
    return None
