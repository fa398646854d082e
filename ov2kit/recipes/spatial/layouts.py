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

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ov2kit.errors import DataError
from ov2kit.files import check_folder
from ov2kit.recipes.metrics.point_tracks import PointsByFrame
from ov2kit.recipes.spatial.frames import FolderFrames, Frames, VideoFrames
from ov2kit.recipes.spatial.segmenter import MaskTracks
from ov2kit.recipes.spatial.set_masks import (
    AnnotationMasks,
    BinaryMasks,
    LazyJson,
    PackedMasks,
    PaletteMasks,
    load_json,
)

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
    places: PointsByFrame | None = None

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
    check_folder(root, "a folder of referring segmentation")
    items = _read(root, split, fps)
    twice = next((name for name, count in Counter(item.id for item in items).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{root}: two expressions have the id {twice!r}; results are kept by id, make them differ")
    return items


def digest_of(items: Sequence[ReferringItem]) -> str:
    """Changes with any id, video or expression, and with their order."""
    plain = json.dumps([[item.id, item.video, item.expression] for item in items])
    return hashlib.sha256(plain.encode()).hexdigest()


def _read(root: Path, split: str | None, fps: float) -> list[ReferringItem]:
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
        try:
            return list(_meta(root, chosen[0], fps))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{chosen[0]}: not in the form of a known set ({type(error).__name__}: {error})") from error
    if texts and split is None:
        return list(_davis_text(root, texts[0], fps))
    raise DataError(
        f"{root}: expected annotations.json, meta_expressions.json or davis_text_annotations/"
        + (f" for split {split!r}" if split else "")
    )


def _split_in_name(path: Path) -> str:
    """ "valid" of meta_expressions_valid_.json."""
    return path.stem.removeprefix("meta_expressions").strip("_")


def _packed(root: Path, path: Path) -> Iterator[ReferringItem]:
    documents = load_json(path)
    if not isinstance(documents, list):
        raise DataError(f"{path}: expected a list of expressions, got {type(documents).__name__}")
    for number, document in enumerate(documents):
        try:
            video, expression, fps = str(document["video"]), str(document["expression"]), float(document["fps"] or 1)
            ids, size = [str(i) for i in document["mask_ids"]], (int(document["height"]), int(document["width"]))
            count = int(document["n_frames"])
            places = _trajectories(document.get("frame_trajectories"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: an expression without {error}: {str(document)[:60]}") from error
        reader = PackedMasks(root / "masks" / video, tuple(ids), count, size)
        source = _video_file(root / "videos", video)
        yield ReferringItem(
            str(document.get("id", f"{video}_{number}")), video, expression, source, fps, "referring", reader, places
        )


def _trajectories(given: Any) -> PointsByFrame | None:
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


def _meta(root: Path, path: Path, fps: float) -> Iterator[ReferringItem]:
    videos = load_json(path).get("videos")
    if not isinstance(videos, Mapping):
        raise DataError(f"{path}: expected an object with 'videos'")
    near = [path.parent, root, *([root / path.parent.name] if path.parent != root else [])]
    dictionary = next((at / "mask_dict.json" for at in near if (at / "mask_dict.json").is_file()), None)
    masks_by_id = LazyJson(dictionary) if dictionary else None
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
                reader = AnnotationMasks(
                    masks_by_id, tuple(str(i) for i in entry["anno_id"]), len(frames), _size(source)
                )
            elif annotations is not None and "source" in facts:
                folders = [annotations / f"{facts['source']}_{video}_{i}" for i in objects]
                reader = BinaryMasks(tuple(folders), tuple(frames))
            elif annotations is not None:
                reader = PaletteMasks(annotations / video, tuple(int(i) for i in objects), tuple(frames))
            else:
                raise DataError(f"{path}: no masks for it: neither mask_dict.json nor Annotations/ is there")
            kind = _KINDS.get(entry.get("type_id", 0), "referring")
            yield ReferringItem(f"{video}_{key}", video, text, source, fps, kind, reader)


def _davis_text(root: Path, path: Path, fps: float) -> Iterator[ReferringItem]:
    base = root / "DAVIS" if (root / "DAVIS").is_dir() else root
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
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
        reader = PaletteMasks(base / "Annotations" / "480p" / video, (object_id,), frames)
        yield ReferringItem(f"{video}_{seen[video]}", video, text, pictures, fps, "referring", reader)


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
