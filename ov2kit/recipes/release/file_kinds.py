"""What a file is that should have been a checkpoint, from its first bytes and its table of contents."""

import codecs
import re
import zipfile
from pathlib import Path

from ov2kit.errors import CheckpointError

_ZIP = b"PK\x03\x04"
_CONTENT = "/data.pkl"  # in every file of torch.save


def check_saved(file: Path) -> None:
    """A file must be one that `torch.save` wrote, and whole, as far as that shows without reading it.

    Raises:
        CheckpointError: it is something else; the message says what, and what to do.
    """
    found = _other_kind(file)
    if found is not None:
        what, todo = found
        raise CheckpointError(f"{file}: expected a checkpoint as 'ov2kit fit' writes it, got {what}; {todo}")


def _other_kind(file: Path) -> tuple[str, str] | None:
    """(what it is, what to do) of a file that torch.save did not write."""
    another = "name a .ckpt file that 'ov2kit fit' or 'ov2kit convert' wrote"
    with file.open("rb") as opened:
        head = opened.read(512)
    if head.startswith(_ZIP):
        try:
            with zipfile.ZipFile(file) as archive:
                saved = any(name.endswith(_CONTENT) for name in archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError):
            return "the beginning of one that was cut short", "copy it again, or use an earlier one"
        return None if saved else ("a zip archive of something else", another)
    if not head:
        return "an empty file", another
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= file.stat().st_size:
        return "a file of safetensors", "name the model directory that it lies in"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "a pickle, which is not opened because that could run code", another
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # it may end in the middle of a letter
        is_text = re.sub(r"[\r\n\t]", "", text).isprintable()
    except UnicodeDecodeError:
        is_text = False
    return ("a text file" if is_text else "something else"), another
