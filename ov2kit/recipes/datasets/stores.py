"""What lies behind a URL: stores that fsspec knows, whose packages, listings and errors each have their own ways."""

import contextlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from ov2kit.errors import DataError


def is_remote(url: str) -> bool:
    """Whether fsspec opens it."""
    return "://" in url


def is_of_one_process(url: str) -> bool:
    """Whether what lies there is in the memory of a process, and no other one finds it."""
    return url.startswith("memory://")


def modules_of(url: str) -> list[str]:
    """The modules that open a URL, imported; none for a path of this machine.

    Raises:
        DataError: fsspec knows no such URLs, or the package for them is not installed.
    """
    if not is_remote(url):
        return []
    from fsspec import get_filesystem_class

    try:  # "zip://a.mp4::s3://bucket/videos.zip" has two
        return [get_filesystem_class(part.partition("://")[0]).__module__ for part in url.split("::")]
    except (ImportError, ValueError) as error:
        raise DataError(f"{url}: cannot be opened here ({error})") from error


def store_of(url: str) -> tuple[Any, str]:
    """The filesystem of a URL, and the path in it. Listings are asked for each time: other machines write there."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url, use_listings_cache=False)
    return system, path


def open_input(url: str) -> BinaryIO:
    """A path or URL, opened to read parts of it: what is not asked for is not fetched."""
    if not is_remote(url):
        return open(url, "rb")
    system, path = store_of(url)
    found: BinaryIO = system.open(path, "rb", cache_type="none")
    return found


@contextlib.contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Whatever a store raises, as what a file would."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{url}: cannot be read ({words_of(error)})") from error


def words_of(error: BaseException) -> str:
    """What an error of a store says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
