"""Every usable record of the files of a data set, by number, with what planning needs of each."""

import hashlib
import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from ov2kit.errors import DataError, check_flag, check_type
from ov2kit.recipes.data.conversations import KINDS, Conversation, read_conversation
from ov2kit.recipes.data.faults import BadRecord, Fault
from ov2kit.recipes.data.records import MAX_RECORD_BYTES, RecordFile
from ov2kit.recipes.datasets.stored import StoredVideos
from ov2kit.recipes.inputs.nulls import without_nulls

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class ConversationIndex:
    """Conversations of one or more files, read by number.

    Everything is read and checked once; 40 bytes per record stay in memory. `sources` says in which file each stands.

    Args:
        paths: JSON or JSONL files.
        media_root: what relative media paths are relative to; the folder of each file by default.
        needs_answer: leave out conversations without an assistant turn.
        max_record_bytes: a longer record is bad, and is not even read.
        stored: canvases of videos, by their paths as records have them.

    Raises:
        DataError: a file cannot be read, or no record in any of them can be used.
    """

    def __init__(
        self,
        paths: Paths,
        media_root: str | os.PathLike[str] | None = None,
        *,
        needs_answer: bool = True,
        max_record_bytes: int = MAX_RECORD_BYTES,
        stored: StoredVideos | None = None,
    ) -> None:
        check_type("paths", paths, (str, os.PathLike, list, tuple), "a path or a list of paths")
        check_type("media_root", media_root, (str, os.PathLike), "a path", optional=True)
        check_flag("needs_answer", needs_answer)
        check_type("stored", stored, StoredVideos, "StoredVideos(...)", optional=True)
        given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if not given:
            raise DataError("expected at least one file of conversations, got none")
        self.needs_answer, self.stored = needs_answer, stored
        self.files = [RecordFile(path, max_record_bytes) for path in given]
        self.roots = [Path(media_root) if media_root is not None else file.path.parent for file in self.files]
        self.faults: list[Fault] = []
        rows: list[tuple[int, int, int, int, int, int, int]] = []
        for source, file in enumerate(self.files):
            for number in range(len(file)):
                try:
                    found = self._conversation(source, number)
                except BadRecord as error:
                    self.faults.append(Fault(file.place(number), _name(file, number), str(error)))
                    continue
                except (ValueError, TypeError, LookupError, RecursionError, OverflowError, OSError) as error:
                    # whatever a record holds that nobody thought of ends it alone
                    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
                    self.faults.append(Fault(file.place(number), _name(file, number), reason))
                    continue
                facts = (KINDS.index(found.kind), found.characters, found.images, found.videos)
                rows.append((source, number, *facts, _key(found)))
        table = np.array(rows, dtype=np.int64).reshape(-1, 7)
        self.sources, self._number = table[:, 0].astype(np.int32), table[:, 1].astype(np.int64)
        self.kinds, self.characters = table[:, 2].astype(np.uint8), table[:, 3].astype(np.int32)
        self.images, self.videos = table[:, 4].astype(np.int32), table[:, 5].astype(np.int32)
        self.keys = np.ascontiguousarray(table[:, 6])
        self._first = [0, *accumulate(len(file) for file in self.files)]
        self.total = self._first[-1]
        if not len(self):
            first = f", for example {self.faults[0]}" if self.faults else ": there is none"
            raise DataError(f"{', '.join(map(str, given))}: no record can be used{first}")

    def __len__(self) -> int:
        return len(self.sources)

    def place(self, number: int) -> str:
        """ "file:line" of a record."""
        return self.files[int(self.sources[number])].place(int(self._number[number]))

    def position(self, number: int) -> int:
        """Where a record stands among all records of the files, those that are not usable included; from 0."""
        return self._first[int(self.sources[number])] + int(self._number[number])

    def read(self, number: int) -> Conversation:
        """A conversation.

        Raises:
            BadRecord: the file or a medium has changed since.
        """
        return self._conversation(int(self.sources[number]), int(self._number[number]))

    def fingerprint(self) -> str:
        """Changes when a record is added, removed, or changes place, length or media."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(file.starts.tobytes())
        for part in (self.sources, self._number, self.kinds, self.characters, self.keys):
            digest.update(part.tobytes())
        return digest.hexdigest()[:16]

    def split(self, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers to train on and numbers held out; records of the same first medium stay together.

        Args:
            share: to hold out, of all records; met to the size of the last such bundle.
            seed: which ones.

        Raises:
            DataError: nothing would be left on one side.
        """
        mixed = _scramble(self.keys, seed)
        order = np.argsort(mixed, kind="stable")
        wanted = max(1, round(share * len(self)))
        threshold = mixed[order[min(wanted, len(self)) - 1]]
        held = mixed <= threshold
        if held.all():
            raise DataError(
                f"val_share={share:g} of {len(self)} records leaves nothing to train on: {np.unique(mixed).size} "
                "different videos or pictures; give val_path instead"
            )
        return np.flatnonzero(~held), np.flatnonzero(held)

    def _conversation(self, source: int, number: int) -> Conversation:
        file = self.files[source]
        name = f"{file.path.name}:{file.line(number)}"
        return read_conversation(
            file.read(number), self.roots[source], name, needs_answer=self.needs_answer, stored=self.stored
        )


def _name(file: RecordFile, number: int) -> str:
    """The id of a record that is bad, as far as it can be read."""
    try:
        record = without_nulls(file.read(number))
        return str(record["id"])
    except (BadRecord, LookupError, TypeError, RecursionError):
        return f"{file.path.name}:{file.line(number)}"


def _key(found: Conversation) -> int:
    """A stable number of the first medium, or of the name."""
    media = found.media()
    text = str(media[0]) if media else found.name
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True
    )


def _scramble(keys: np.ndarray, seed: int) -> np.ndarray:
    """uint64 that differ for every seed, equal where keys are equal (splitmix64)."""
    x = keys.view(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
