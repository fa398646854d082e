"""Which videos: folders, globs, lists and columns of paths, in one order whatever the order of the arguments."""

import glob
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ov2kit.errors import DataError, shorten
from ov2kit.files import check_file, kind_of
from ov2kit.recipes.datasets.stores import is_of_one_process, is_remote, modules_of, open_input, store_errors, store_of

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


def fingerprint(item: Item) -> str:
    """What changes when a file is written, asked without reading it; empty where nothing can be said."""
    mark = _fingerprint(item.url)
    return f"{mark}-{item.offset}-{item.size}" if mark and item.size >= 0 else mark


def _fingerprint(url: str) -> str:
    try:
        if not is_remote(url):
            found = os.stat(url)
            return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"
        with store_errors(url):
            system, path = store_of(url)
            facts = system.info(path)
    except OSError:
        return ""
    said = [facts.get(name) for name in ("size", "ETag", "etag", "LastModified", "mtime", "updated", "created")]
    return "-".join(str(each) for each in said if each is not None)


def find_items(inputs: Iterable[str], column: str = "video", media_root: str | None = None) -> list[Item]:
    """The videos of all inputs, each once, in order of their names.

    Args:
        inputs: each a video, a folder (searched to the bottom for known suffixes), a tar file of videos, a glob of
            these, or a .txt, .json, .jsonl or .parquet file that lists videos; paths or URLs that fsspec knows.
        column: of .json, .jsonl and .parquet files: holds a path, or a list of them.
        media_root: what relative paths in lists are relative to; the folder of each list by default.

    Raises:
        DataError: an input is missing or malformed, holds no video, two different videos have one name, there is no
            such `media_root`, or the package for a kind of URL is not installed.
    """
    if media_root is not None and not is_remote(media_root) and kind_of(media_root) != "folder":
        raise DataError(f"{media_root}: expected the folder that paths in lists are relative to; check media_root")
    found: dict[str, Item] = {}
    for given in inputs:
        items = [each for item in _items(given, column, media_root) for each in _members(item)]
        if not items:
            raise DataError(f"{given}: no video found; {_where_looked(given, column)}")
        for item in items:
            known = found.setdefault(item.name, item)
            if known != item:
                raise DataError(
                    f"{item.url}: is called {item.name!r}, as {known.url} is; give the folder above both instead"
                )
    for url in {item.url.partition("://")[0]: item.url for item in found.values() if is_remote(item.url)}.values():
        modules_of(url)
    return sorted(found.values())


def _where_looked(given: str, column: str) -> str:
    suffix = PurePosixPath(given).suffix.lower()
    if suffix not in _LISTS:
        return f"a folder is searched for {', '.join(sorted(SUFFIXES))}"
    return "the list is empty" if suffix == ".txt" else f"no record has a path in {column!r}, which --column names"


def _items(given: str, column: str, media_root: str | None) -> Iterator[Item]:
    if not is_remote(given) and os.path.isdir(given):
        for folder, _, names in os.walk(given):
            for name in names:
                if Path(name).suffix.lower() in SUFFIXES:
                    path = os.path.join(folder, name)
                    yield Item(Path(os.path.relpath(path, given)).as_posix(), path)
    elif PurePosixPath(given).suffix.lower() in _LISTS:
        above = given.rpartition("/")[0] if is_remote(given) else str(Path(given).parent)
        root = above if media_root is None else media_root
        for path in _listed(given, column):
            yield Item(path, _joined(root, path))
    elif is_remote(given):
        yield from _remote(given)
    elif not os.path.exists(given) and glob.has_magic(given):
        for path in glob.glob(given, recursive=True):
            if os.path.isfile(path):
                yield Item(path, path)
    else:
        yield Item(given, str(check_file(given, "a video, a folder, a glob or a list")))


def _joined(root: str, path: str) -> str:
    if is_remote(path) or (is_remote(root) and path.startswith("/")):
        return path
    return f"{root.rstrip('/')}/{path}" if is_remote(root) else str(Path(root) / path)


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


def _remote(given: str) -> Iterator[Item]:
    modules_of(given)
    try:
        with store_errors(given):
            system, path = store_of(given)
            if glob.has_magic(path):
                paths = system.glob(path)
            elif system.isdir(path):
                paths = [each for each in system.find(path) if Path(each).suffix.lower() in SUFFIXES]
            else:
                paths = [path] if system.exists(path) else []
    except OSError as error:
        raise DataError(f"{given}: cannot be listed ({error})") from error
    for each in paths:
        url = system.unstrip_protocol(each)
        yield Item(url, url)


def _listed(given: str, column: str) -> Iterator[str]:
    """Paths in a list file, in any order."""
    for number, record in enumerate(_records(given, _content(given), column), start=1):
        value: Any = record.get(column) if isinstance(record, dict) else record
        for entry in value if isinstance(value, list) else [value]:
            each = entry.get("path") if isinstance(entry, dict) else entry  # {"path": ..., "subtitles": ...}
            if each is None:
                continue  # a conversation without a video
            if not isinstance(each, str) or not each:
                raise DataError(f"{given}: record {number}: expected a path in {column!r}, got {shorten(each)}")
            yield each


def _content(given: str) -> bytes:
    modules_of(given)
    if not is_remote(given):
        check_file(given, "a list of videos")
    try:
        with store_errors(given), open_input(given) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{given}: cannot be read ({error})") from error


def _records(given: str, content: bytes, column: str) -> Iterable[Any]:
    suffix = PurePosixPath(given).suffix.lower()
    if suffix == ".parquet":
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        try:
            return list(read_table(io.BytesIO(content), columns=[column])[column].to_pylist())
        except (ArrowException, OSError, KeyError) as error:
            raise DataError(f"{given}: no column {column!r} can be read ({error})") from error
    try:
        text = content.decode()
        if suffix == ".txt":
            return [line.strip() for line in text.split("\n") if line.strip()]
        if suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        records = json.loads(text)
    except ValueError as error:
        raise DataError(f"{given}: not readable ({error})") from error
    if not isinstance(records, list):
        raise DataError(f"{given}: expected a list of records, got {shorten(records)}")
    return records


def staged(items: Iterable[Item], folder: Path | str) -> Iterator[Item]:
    """Items that other processes can read: those in the memory of this one are copied into the folder, once each."""
    places: dict[str, str] = {}
    for item in items:
        if not is_of_one_process(item.url):
            yield item
            continue
        if item.url not in places:
            place = Path(folder, f"{len(places):08d}{PurePosixPath(item.url).suffix}")
            with open_input(item.url) as source, open(place, "wb") as copy:
                shutil.copyfileobj(source, copy)
            places[item.url] = str(place)
        yield replace(item, url=places[item.url])
