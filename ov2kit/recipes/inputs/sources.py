"""Where a picture or a video lies, whatever form a table or a client names it in."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.request import url2pathname

from ov2kit.errors import DataError, shorten

_ELSEWHERE = ("http", "https", "ftp", "s3", "gs", "hf")
_FILE = "file:"


def local_source(given: Any) -> Any:
    """A path, or bytes, of what may be a `file://` address or a struct of `datasets`.

    Args:
        given: `{"bytes": .., "path": ..}` as `datasets` writes a column of pictures or videos that is not
            decoded: the bytes where there are some, else the path. A text that begins with "file:" is
            read as an address (percent signs decoded, unless a file lies there as it is written).
            Anything else comes back as it is.

    Raises:
        DataError: an address on a network, or a struct with neither.
    """
    if isinstance(given, Mapping) and given and set(given) <= {"bytes", "path"}:
        found = given.get("bytes")
        if found is None:
            found = given.get("path")
        if found is None:
            raise DataError("expected bytes or a path, both are missing")
        return local_source(found)
    if not isinstance(given, str):
        return given
    if given[:8].split("://")[0] in _ELSEWHERE:
        raise DataError(f"{shorten(given)}: addresses are not fetched; download the file and give its path")
    if not given.startswith(_FILE):
        return given
    written = given.removeprefix(_FILE).removeprefix("//").removeprefix("localhost/")
    if given.startswith("file://localhost/"):
        written = f"/{written}"
    return written if os.path.exists(written) else url2pathname(written)
