"""True masks of the public sets: each reader is called when the masks are needed, and gives objects numbered from 0."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ov2kit.errors import DataError
from ov2kit.recipes.spatial.rle import Rle, decode_mask, encode_mask
from ov2kit.recipes.spatial.segmenter import MaskTracks


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error


@dataclass(frozen=True)
class PackedMasks:
    """One file of run lengths per object."""

    folder: Path
    ids: tuple[str, ...]
    frames: int
    size: tuple[int, int]

    def __call__(self) -> MaskTracks:
        found = MaskTracks(self.frames, self.size)
        for number, name in enumerate(self.ids):
            stored = load_json(self.folder / f"{name}.json")
            found.objects[number] = _track(next(iter(stored.values()), []), self.frames, self.size, self.folder)
        return found


def _track(masks: Sequence[Any], frames: int, size: tuple[int, int], where: Path) -> list[Rle | None]:
    """Run lengths per frame, checked once; empty masks become None."""
    track: list[Rle | None] = [None] * frames
    for number, given in enumerate(masks[:frames]):
        if given:
            mask = decode_mask(given)
            if mask.shape != size:
                raise DataError(f"{where}: mask of frame {number} is {mask.shape}, expected {size}")
            track[number] = encode_mask(mask) if mask.any() else None
    return track


class LazyJson:
    """A large JSON object, read when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: Mapping[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        if self._content is None:
            self._content = load_json(self.path)
        if key not in self._content:
            raise DataError(f"{self.path}: no masks of annotation {key!r}")
        return self._content[key]


@dataclass(frozen=True)
class AnnotationMasks:
    """Run lengths by annotation id, all in one file; of the size of the pictures where there is no mask."""

    masks: LazyJson
    ids: tuple[str, ...]
    frames: int
    size: Callable[[], tuple[int, int]]

    def __call__(self) -> MaskTracks:
        given = [self.masks[key] for key in self.ids]
        first = next((mask for track in given for mask in track if mask), None)
        height, width = self.size() if first is None else decode_mask(first).shape
        tracks = (_track(track, self.frames, (height, width), self.masks.path) for track in given)
        return MaskTracks(self.frames, (height, width), dict(enumerate(tracks)))


@dataclass(frozen=True)
class PaletteMasks:
    """A PNG per frame, whose pixels are object ids."""

    folder: Path
    ids: tuple[int, ...]
    frames: tuple[str, ...]

    def __call__(self) -> MaskTracks:
        found: MaskTracks | None = None
        for number, name in enumerate(self.frames):
            labels = read_labels(self.folder / f"{name}.png")
            found = found or MaskTracks(len(self.frames), (labels.shape[0], labels.shape[1]))
            found.put(number, {k: labels == i for k, i in enumerate(self.ids)})
        assert found is not None
        return found


@dataclass(frozen=True)
class BinaryMasks:
    """A folder of black and white PNGs per object."""

    folders: tuple[Path, ...]
    frames: tuple[str, ...]

    def __call__(self) -> MaskTracks:
        found: MaskTracks | None = None
        for number, name in enumerate(self.frames):
            labels = [read_labels(folder / f"{name}.png") for folder in self.folders]
            found = found or MaskTracks(len(self.frames), (labels[0].shape[0], labels[0].shape[1]))
            found.put(number, {k: own > 0 for k, own in enumerate(labels)})
        assert found is not None
        return found


def read_labels(path: Path) -> np.ndarray:
    """(H, W) object ids of a palette or gray PNG: indices are kept, colors are not looked at.

    Raises:
        DataError: no such file, or a picture in colors.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1", "I;16", "I"):
                raise DataError(f"{path}: expected ids as a palette or gray PNG, got mode {image.mode}")
            return np.asarray(image).astype(np.int64)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: this mask cannot be read ({error})") from error
