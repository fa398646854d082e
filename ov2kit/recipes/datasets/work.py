"""One video -> one piece: what a worker does, and how its failures are called."""

import contextlib
import hashlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import av
from torch import nn

from ov2kit.canvases import Canvases
from ov2kit.codec.provenance.provenance import Provenance, SourceRecord
from ov2kit.errors import DamagedVideoWarning, OutputError, Ov2kitError
from ov2kit.recipes.datasets.inputs import Item
from ov2kit.recipes.datasets.limits import LimitError, Limits, check_limits
from ov2kit.recipes.datasets.piece import Images, Piece, pack_canvases, without_history, write_piece
from ov2kit.recipes.datasets.storage import Storage
from ov2kit.recipes.datasets.stores import is_remote, open_input, store_errors

#: in what a result is known by: another format is another result
FORMAT = "ov2kit.dataset/1"
_SAMPLE_DIGITS = 32
_CHUNK = 2**23


@dataclass(frozen=True)
class Recipe:
    """How every video of a dataset is treated.

    Args:
        tokenizer: video path -> `Canvases`, with `options()`; a `CodecTokenizer`.
        images: format of the canvases.
        limits: bounds per video.
    """

    tokenizer: nn.Module
    images: Images = "png"
    limits: Limits = field(default_factory=Limits)

    def facts(self) -> dict[str, Any]:
        """Everything that decides what comes out of the bytes of a video."""
        options: dict[str, Any] = self.tokenizer.options()  # type: ignore[operator] # nn.Module hides methods
        facts = {"format": FORMAT, "images": self.images, "limits": self.limits.of_content(), "tokenizer": options}
        plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
        return plain

    def key(self, sha256: str) -> str:
        """What the result of a video with this content is known by."""
        text = json.dumps(self.facts(), sort_keys=True)
        return hashlib.sha256(f"{sha256}\n{text}".encode()).hexdigest()


def sample_name(sha256: str) -> str:
    """Name of a video's sample in its shard: by content, so that it is the same wherever the file lies."""
    return sha256[:_SAMPLE_DIGITS]


@contextlib.contextmanager
def fetched(item: Item, most: int) -> Iterator[tuple[Path, str, int]]:
    """The video as a file of this machine, the SHA-256 of its bytes, and their number.

    Args:
        item: to read; a remote one is copied to a temporary file, which is gone afterwards.
        most: bytes; more are not read.

    Raises:
        LimitError: it is larger.
        OSError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with contextlib.ExitStack() as stack:
        copy: BinaryIO | None = None
        if is_remote(item.url):
            stack.enter_context(store_errors(item.url))
        source = stack.enter_context(open_input(item.url))
        expected = item.size if item.size >= 0 else source.seek(0, os.SEEK_END)
        source.seek(item.offset)
        if is_remote(item.url) or item.size >= 0:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            place = Path(folder) / f"video{Path(item.name).suffix}"
            copy = stack.enter_context(open(place, "wb"))
        else:
            place = Path(item.url)
        if expected > most:
            raise LimitError("bytes", f"more bytes than limits.bytes={most}")
        while size < expected and (chunk := source.read(min(_CHUNK, expected - size))):
            digest.update(chunk)
            size += len(chunk)
            if copy is not None:
                copy.write(chunk)
        if size != expected:
            raise OSError(f"{item.url}: ended after {size} of {expected} bytes")
        if copy is not None:
            copy.flush()
        yield place, digest.hexdigest(), size


def make_piece(path: Path, sha256: str, size: int, recipe: Recipe) -> Piece:
    """Tokenize a video; what is wrong with it becomes a piece too, which says so."""
    begin = time.perf_counter()
    sample = sample_name(sha256)
    try:
        check_limits(path, recipe.limits)
        checked = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedVideoWarning)  # counted in the facts
            canvases: Canvases = recipe.tokenizer(str(path))
        seconds = {"check": checked - begin, **(Provenance.of(canvases).seconds or {})}
        members = pack_canvases(without_history(canvases, sample), sample, recipe.images)
    except OutputError:
        raise  # of this machine: no fault of the video's
    except Exception as error:  # whatever one file does to a library, it is that file's failure
        if failure_kind(error) == "memory":
            raise MemoryError(str(error)) from error  # of the worker: another one tries again
        return failed_piece(sha256, failure_kind(error), _reason(error, path), size)
    facts = {"status": "ok", "kind": "", "reason": "", "sha256": sha256, "bytes": size, **_facts(canvases, members)}
    return Piece(facts, {stage: round(value, 6) for stage, value in seconds.items()}, members)


def failed_piece(sha256: str, kind: str, why: str, size: int = 0) -> Piece:
    """What is kept of a video that gave nothing."""
    return Piece({"status": "failed", "kind": kind, "reason": why, "sha256": sha256, "bytes": size}, {}, b"")


def failure_kind(error: BaseException) -> str:
    """One word: a limit's name, "memory", "unreadable", "video", "options" or the class of an unexpected error."""
    if isinstance(error, LimitError):
        return error.kind
    text = str(error).lower()
    if isinstance(error, MemoryError | av.error.MemoryError) or "allocate memory" in text or "bad_alloc" in text:
        return "memory"
    if isinstance(error, Ov2kitError):
        return type(error).__name__.removesuffix("Error").lower()
    return "unreadable" if isinstance(error, OSError) else type(error).__name__


def _reason(error: BaseException, path: Path) -> str:
    """The message on one line, without the place of the file: the manifest says the name."""
    text = " ".join(str(error).split()).replace(f"{os.path.abspath(path)}: ", "").replace(f"{path}: ", "")
    return text or type(error).__name__


def _facts(canvases: Canvases, members: bytes) -> dict[str, Any]:
    made = Provenance.of(canvases)
    source = made.source or SourceRecord()
    height, width = source.display_size or (None, None)
    lost = {} if made.lost is None else asdict(made.lost)
    return {
        "canvases": len(canvases),
        "tokens": canvases.num_tokens,
        "groups": len(canvases.segments().lengths),
        "canvas_height": canvases.images.shape[2],
        "canvas_width": canvases.images.shape[3],
        "signal": canvases.signal,
        "codec": made.codec,
        "container": source.container,
        "height": height,
        "width": width,
        "frames": source.frames,
        "duration": source.seconds,
        "fps": source.fps,
        **{f"lost_{name}": count for name, count in lost.items()},
        "output_sha256": hashlib.sha256(members).hexdigest(),
    }


def do_item(item: Item, recipe: Recipe, pieces: Storage, wanted: Callable[[str], bool]) -> str:
    """Fetch a video and, where that is wanted, write its piece.

    Args:
        item: the video.
        recipe: how it is treated.
        pieces: where pieces go, each named by its key.
        wanted: asked with the SHA-256 whether there is anything to do.

    Returns:
        The SHA-256 of its bytes.

    Raises:
        OSError: it cannot be read, or the piece cannot be written.
        LimitError: it is larger than it may be.
        MemoryError: there was not enough.
    """
    with fetched(item, recipe.limits.bytes) as (path, sha256, size):
        if wanted(sha256):
            write_piece(pieces, recipe.key(sha256), make_piece(path, sha256, size, recipe))
    return sha256
