"""The manifest: one row per video, in a Parquet file that DuckDB, pandas or pyarrow opens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.storage import Storage

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
MANIFEST = pa.schema(
    {
        "name": _TEXT, "status": _TEXT, "kind": _TEXT, "reason": _TEXT, "duplicate_of": _TEXT,
        "shard": _TEXT, "sample": _TEXT, "offset": _WHOLE, "size": _WHOLE,
        "canvases": _WHOLE, "tokens": _WHOLE, "groups": _WHOLE, "canvas_height": _WHOLE, "canvas_width": _WHOLE,
        "signal": _TEXT, "codec": _TEXT, "container": _TEXT, "height": _WHOLE, "width": _WHOLE,
        "frames": _WHOLE, "duration": _REAL, "fps": _REAL,
        "lost_failed_packets": _WHOLE, "lost_corrupt_frames": _WHOLE, "lost_decoded_frames": _WHOLE,
        "bytes": _WHOLE, "sha256": _TEXT, "output_sha256": _TEXT,
    }
)  # fmt: skip
_NAME = "manifest.parquet"
TIMINGS = pa.schema({"name": _TEXT, "stage": _TEXT, "seconds": _REAL})


def write_manifest(shards: ShardFolder) -> str:
    """Write manifest.parquet, the same bytes for the same rows, and timings.parquet beside it.

    Args:
        shards: all finished.

    Returns:
        The path or URL of the manifest.

    Raises:
        OutputError: they cannot be written.
    """
    storage = shards.storage
    with _parquet(storage, "timings.parquet", TIMINGS) as timings, _parquet(storage, _NAME, MANIFEST) as manifest:
        for number in shards.numbers():  # a row group for each: a million rows are never held at once
            if (state := shards.load(number)) is None:
                continue
            manifest.write_table(pa.Table.from_pylist([_row(row) for row in state.rows], MANIFEST))
            taken = [
                {"name": row["name"], "stage": stage, "seconds": value}
                for row, seconds in zip(state.rows, state.seconds, strict=True)
                for stage, value in seconds.items()
            ]
            timings.write_table(pa.Table.from_pylist(taken, TIMINGS))
    return storage.place(_NAME)


@contextmanager
def _parquet(storage: Storage, name: str, schema: Any) -> Iterator[Any]:
    with storage.write(name) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        yield writer


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """With nothing where there is nothing to say."""
    return {name: row[name] for name in MANIFEST.names if row.get(name) not in (None, "")}
