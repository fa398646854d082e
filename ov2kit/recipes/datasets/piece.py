"""A finished video on its way into a shard: facts, and the tar members of its sample, in one file.

file = 8 bytes: length of the facts, facts as JSON, members. Members have fixed names, times and owners, so that
equal canvases are equal bytes; shards are members put one behind the other.
"""

import hashlib
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ov2kit.canvases import Canvases
from ov2kit.codec.assets.loading import load_assets
from ov2kit.codec.assets.saving import save_assets
from ov2kit.errors import DataError, check_choice
from ov2kit.files import is_safe_name
from ov2kit.recipes.datasets.storage import Storage

Images = Literal["png", "npy", "jpg", "safetensors"]
IMAGES: tuple[Images, ...] = get_args(Images)
END_OF_TAR = bytes(1024)
_LENGTH = 8


@dataclass(frozen=True)
class Piece:
    """What was made of the bytes of one video.

    Args:
        facts: for the manifest; the same for the same bytes and options.
        seconds: stage -> wall seconds.
        members: of a tar file, without its end; empty for a video that failed.
        finished: when, in Unix time.
    """

    facts: dict[str, Any]
    seconds: dict[str, float]
    members: bytes
    finished: float = field(default_factory=lambda: round(time.time(), 3))


def pack_canvases(canvases: Canvases, sample: str, images: Images) -> bytes:
    """The tar members of a sample: files of `save_assets` or `Canvases.save`, named `<sample>.<file>`.

    Args:
        canvases: of one video, with a provenance that depends on nothing but its bytes and options.
        sample: name of the sample, without a dot.
        images: format.
    """
    check_choice("images", images, IMAGES)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "sample"
        if images == "safetensors":
            canvases.save(place)
        else:
            save_assets(canvases, place, images)
        return b"".join(
            _member(f"{sample}.{path.name.lstrip('_')}", path.read_bytes()) for path in sorted(place.iterdir())
        )


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def files_of(members: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of one sample, as `save_assets` or `Canvases.save` calls them.

    Args:
        members: as `pack_canvases` made them, or a byte range of a shard.

    Raises:
        DataError: they are damaged, or no files of a sample.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(members + END_OF_TAR)) as tar:
            for member in tar:
                name = member.name.partition(".")[2]
                content = tar.extractfile(member)
                if content is None or not is_safe_name(name):
                    raise DataError(f"sample {member.name!r}: not a file of a sample")
                yield "_DONE" if name == "DONE" else name, content.read()
    except tarfile.TarError as error:
        raise DataError(f"a sample is damaged ({error})") from error


def unpack_canvases(members: bytes) -> Canvases:
    """The canvases of one sample.

    Args:
        members: as `pack_canvases` made them, or a byte range of a shard.

    Raises:
        DataError: they are damaged.
        AssetError: so is what they hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, content in files_of(members):
            (place / name).write_bytes(content)
        return Canvases.load(place) if (place / "canvases.safetensors").exists() else load_assets(place)


def without_history(canvases: Canvases, sample: str) -> Canvases:
    """Canvases whose provenance names the video by its content, and holds no times of this machine."""
    kept = {key: value for key, value in canvases.provenance.items() if key != "seconds"}
    return replace(canvases, provenance={**kept, "source": {**kept["source"], "name": sample}})


def write_piece(pieces: Storage, key: str, piece: Piece) -> None:
    """Write it whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    head = json.dumps(
        {"facts": piece.facts, "seconds": piece.seconds, "finished": piece.finished}, sort_keys=True
    ).encode()
    digest = hashlib.sha256(head + piece.members).digest()
    with pieces.write(key) as file:
        file.writelines([len(head).to_bytes(_LENGTH, "big"), digest, head, piece.members])


def read_piece(pieces: Storage, key: str) -> Piece | None:
    """What `write_piece` wrote; None where nothing intact is."""
    try:
        content = pieces.read(key)
    except OSError:
        return None
    length = int.from_bytes(content[:_LENGTH], "big")
    digest, rest = content[_LENGTH : _LENGTH + 32], content[_LENGTH + 32 :]
    if len(content) < _LENGTH + 32 or hashlib.sha256(rest).digest() != digest:
        return None
    head = json.loads(rest[:length])
    return Piece(head["facts"], head["seconds"], rest[length:], head["finished"])


def join(parts: Iterable[bytes]) -> bytes:
    """A whole tar file."""
    return b"".join([*parts, END_OF_TAR])
