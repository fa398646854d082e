"""Folders of referring segmentation as the public sets lay them out.

| set | expressions | masks |
|---|---|---|
| Ref-YouTube-VOS, Ref-DAVIS17 | meta_expressions/SPLIT/meta_expressions.json | SPLIT/Annotations/VIDEO/FRAME.png, the pixel is the id |
| Ref-DAVIS17 as released | davis_text_annotations/Davis17_annot1.txt | DAVIS/Annotations/480p/VIDEO/FRAME.png |
| MeViS, ReVOS | SPLIT/meta_expressions.json, meta_expressions_SPLIT_.json | mask_dict.json, run lengths by annotation id |
| ReasonVOS | meta_expressions.json with a "source" per video | Annotations/SOURCE_VIDEO_ID/FRAME.png |
| lmms-eval's rvos | annotations.json | masks/VIDEO/ID.json, run lengths |

Pictures are JPEGImages/VIDEO/FRAME.jpg, or a video file in videos/.
"""  # noqa: E501 # a table

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ov2kit.errors import DataError
from ov2kit.recipes.metrics.point_tracks import PlacesByFrame
from ov2kit.recipes.spatial.frames import FolderFrames, Frames, VideoFrames
from ov2kit.recipes.spatial.rle import Rle, decode_mask, encode_mask
from ov2kit.recipes.spatial.segmenter import MaskTracks

_VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
_KINDS = {0: "referring", 1: "reasoning", 2: "nothing"}  # type_id of ReVOS
_DAVIS_LINE = re.compile(r'^(\S+)\s+(\d+)\s+"(.*)"\s*$')


@dataclass(frozen=True)
class ReferringItem:
    """One expression about one video.

    Args:
        id: unique in its folder.
        video: name of the video.
        expression: what is to be tracked.
        source: the video file, or the pictures in order.
        fps: of the pictures that have masks.
        kind: "referring", or as the set says.
        read_masks: reads the truth; objects are numbered from 0.
        places: true points by frame, where the set brings its own.
    """

    id: str
    video: str
    expression: str
    source: Path | Sequence[Path]
    fps: float
    kind: str
    read_masks: Callable[[], MaskTracks]
    places: PlacesByFrame | None = None

    def frames(self) -> Frames:
        """The pictures that have masks."""
        if isinstance(self.source, Path):
            return VideoFrames(self.source, fps=self.fps)
        return FolderFrames(self.source, fps=self.fps)


def read_referring(folder: str | Path, split: str | None = None, *, fps: float = 6.0) -> list[ReferringItem]:
    """The expressions of a folder, in the order of its file.

    Args:
        folder: of any layout above.
        split: "train", "valid", "valid_u", ...; the only one there is when omitted.
        fps: of pictures in folders, and at which video files are read.

    Raises:
        DataError: no layout that is known, several splits and none chosen, or expressions in another form.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of referring segmentation")
    if (packed := root / f"{split or 'annotations'}.json").is_file():
        return list(_packed(root, packed))
    patterns = ("meta_expressions.json", "meta_expressions_*_.json", "*/meta_expressions.json")
    metas = sorted({path for pattern in (*patterns, "meta_expressions/*/*.json") for path in root.glob(pattern)})
    texts = sorted(root.glob("davis_text_annotations/*.txt"))
    chosen = [path for path in metas if split is None or split in (path.parent.name, _split_in_name(path))]
    if len(chosen) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in chosen)
        raise DataError(f"{root}: several files of expressions ({names}); choose one with split")
    if chosen:
        return list(_meta(root, chosen[0], fps))
    if texts and split is None:
        return list(_davis_text(root, texts[0], fps))
    raise DataError(
        f"{root}: expected annotations.json, meta_expressions.json or davis_text_annotations/"
        + (f" for split {split!r}" if split else "")
    )


def _split_in_name(path: Path) -> str:
    """ "valid" of meta_expressions_valid_.json."""
    return path.stem.removeprefix("meta_expressions").strip("_")


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error


def _packed(root: Path, path: Path) -> Iterator[ReferringItem]:
    documents = _load(path)
    if not isinstance(documents, list):
        raise DataError(f"{path}: expected a list of expressions, got {type(documents).__name__}")
    for document in documents:
        try:
            video, expression, fps = str(document["video"]), str(document["expression"]), float(document["fps"] or 1)
            ids, size = [str(i) for i in document["mask_ids"]], (int(document["height"]), int(document["width"]))
            count = int(document["n_frames"])
            places = _trajectories(document.get("frame_trajectories"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: an expression without {error}: {str(document)[:60]}") from error
        reader = _Packed(root / "masks" / video, tuple(ids), count, size)
        source = _video_file(root / "videos", video)
        yield ReferringItem(str(document.get("id", video)), video, expression, source, fps, "referring", reader, places)


def _trajectories(given: Any) -> PlacesByFrame | None:
    """True points by frame; the later of two entries of one frame counts, as in the public evaluation."""
    if given is None:
        return None
    entries = json.loads(given) if isinstance(given, str) else given
    found: dict[int, dict[int, tuple[float, float]]] = {}
    for entry in entries:  # what is no list of objects is an error that the caller reports
        points = entry["points"]
        pairs = points.items() if isinstance(points, Mapping) else ((p["id"], p) for p in points)
        found[int(entry["frame"])] = {int(i): (float(p["point"][0]), float(p["point"][1])) for i, p in pairs}
    return found


@dataclass(frozen=True)
class _Packed:
    folder: Path
    ids: tuple[str, ...]
    frames: int
    size: tuple[int, int]

    def __call__(self) -> MaskTracks:
        found = MaskTracks(self.frames, self.size)
        for number, name in enumerate(self.ids):
            stored = _load(self.folder / f"{name}.json")
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


def _meta(root: Path, path: Path, fps: float) -> Iterator[ReferringItem]:
    videos = _load(path).get("videos")
    if not isinstance(videos, Mapping):
        raise DataError(f"{path}: expected an object with 'videos'")
    near = [path.parent, root, *([root / path.parent.name] if path.parent != root else [])]
    dictionary = next((at / "mask_dict.json" for at in near if (at / "mask_dict.json").is_file()), None)
    masks_by_id = _LazyJson(dictionary) if dictionary else None
    annotations = _existing(near, "Annotations")
    for video, facts in videos.items():
        frames = [str(name) for name in facts["frames"]]
        source = _pictures(near, video, frames)
        expressions = facts["expressions"]
        pairs = expressions.items() if isinstance(expressions, Mapping) else enumerate(expressions)
        for key, entry in pairs:
            text = entry.get("exp", entry.get("exp_text"))
            if not isinstance(text, str):
                raise DataError(f"{path}: expression {key} of {video} has neither 'exp' nor 'exp_text'")
            objects = entry.get("obj_id", [])
            objects = [str(i) for i in (objects if isinstance(objects, list) else [objects])]
            reader: Callable[[], MaskTracks]
            if masks_by_id is not None and "anno_id" in entry:
                reader = _ByAnnotation(masks_by_id, tuple(str(i) for i in entry["anno_id"]), len(frames), _size(source))
            elif annotations is not None and "source" in facts:
                folders = [annotations / f"{facts['source']}_{video}_{i}" for i in objects]
                reader = _Binary(tuple(folders), tuple(frames))
            elif annotations is not None:
                reader = _Palette(annotations / video, tuple(int(i) for i in objects), tuple(frames))
            else:
                raise DataError(f"{path}: no masks for it: neither mask_dict.json nor Annotations/ is there")
            kind = _KINDS.get(entry.get("type_id", 0), "referring")
            yield ReferringItem(f"{video}_{key}", video, text, source, fps, kind, reader)


def _davis_text(root: Path, path: Path, fps: float) -> Iterator[ReferringItem]:
    base = root / "DAVIS" if (root / "DAVIS").is_dir() else root
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        match = _DAVIS_LINE.match(line)
        if match is None:
            raise DataError(f'{path}:{number}: expected VIDEO ID "EXPRESSION", got {line[:40]!r}')
        video, object_id, text = match[1], int(match[2]), match[3]
        pictures = sorted((base / "JPEGImages" / "480p" / video).glob("*.jpg"))
        if not pictures:
            continue  # the file holds all videos, a download often only the validation set
        frames = tuple(picture.stem for picture in pictures)
        seen[video] = seen.get(video, -1) + 1
        reader = _Palette(base / "Annotations" / "480p" / video, (object_id,), frames)
        yield ReferringItem(f"{video}_{seen[video]}", video, text, pictures, fps, "referring", reader)


class _LazyJson:
    """A large JSON object, read when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content: Mapping[str, Any] | None = None

    def __getitem__(self, key: str) -> Any:
        if self._content is None:
            self._content = _load(self.path)
        if key not in self._content:
            raise DataError(f"{self.path}: no masks of annotation {key!r}")
        return self._content[key]


@dataclass(frozen=True)
class _ByAnnotation:
    masks: _LazyJson
    ids: tuple[str, ...]
    frames: int
    size: Callable[[], tuple[int, int]]

    def __call__(self) -> MaskTracks:
        found = MaskTracks(self.frames, self.size())
        for number, key in enumerate(self.ids):
            found.objects[number] = _track(self.masks[key], self.frames, found.size, self.masks.path)
        return found


@dataclass(frozen=True)
class _Palette:
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
class _Binary:
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
    """(H, W) object ids of a palette or grey PNG: indices are kept, colors are not looked at.

    Raises:
        DataError: no such file, or a picture in colors.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1", "I;16", "I"):
                raise DataError(f"{path}: expected ids as a palette or grey PNG, got mode {image.mode}")
            return np.asarray(image).astype(np.int64)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: this mask cannot be read ({error})") from error


def _existing(near: Sequence[Path], name: str) -> Path | None:
    return next((at / name for at in near if (at / name).is_dir()), None)


def _pictures(near: Sequence[Path], video: str, frames: Sequence[str]) -> Path | list[Path]:
    """Pictures of a video, or its file."""
    for at in near:
        folder = at / "JPEGImages" / video
        if folder.is_dir():
            suffix = next((s for s in (".jpg", ".jpeg", ".png") if (folder / f"{frames[0]}{s}").is_file()), ".jpg")
            return [folder / f"{name}{suffix}" for name in frames]
    for at in near:
        if (at / "videos").is_dir():
            return _video_file(at / "videos", video)
    raise DataError(f"{near[0]}: neither JPEGImages/{video} nor videos/ is there")


def _video_file(folder: Path, name: str) -> Path:
    for suffix in _VIDEO_SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise DataError(f"{folder / name}: no video of this name ({', '.join(_VIDEO_SUFFIXES)})")


def _size(source: Path | list[Path]) -> Callable[[], tuple[int, int]]:
    def size() -> tuple[int, int]:
        frames: Frames = VideoFrames(source) if isinstance(source, Path) else FolderFrames(source[:1])
        return frames.size

    return size
