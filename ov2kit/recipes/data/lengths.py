"""How many tokens samples have: estimated from records, measured, or known from a file of `name:count`."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ov2kit.errors import DataError
from ov2kit.files import check_file, kind_of, write_file
from ov2kit.recipes.data.conversations import KINDS
from ov2kit.recipes.data.dataset import Wanted
from ov2kit.recipes.data.feed import Feed
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.mixing import VIDEO_KINDS, EpochOrder
from ov2kit.recipes.data.packing import parse_lengths
from ov2kit.recipes.prompt.sample import SAMPLE_KINDS

_CHARACTERS_PER_TOKEN = 4
_CHECKSUM = b"checksum "  # no colon follows: whoever reads name:count passes over the line


def estimated_lengths(index: ConversationIndex, order: EpochOrder, video_tokens: int, image_tokens: int) -> np.ndarray:
    """(n,) tokens of an epoch's samples, without reading a video: good enough to group by.

    Args:
        index: the records.
        order: of the epoch.
        video_tokens: visual tokens of a video at most.
        image_tokens: of a picture at most.
    """
    r = order.records
    total: np.ndarray = index.characters[r].astype(np.int64) // _CHARACTERS_PER_TOKEN
    total += index.videos[r].astype(np.int64) * video_tokens + index.images[r].astype(np.int64) * image_tokens
    return total


class KnownLengths:
    """Exact lengths from a file of `name:count` lines.

    A name is a record's place ("file:line") or its id, alone or with "@codec", "@frames" or "@hybrid" where
    these differ; the longest of these that the file has counts.

    Args:
        path: of the file.

    Raises:
        DataError: it cannot be read, has no such line, or is not what `write_lengths` wrote.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            content = check_file(path, "a file of lengths").read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: lengths cannot be read ({error.strerror})") from error
        if _is_intact(content) is False:
            raise DataError(f"{self.path}: is damaged: its content is not what was written; remove it to measure again")
        self.counts = parse_lengths(content.decode("utf-8", "replace").split("\n"))
        if not self.counts:
            raise DataError(f"{self.path}: expected lines of name:count, found none")

    def __call__(self, index: ConversationIndex, order: EpochOrder) -> np.ndarray:
        """(n,) tokens of an epoch's samples.

        Raises:
            DataError: a record has no length.
        """
        found = np.empty(len(order), dtype=np.int64)
        for i, (record, choice) in enumerate(zip(order.records.tolist(), order.choices.tolist(), strict=True)):
            found[i] = self.one(index, record, choice)
        return found

    def one(self, index: ConversationIndex, record: int, choice: int) -> int:
        """Tokens of one sample.

        Raises:
            DataError: there is no line for it.
        """
        place = index.place(record)
        for name in (f"{place}@{SAMPLE_KINDS[choice]}", place):
            if name in self.counts:
                return self.counts[name]
        identity = index.read(record).name
        for name in (f"{identity}@{SAMPLE_KINDS[choice]}", identity):
            if name in self.counts:
                return self.counts[name]
        raise DataError(
            f"{self.path}: no length of {place} ({identity}) as {SAMPLE_KINDS[choice]}; measure the lengths again, "
            "by removing the file or with another one"
        )


def measured_lengths(index: ConversationIndex, shares: Mapping[str, float], feed: Feed) -> Iterator[tuple[str, int]]:
    """(name, tokens) of every record in every way it may be shown; 0 where it cannot be made.

    Args:
        index: the records.
        shares: see `epoch_order`; what has no share is not measured.
        feed: delivers samples.
    """
    wanted: list[Wanted] = []
    names: list[str] = []
    for record, kind in enumerate(index.kinds.tolist()):
        if KINDS[kind] == "video":
            shown = [name for name in VIDEO_KINDS if shares.get(name)]
        else:
            shown = ["codec" if KINDS[kind] == "assets" else KINDS[kind]]
        for choice in shown:
            wanted.append(Wanted((record,), (SAMPLE_KINDS.index(choice),), (False,)))
            names.append(f"{index.place(record)}@{choice}")
    for name, delivered in zip(names, feed(wanted), strict=True):
        yield name, 0 if delivered.content is None else len(delivered.content)


def write_lengths(path: Path, lengths: Iterable[tuple[str, int]]) -> None:
    """Write `name:count` lines, and a last one with their checksum; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with write_file(path, sync=True) as file:
        digest = hashlib.sha256()
        for name, count in lengths:
            line = f"{name}:{count}\n".encode("utf-8", "surrogatepass")
            digest.update(line)
            file.write(line)
        file.write(_CHECKSUM + digest.hexdigest().encode() + b"\n")


def has_intact_lengths(path: Path) -> bool:
    """Whether `write_lengths` has written a file and it is still as it was."""
    return kind_of(path) == "file" and bool(_is_intact(path.read_bytes()))


def _is_intact(content: bytes) -> bool | None:
    """None where there is no checksum, as in a file that somebody else wrote."""
    lines, mark, digest = content.rpartition(_CHECKSUM)
    return hashlib.sha256(lines).hexdigest().encode() + b"\n" == digest if mark else None
