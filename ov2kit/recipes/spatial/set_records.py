"""Training records from a set with masks: tracks of its videos, points and boxes in their pictures."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from ov2kit.errors import DataError, check_choice, check_number
from ov2kit.files import safe_name, write_file, write_text
from ov2kit.recipes.spatial.boxes import Box
from ov2kit.recipes.spatial.evaluate import fitting, video_of
from ov2kit.recipes.spatial.frames import Picture
from ov2kit.recipes.spatial.layouts import ReferringItem
from ov2kit.recipes.spatial.points import Point
from ov2kit.recipes.spatial.records import RecordDialect, box_record, point_record, track_record
from ov2kit.recipes.spatial.regions import inner_point
from ov2kit.recipes.spatial.rle import Mask
from ov2kit.recipes.spatial.scores import true_tracks

PictureTask = Literal["points", "boxes"]


def write_track_records(
    items: Sequence[ReferringItem], path: str | Path, *, every: int = 3, dialect: RecordDialect = "messages"
) -> int:
    """Write one conversation per expression as JSON lines, for `--data.sources.path`; the file appears whole or not.

    Sets of pictures become videos in `videos/` beside the file. Expressions that name nothing in sight are left out.

    Args:
        items: of `read_referring`.
        path: JSONL file to write.
        every: pictures between two points of an answer; 3 are two points a second at 6 pictures a second.
        dialect: of the records.

    Returns:
        How many records were written.

    Raises:
        DataError: pictures and masks that do not fit, or not one expression with something in sight.
    """
    target = Path(path)
    lines = []
    for item in items:
        truth, frames = fitting(item)
        tracks = true_tracks(truth, fps=item.fps, every=every, label=item.expression.replace("<", " "))
        if tracks.points:
            video = os.path.relpath(video_of(item, frames, target.parent / "videos"), target.parent)
            lines.append(json.dumps(track_record(item.id, video, item.expression, tracks, dialect=dialect)))
    return _write(target, lines, len(items))


def write_picture_records(
    items: Sequence[ReferringItem],
    path: str | Path,
    task: PictureTask = "points",
    *,
    every: int = 12,
    dialect: RecordDialect = "messages",
) -> int:
    """Write conversations about single pictures of the videos: where everything is that an expression names.

    Pictures are PNG files in `pictures/` beside the JSON lines. Where nothing that is named is in sight, there is no
    record. For expressions that hold in a picture: "the red car" and not "the one that turns left".

    Args:
        items: of `read_referring`.
        path: JSONL file to write; it appears whole or not.
        task: points inside the objects, or boxes around them.
        every: pictures of a video between two that are asked about; 12 are 2 s at 6 pictures a second.
        dialect: of the records.

    Returns:
        How many records were written.

    Raises:
        DataError: pictures and masks that do not fit, or not one expression with something in sight.
    """
    check_choice("task", task, get_args(PictureTask))
    check_number("every", every, low=1, integer=True)
    target = Path(path)
    lines = []
    for item in items:
        truth, frames = fitting(item)
        for number in range(0, truth.frames, every):
            masks = [truth.mask(i, number) for i in sorted(truth.objects) if truth.objects[i][number] is not None]
            if masks:
                image = target.parent / "pictures" / f"{safe_name(item.video)}-{number:05d}.png"
                _store(image, frames[number])
                name, shown, what = f"{item.id}-{number}", str(image.relative_to(target.parent)), item.expression
                if task == "points":
                    record = point_record(name, shown, what, [_point(mask) for mask in masks], dialect=dialect)
                else:
                    record = box_record(name, shown, what, [_box(mask, what) for mask in masks], dialect=dialect)
                lines.append(json.dumps(record))
    return _write(target, lines, len(items))


def _point(mask: Mask) -> Point:
    row, column = inner_point(mask)
    return Point(column / mask.shape[1], row / mask.shape[0])  # of whole pixels from 0, as in `true_tracks`


def _box(mask: Mask, label: str) -> Box:
    height, width = mask.shape
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return Box(columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height, label)


def _store(path: Path, picture: Picture) -> None:
    if not path.exists():
        with write_file(path) as file:
            Image.fromarray(picture).save(file, "PNG")


def _write(target: Path, lines: Sequence[str], items: int) -> int:
    if not lines:
        raise DataError(f"{target}: none of {items} expressions has an object in sight")
    write_text(target, "\n".join(lines) + "\n")
    return len(lines)
