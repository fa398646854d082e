"""Which videos: folders, globs, lists and columns of paths, in one order whatever the order of the arguments."""

import glob
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ov2kit.errors import DataError, shorten
from ov2kit.files import check_file

#: what counts as a video in a folder; a file that is named, listed or matched by a glob counts whatever its name
SUFFIXES = {
    ".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv",
}  # fmt: skip
_LISTS = {".txt", ".json", ".jsonl", ".parquet"}


@dataclass(frozen=True, order=True)
class Item:
    """One video.

    Args:
        name: what the manifest calls it: the path below the folder that was given, else the path as written.
        url: where it is read: a path, or an address that fsspec knows.
        offset: of the video in that file, which is then a tar file.
        size: of the video in bytes; negative where it is the whole file.
    """

    name: str
    url: str
    offset: int = 0
    size: int = -1


def is_remote(url: str) -> bool:
    """Whether fsspec opens it."""
    return "://" in url


def fingerprint(item: Item) -> str:
    """What changes when a file is written, asked without reading it; empty where nothing can be said."""
    mark = _fingerprint(item.url)
    return f"{mark}-{item.offset}-{item.size}" if mark and item.size >= 0 else mark


def _fingerprint(url: str) -> str:
    try:
        if not is_remote(url):
            found = os.stat(url)
            return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url, use_listings_cache=False)
        facts = system.info(path)
    except (OSError, ValueError, ImportError):
        return ""
    said = [facts.get(name) for name in ("size", "ETag", "etag", "LastModified", "mtime", "updated", "created")]
    return "-".join(str(each) for each in said if each is not None)


def find_items(inputs: Iterable[str], column: str = "video", media_root: str | None = None) -> list[Item]:
    """The videos of all inputs, each once, in order of their names.

    Args:
        inputs: each a video, a folder (searched to the bottom for known suffixes), a tar file of videos, a glob of
            these, or a .txt, .json, .jsonl or .parquet file that lists videos. All but lists may be fsspec URLs.
        column: of .json, .jsonl and .parquet files: holds a path, or a list of them.
        media_root: what relative paths in lists are relative to; the folder of each list by default.

    Raises:
        DataError: an input is missing or malformed, holds no video, or two different videos have one name.
    """
    found: dict[str, Item] = {}
    for given in inputs:
        items = [each for item in _items(given, column, media_root) for each in _members(item)]
        if not items:
            raise DataError(f"{given}: no video found; a folder is searched for {', '.join(sorted(SUFFIXES))}")
        for item in items:
            known = found.setdefault(item.name, item)
            if known != item:
                raise DataError(
                    f"{item.url}: is called {item.name!r}, as {known.url} is; give the folder above both instead"
                )
    return sorted(found.values())


def _items(given: str, column: str, media_root: str | None) -> Iterator[Item]:
    if is_remote(given):
        yield from _remote(given)
    elif os.path.isdir(given):
        for folder, _, names in os.walk(given):
            for name in names:
                if Path(name).suffix.lower() in SUFFIXES:
                    path = os.path.join(folder, name)
                    yield Item(Path(os.path.relpath(path, given)).as_posix(), path)
    elif Path(given).suffix.lower() in _LISTS:
        root = Path(given).parent if media_root is None else Path(media_root)
        for path in _listed(check_file(given, "a list of videos"), column):
            yield Item(path, path if is_remote(path) else str(root / path))
    elif not os.path.exists(given) and glob.has_magic(given):
        for path in glob.glob(given, recursive=True):
            if os.path.isfile(path):
                yield Item(path, path)
    else:
        yield Item(given, str(check_file(given, "a video, a folder, a glob or a list")))


def _members(item: Item) -> Iterator[Item]:
    """The videos in a tar file, or the video itself."""
    if not item.url.lower().endswith(".tar"):
        yield item
        return
    try:
        with open_input(item.url) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg() and not member.sparse and Path(member.name).suffix.lower() in SUFFIXES:
                    yield Item(f"{item.name}/{member.name}", item.url, member.offset_data, member.size)
    except (tarfile.TarError, OSError, ValueError, ImportError) as error:
        raise DataError(
            f"{item.url}: not a tar file that can be read ({error}); compressed ones must be unpacked"
        ) from error


def open_input(url: str) -> BinaryIO:
    """A path or URL, opened to read parts of it: what is not asked for is not fetched."""
    if not is_remote(url):
        return open(url, "rb")
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url, use_listings_cache=False)
    found: BinaryIO = system.open(path, "rb", cache_type="none")
    return found


def _remote(given: str) -> Iterator[Item]:
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(given)
        if glob.has_magic(path):
            paths = system.glob(path)
        elif system.isdir(path):
            paths = [each for each in system.find(path) if Path(each).suffix.lower() in SUFFIXES]
        else:
            paths = [path] if system.exists(path) else []
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"{given}: cannot be listed ({error})") from error
    for each in paths:
        url = system.unstrip_protocol(each)
        yield Item(url, url)


def _listed(path: Path, column: str) -> Iterator[str]:
    """Paths in a list file, in any order."""
    for number, record in enumerate(_records(path, column), start=1):
        value: Any = record.get(column) if isinstance(record, dict) else record
        for entry in value if isinstance(value, list) else [value]:
            each = entry.get("path") if isinstance(entry, dict) else entry  # {"path": ..., "subtitles": ...}
            if each is None:
                continue  # a conversation without a video
            if not isinstance(each, str) or not each:
                raise DataError(f"{path}: record {number}: expected a path in {column!r}, got {shorten(each)}")
            yield each


def _records(path: Path, column: str) -> Iterable[Any]:
    if path.suffix == ".parquet":
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        try:
            return list(read_table(path, columns=[column])[column].to_pylist())
        except (ArrowException, OSError, KeyError) as error:
            raise DataError(f"{path}: no column {column!r} can be read ({error})") from error
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".txt":
            return [line.strip() for line in text.split("\n") if line.strip()]
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        records = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not readable ({error})") from error
    if not isinstance(records, list):
        raise DataError(f"{path}: expected a list of records, got {shorten(records)}")
    return records
