"""Shards on disk, each with what is known of it: put together from pieces, taken apart again, read.

A shard is a WebDataset tar file; `state/` holds a JSON file for each with its rows. The rows come after the shard
and the pieces go after the rows, so that whatever ends a run in between, one of the two is whole.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ov2kit.canvases import Canvases
from ov2kit.errors import DataError
from ov2kit.files import write_file, write_text
from ov2kit.recipes.datasets.piece import END_OF_TAR, Piece, read_piece, unpack_canvases, write_piece
from ov2kit.recipes.datasets.work import Recipe, sample_name


@dataclass(frozen=True)
class ShardState:
    """What is known of a finished shard.

    Args:
        number: of the shard.
        items: (name, fingerprint) of each of its videos.
        rows: of the manifest, one per video.
        seconds: stage -> wall seconds, per video.
    """

    number: int
    items: list[tuple[str, str]]
    rows: list[dict[str, Any]]
    seconds: list[dict[str, float]]


class ShardFolder:
    """The shards of a dataset.

    Args:
        folder: of the dataset.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pieces = folder / "state" / "pieces"

    def shard(self, number: int) -> Path:
        """A shard; it is absent where none of its videos gave anything."""
        return self.folder / "shards" / f"shard-{number:06d}.tar"

    def _state(self, number: int) -> Path:
        return self.folder / "state" / f"{number:06d}.json"

    def numbers(self) -> list[int]:
        """Of the shards that have a state."""
        return sorted(int(path.stem) for path in (self.folder / "state").glob("*.json") if path.stem.isdigit())

    def load(self, number: int) -> ShardState | None:
        """What is known of a shard; None where it is not finished or not whole."""
        try:
            found = json.loads(self._state(number).read_text(encoding="utf-8"))
            state = ShardState(number, [(n, f) for n, f in found["items"]], found["rows"], found["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        end = max((row["offset"] + row["size"] for row in state.rows if row["status"] == "ok"), default=0)
        path = self.shard(number)
        is_whole = not end or (path.is_file() and path.stat().st_size == end + len(END_OF_TAR))
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
        used: list[Path] = []
        with write_file(self.shard(number), sync=True) as file:
            for (name, _), (sha256, kind, reason) in zip(items, outcomes, strict=True):
                row: dict[str, Any] = {"name": name, "sha256": sha256}
                taken: dict[str, float] = {}
                if kind or not sha256:
                    row |= {"status": "failed", "kind": kind, "reason": reason}
                elif sha256 in seen:
                    row |= {"status": "duplicate", "duplicate_of": seen[sha256]}
                else:
                    seen[sha256] = name
                    path = self.pieces / recipe.key(sha256)
                    if (piece := read_piece(path)) is None:
                        raise DataError(f"{path}: a finished piece has gone or is damaged; run the command again")
                    used.append(path)
                    row |= piece.facts
                    taken = piece.seconds
                    if piece.members:
                        row |= {"shard": self.shard(number).name, "sample": sample_name(sha256)}
                        row |= {"offset": file.tell(), "size": len(piece.members)}
                        file.write(piece.members)
                rows.append(row)
                seconds.append(taken)
            is_empty = file.tell() == 0
            file.write(END_OF_TAR)
        if is_empty:
            self.shard(number).unlink()
        state = ShardState(number, list(items), rows, seconds)
        write_text(self._state(number), json.dumps({"items": state.items, "rows": rows, "seconds": seconds}), sync=True)
        for path in used:
            path.unlink(missing_ok=True)
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
            for row, seconds in zip(state.rows, state.seconds, strict=True):
                members = self.read_bytes(row) if row["status"] == "ok" else b""
                is_kept = row["status"] == "ok" or (row["status"] == "failed" and failures and is_known_by_content(row))
                if is_kept:
                    own = {"name", "shard", "sample", "offset", "size"}
                    facts = {name: value for name, value in row.items() if name not in own}
                    write_piece(self.pieces / recipe.key(row["sha256"]), Piece(facts, seconds, members))
        self._state(number).unlink(missing_ok=True)
        self.shard(number).unlink(missing_ok=True)

    def read_bytes(self, row: dict[str, Any]) -> bytes:
        """The tar members of a sample."""
        with open(self.folder / "shards" / row["shard"], "rb") as file:
            file.seek(row["offset"])
            return file.read(row["size"])

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
