"""Training records from a set with masks: the tracking share of a data mix."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ov2kit.errors import DataError
from ov2kit.files import write_text
from ov2kit.recipes.spatial.evaluate import fitting, video_of
from ov2kit.recipes.spatial.layouts import ReferringItem
from ov2kit.recipes.spatial.records import RecordDialect, track_record
from ov2kit.recipes.spatial.scores import true_tracks


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
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for item in items:
        truth, frames = fitting(item)
        tracks = true_tracks(truth, fps=item.fps, every=every, label=item.expression.replace("<", " "))
        if tracks.points:
            video = os.path.relpath(video_of(item, frames, target.parent / "videos"), target.parent)
            lines.append(json.dumps(track_record(item.id, video, item.expression, tracks, dialect=dialect)))
    if not lines:
        raise DataError(f"{target}: none of {len(items)} expressions has an object in sight")
    write_text(target, "\n".join(lines) + "\n")
    return len(lines)
