"""Files of the public asset layout: names, pictures and arrays, read with suspicion.

Nothing here knows what the numbers mean; `assets` does. Every failure is an `AssetError` that names
the file. Letters: K canvases of H x W pixels.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ov2kit.codec.video.still import open_header
from ov2kit.errors import AssetError, shorten
from ov2kit.files import check_file, is_safe_name, kind_of

Format = Literal["png", "npy", "jpg"]
POSITIONS, FRAME_IDS, META, DONE = "src_patch_position.npy", "frame_ids.npy", "meta.json", "_DONE"
_CANVAS = re.compile(r"canvas_(\d+)\.(png|npy|jpg|jpeg)")
# Also written by the public tools; a folder of nothing but these is theirs or ours to replace.
_KNOWN = re.compile(
    r"canvas_\d+\.(png|npy|jpg|jpeg)|meta\.json|_DONE"
    r"|(src_patch_position|patch_positions?|frame_ids|src_frame_ids|src_timestamps|img_ptr|position)\.npy"
    r"|sampled_masked_(sbs|only)\.mp4"
)


def asset_name(video: str) -> str:
    """Folder name under which evaluation harnesses look for the assets of `video`.

    ``<stem>__<first 8 hex digits of the SHA-1 of the path as given>``. Source: offline lookup of the
    LLaVA-OneVision-2 backend of lmms-eval; the path must be spelled as the harness spells it.
    """
    return f"{Path(video).stem}__{hashlib.sha1(video.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def canvas_names(count: int, format: Format) -> list[str]:
    """canvas_000.png ...; more digits from 1000 on, since readers sort the names as text."""
    digits = max(3, len(str(count - 1)))
    return [f"canvas_{i:0{digits}d}.{format}" for i in range(count)]


def list_canvases(folder: Path, meta: dict[str, Any]) -> list[str]:
    """Names of the canvases: as meta.json lists them, else as found in the folder, by number.

    Raises:
        AssetError: none, more than one format, or a listed name that is not a plain file name.
    """
    listed = meta.get("canvas_files") or meta.get("jpg_files")
    if listed:
        bad = [n for n in listed if not is_safe_name(n)] if isinstance(listed, list) else listed
        if bad:
            raise AssetError(f"{folder / META}: canvas_files must be a list of plain file names, got {bad!r:.100}")
        return list(listed)
    found = sorted((int(m[1]), m[2], m[0]) for path in folder.iterdir() if (m := _CANVAS.fullmatch(path.name)))
    if not found:
        raise AssetError(f"{folder}: no canvas_*.png, .jpg or .npy, and {META} lists no canvas_files")
    if len(kinds := {kind for _, kind, _ in found}) > 1:
        raise AssetError(f"{folder}: canvases in several formats ({', '.join(sorted(kinds))}) and no canvas_files")
    return [name for _, _, name in found]


def strangers(folder: Path) -> list[str]:
    """Names in `folder` that belong to no asset layout."""
    return sorted(path.name for path in folder.iterdir() if not _KNOWN.fullmatch(path.name))


def write_pictures(folder: Path, names: Sequence[str], pictures: NDArray[np.uint8], quality: int) -> None:
    """Write (K, H, W, 3) uint8 RGB under the given names, in the format of their suffix."""
    for name, picture in zip(names, pictures, strict=True):
        path = folder / name
        if path.suffix == ".npy":
            np.save(path, picture, allow_pickle=False)
        elif path.suffix == ".png":
            Image.fromarray(picture).save(path, compress_level=1)  # 1: 2.5 times faster, 4 % larger than 6
        else:
            Image.fromarray(picture).save(path, quality=quality, subsampling=0)


def read_sizes(folder: Path, names: Sequence[str], max_source_pixels: int) -> tuple[int, int]:
    """(height, width) of all pictures, by their headers alone: no pixel takes memory yet.

    Args:
        folder: of the pictures.
        names: of their files.
        max_source_pixels: most pixels of all pictures together.

    Raises:
        AssetError: a picture is missing, unreadable or of another size than the first, or they are too large.
    """
    first: tuple[int, int] | None = None
    for name in names:
        size = _header_size(folder / name)
        first = first or size
        if size != first:
            sizes = [f"{height} x {width}" for height, width in (first, size)]
            raise AssetError(f"{folder / name}: expected every canvas to be {sizes[0]} like {names[0]}, got {sizes[1]}")
        if size[0] * size[1] * len(names) > max_source_pixels:
            raise AssetError(
                f"{folder}: {len(names)} canvases of {size[0]} x {size[1]} pixels are more than "
                f"max_source_pixels={max_source_pixels} together; allow more if they are meant to be so large"
            )
    assert first is not None
    return first


def _header_size(path: Path) -> tuple[int, int]:
    if path.suffix == ".npy":
        array = read_array(path)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
            raise AssetError(f"{path}: a canvas must be (H, W, 3) uint8, got {array.shape} {array.dtype}")
        return array.shape[0], array.shape[1]
    with _opened(path) as picture:
        return picture.height, picture.width


def read_pictures(folder: Path, names: Sequence[str]) -> NDArray[np.uint8]:
    """(K, H, W, 3) uint8 RGB of pictures whose sizes `read_sizes` has seen.

    Raises:
        AssetError: a picture is unreadable.
    """
    pictures: NDArray[np.uint8] | None = None
    for number, name in enumerate(names):
        path = folder / name
        if path.suffix == ".npy":
            picture = read_array(path)
        else:
            with _opened(path) as opened:
                picture = np.asarray(opened.convert("RGB"))
        if pictures is None:
            pictures = np.empty((len(names), *picture.shape), dtype=np.uint8)
        pictures[number] = picture
    assert pictures is not None
    return pictures


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose header is read."""
    _check(path, "canvas")
    try:
        with open(path, "rb") as file:
            yield open_header(file)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "of no known format" if isinstance(error, UnidentifiedImageError) else shorten(str(error))
        raise AssetError(f"{path}: not a readable picture ({reason})") from error


def _check(path: Path, what: str = "file") -> None:
    if kind_of(path) is None:
        raise AssetError(f"{path}: the {what} is missing; the directory is incomplete, make it again")
    check_file(path, "a file", AssetError)


def read_array(path: Path) -> NDArray[Any]:
    """A mapping of an array in a .npy file, of which nothing is read yet; objects (pickles) are refused."""
    _check(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, OverflowError) as error:
        raise AssetError(f"{path}: not a readable .npy array ({error})") from error
    if not isinstance(array, np.ndarray):  # an .npz under this name
        raise AssetError(f"{path}: expected one array, got an archive")
    return array


def read_ids(path: Path, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Whole numbers of the given shape (-1 stands for any length) that fit int32.

    Raises:
        AssetError: unreadable, another shape, not integers, or too large.
    """
    array = read_array(path)
    fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "iu":
        wanted = "(" + ", ".join("N" if n == -1 else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
        raise AssetError(f"{path}: expected {wanted} integers, got {array.shape} {array.dtype}")
    if array.size and (array.max() > np.iinfo(np.int32).max or array.min() < np.iinfo(np.int32).min):
        raise AssetError(f"{path}: numbers do not fit int32")
    return np.array(array, dtype=np.int32)


def read_meta(path: Path) -> dict[str, Any]:
    """The object in meta.json."""
    _check(path)
    try:
        meta = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AssetError(f"{path}: not readable JSON ({error})") from error
    if not isinstance(meta, dict):
        raise AssetError(f"{path}: expected a JSON object, got {type(meta).__name__}")
    return meta
