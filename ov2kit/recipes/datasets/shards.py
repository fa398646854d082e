"""Shards on disk, each with what is known of it: put together from pieces, taken apart again, read.

A shard is a WebDataset tar file; `state/` holds a JSON file for each with its rows. The rows come after the shard
and the pieces go after the rows, so that whatever ends a run in between, one of the two is whole.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from ov2kit.canvases import Canvases
from ov2kit.errors import DataError
from ov2kit.recipes.datasets.piece import END_OF_TAR, Piece, read_piece, unpack_canvases, write_piece
from ov2kit.recipes.datasets.storage import Storage, open_storage
from ov2kit.recipes.datasets.stores import is_of_one_process
from ov2kit.recipes.datasets.work import Recipe, sample_name


@dataclass(frozen=True)
class ShardState:
    """What is known of a finished shard.

    Args:
        number: of the shard.
        items: (name, fingerprint) of each of its videos.
        rows: of the manifest, one per video.
        seconds: stage -> wall seconds, per video.
        finished: when each video was, in Unix time.
    """

    number: int
    items: list[tuple[str, str]]
    rows: list[dict[str, Any]]
    seconds: list[dict[str, float]]
    finished: list[float]


_READS = 2


class ShardFolder:
    """The shards of a dataset.

    Args:
        folder: of the dataset, a path or a URL that fsspec knows.
    """

    def __init__(self, folder: Path | str) -> None:
        self.storage: Storage = open_storage(folder)
        place = self.storage.place("state/pieces")
        if is_of_one_process(place):  # where its workers would not find them
            name = hashlib.sha256(place.encode()).hexdigest()[:16]
            place = str(Path(tempfile.gettempdir(), f"ov2kit-pieces-{os.getpid()}-{name}"))
        self.pieces: Storage = open_storage(place)

    def shard(self, number: int) -> str:
        """Name of a shard in the storage; it is absent where none of its videos gave anything."""
        return f"shards/shard-{number:06d}.tar"

    def _state(self, number: int) -> str:
        return f"state/{number:06d}.json"

    def numbers(self) -> list[int]:
        """Of the shards that have a state."""
        stems = (name.removesuffix(".json") for name in self.storage.names("state") if name.endswith(".json"))
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def load(self, number: int) -> ShardState | None:
        """What is known of a shard; None where it is not finished or not whole."""
        try:
            found = json.loads(self.storage.read(self._state(number)))
            items = [(name, mark) for name, mark in found["items"]]
            state = ShardState(number, items, found["rows"], found["seconds"], found["finished"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        end = max((row["offset"] + row["size"] for row in state.rows if row["status"] == "ok"), default=0)
        is_whole = not end or self.storage.size(self.shard(number)) == end + len(END_OF_TAR)
        return state if is_whole else None

    def put_together(
        self,
        number: int,
        items: Sequence[tuple[str, str]],
        outcomes: Sequence[tuple[str, str, str]],
        seen: dict[str, str],
        recipe: Recipe,
    ) -> ShardState:
        """Make a shard and its state from pieces; then the pieces go.

        Args:
            number: of the shard.
            items: (name, fingerprint) of its videos.
            outcomes: (SHA-256, kind, reason) of each; a kind stands for a failure that left no piece.
            seen: SHA-256 -> name of the video that had this content first; those of this shard are added.
            recipe: how they were treated.

        Raises:
            OutputError: the shard cannot be written.
            DataError: a piece has gone.
        """
        rows: list[dict[str, Any]] = []
        seconds: list[dict[str, float]] = []
        finished: list[float] = []
        used: list[str] = []
        with self.storage.write(self.shard(number)) as file:
            for (name, _), (sha256, kind, reason) in zip(items, outcomes, strict=True):
                row: dict[str, Any] = {"name": name, "sha256": sha256}
                taken, when = dict[str, float](), round(time.time(), 3)
                if kind or not sha256:
                    row |= {"status": "failed", "kind": kind, "reason": reason}
                elif sha256 in seen:
                    row |= {"status": "duplicate", "duplicate_of": seen[sha256]}
                else:
                    seen[sha256] = name
                    key = recipe.key(sha256)
                    if (piece := read_piece(self.pieces, key)) is None:
                        place = self.pieces.place(key)
                        raise DataError(f"{place}: a finished piece has gone or is damaged; run the command again")
                    used.append(key)
                    row |= piece.facts
                    taken, when = piece.seconds, piece.finished
                    if piece.members:
                        row |= {"shard": PurePath(self.shard(number)).name, "sample": sample_name(sha256)}
                        row |= {"offset": file.tell(), "size": len(piece.members)}
                        file.write(piece.members)
                rows.append(row)
                seconds.append(taken)
                finished.append(when)
            is_empty = file.tell() == 0
            file.write(END_OF_TAR)
        if is_empty:
            self.storage.remove(self.shard(number))
        state = ShardState(number, list(items), rows, seconds, finished)
        with self.storage.write(self._state(number)) as file:
            known = {"items": state.items, "rows": rows, "seconds": seconds, "finished": finished}
            file.write(json.dumps(known).encode())
        for key in used:
            self.pieces.remove(key)
        return state

    def take_apart(self, number: int, recipe: Recipe, *, failures: bool = True) -> None:
        """Turn a shard back into pieces, whose videos are then not done again.

        Args:
            number: of the shard.
            recipe: how its videos were treated.
            failures: keep the failed ones too.
        """
        state = self.load(number)
        if state is not None:
            for row, seconds, finished in zip(state.rows, state.seconds, state.finished, strict=True):
                is_kept, members = row["status"] == "failed" and failures and is_known_by_content(row), b""
                if row["status"] == "ok":
                    with contextlib.suppress(DataError):  # what is damaged is done again
                        is_kept, members = True, self.read_bytes(row)
                if is_kept:
                    own = {"name", "shard", "sample", "offset", "size"}
                    facts = {name: value for name, value in row.items() if name not in own}
                    write_piece(self.pieces, recipe.key(row["sha256"]), Piece(facts, seconds, members, finished))
        self.storage.remove(self._state(number))
        self.storage.remove(self.shard(number))

    def read_bytes(self, row: dict[str, Any]) -> bytes:
        """The tar members of a sample, read once more where they are not what was written: a store may cut short.

        Raises:
            DataError: they cannot be read, or are damaged.
        """
        name, error = f"shards/{row['shard']}", None
        for _ in range(_READS):
            try:
                members = self.storage.read(name, row["offset"], row["size"])
            except OSError as each:
                error = each
                continue
            if hashlib.sha256(members).hexdigest() == row["output_sha256"]:
                return members
        why = "damaged" if error is None else f"not to be read ({error})"
        raise DataError(f"{self.storage.place(name)}: the sample of {row['name']} is {why}") from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """Of all finished shards, in order."""
        for number in self.numbers():
            if (state := self.load(number)) is not None:
                yield from state.rows

    def canvases(self, row: dict[str, Any]) -> Canvases:
        """The canvases of a row of the manifest.

        Raises:
            DataError: it has none, or they are damaged.
        """
        if row["status"] != "ok":
            raise DataError(f"{row['name']}: has no canvases ({row['status']}: {row.get('reason') or row.get('kind')})")
        return unpack_canvases(self.read_bytes(row))


def is_known_by_content(row: dict[str, Any]) -> bool:
    """Whether a row says what the content of its video gives, and so holds until that changes."""
    return "bytes" in row and bool(row["sha256"])
