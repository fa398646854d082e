"""Asset directories beside shards, for programs that read no tar files."""

from ov2kit.recipes.datasets.piece import files_of
from ov2kit.recipes.datasets.shards import ShardFolder

FOLDER = "assets"
#: the file that says that the others are there: written last
_LAST = {"_DONE", "canvases.safetensors"}


def write_directories(shards: ShardFolder) -> int:
    """Write every sample as the directory assets/<sample>; those that are there stay, those of no sample go.

    Args:
        shards: all finished.

    Returns:
        How many were written.

    Raises:
        DataError: a sample is damaged.
        OutputError: one cannot be written.
    """
    storage, written, wanted = shards.storage, 0, set[str]()
    there = set(storage.names(FOLDER))
    for row in shards.rows():
        if row["status"] != "ok":
            continue
        wanted.add(row["sample"])
        place = f"{FOLDER}/{row['sample']}"
        if row["sample"] in there and _LAST & set(storage.names(place)):
            continue
        for name, content in sorted(files_of(shards.read_bytes(row)), key=lambda file: file[0] in _LAST):
            with storage.write(f"{place}/{name}") as file:
                file.write(content)
        written += 1
    for name in there - wanted:
        storage.remove(f"{FOLDER}/{name}")
    return written
