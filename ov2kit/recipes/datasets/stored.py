"""A finished dataset, read by the names of its videos: in any order, from any number of processes.

A sample is a byte range of its shard, so one is read without its neighbors: an order over all samples, and a place in
the middle of it, need no shard to be read from its start.
"""

import hashlib
import io
import json
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ov2kit.canvases import Canvases
from ov2kit.errors import DataError, needs_extra
from ov2kit.recipes.datasets.shards import ShardFolder

_COLUMNS = ["name", "status", "kind", "reason", "duplicate_of", "shard", "offset", "size", "output_sha256"]


class StoredVideos:
    """Canvases of the videos of a dataset.

    Its manifest stays in memory, about 200 bytes per video, shared by processes that are forked.

    Args:
        folder: of the dataset, a path or a URL that fsspec knows.

    Raises:
        DataError: there is no finished dataset.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, folder: Path | str) -> None:
        self.shards = ShardFolder(folder)
        storage = self.shards.storage
        with needs_extra("to read shards"):
            import pyarrow
            from pyarrow.parquet import read_table
        try:
            facts = json.loads(storage.read("dataset.json"))
            manifest = storage.read("manifest.parquet")
            table = read_table(io.BytesIO(manifest), columns=_COLUMNS).combine_chunks()
            #: of the tokenizer that made the canvases, as its `options()` has them
            self.options: dict[str, Any] = facts["tokenizer"]
        except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
            raise DataError(
                f"{storage.root}: expected a finished dataset ({error}); run 'ov2kit dataset' to its end"
            ) from error
        self._table = table
        self._names = _Names(table["name"])
        self._digest = hashlib.sha256(manifest).hexdigest()

    def __len__(self) -> int:
        return len(self._names)

    def find(self, name: str) -> int | None:
        """Number of a video by its name in the manifest; None where it has none."""
        place = bisect_left(self._names, name)
        return place if place < len(self._names) and self._names[place] == name else None

    def failure(self, number: int) -> str:
        """Why a video has no canvases; empty where it has some."""
        row = self._row(number)
        return "" if row["status"] == "ok" else f"{row['kind']}: {row['reason']}"

    def canvases(self, number: int) -> Canvases:
        """The canvases of a video.

        Raises:
            DataError: it has none, or they are damaged or cannot be read.
        """
        return self.shards.canvases(self._row(number))

    def fingerprint(self) -> str:
        """Changes with the manifest, which has the SHA-256 of every sample."""
        return self._digest[:16]

    def _row(self, number: int) -> dict[str, Any]:
        row: dict[str, Any] = self._table.slice(number, 1).to_pylist()[0]
        if row["status"] != "duplicate":
            return row
        first = self.find(row["duplicate_of"])
        if first is None:
            raise DataError(f"{row['name']}: is a copy of {row['duplicate_of']}, which is not in the manifest")
        return self._row(first)


class _Names(Sequence[str]):
    """Of a manifest, which is in their order: looked up without a second copy of them."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, number: Any) -> Any:
        return self._column[number].as_py()
