"""Referring segmentation over a folder: ask, segment, score; go on where a run stopped.

In the folder of results:

    predictions.jsonl    one line per expression, with the text and every score
    scores.json          means, means per kind, the share of the segmenter, and per attribute where it is asked for
    masks/ID.json        predicted masks as run lengths
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ov2kit.errors import DataError, check_number
from ov2kit.files import safe_name, write_text
from ov2kit.recipes.evaluation.failures import OF_THE_VIDEO, is_about, one_line
from ov2kit.recipes.evaluation.predictions import (
    PREDICTIONS,
    PredictionLog,
    claim_settings,
    read_folder,
    read_lines,
    write_lines,
)
from ov2kit.recipes.evaluation.processes import log_name
from ov2kit.recipes.spatial.attributes import attribute_table, attributes_of, id_switches
from ov2kit.recipes.spatial.frames import Frames
from ov2kit.recipes.spatial.layouts import ReferringItem
from ov2kit.recipes.spatial.overlay import write_clip
from ov2kit.recipes.spatial.scores import mask_scores, point_scores, true_tracks
from ov2kit.recipes.spatial.segmenter import MaskTracks, PointSegmenter, segment_tracks
from ov2kit.recipes.spatial.track import Answerer, ask_tracks, follow
from ov2kit.recipes.spatial.tracks import write_tracks

SCORES = "scores.json"
_SHAPE = 0.05  # of the ratio of sides: sizes are rounded, to multiples of 16 for example
#: means of scores.json; the others of a line are counts and lists
MEANS = (
    "j", "f", "j&f", "hota", "public_hota", "point_precision", "point_recall", "point_f1", "point_hota",
    "public_point_precision", "public_point_recall", "public_point_f1", "public_point_hota", "ceiling_j&f",
)  # fmt: skip


def evaluate_referring(
    answer: Answerer | None,
    segmenter: PointSegmenter,
    items: Sequence[ReferringItem],
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    ceiling_every: int = 3,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any] | None:
    """Write predictions.jsonl and scores.json; go on from what is there.

    Every video is scored by its points alone and by the masks that the segmenter makes of them. The segmenter is also
    given true points: "ceiling_j&f" is what it makes of those, and "segmenter_share" the share of it that the model's
    points reach. Expressions whose video or masks cannot be read count as 0; any other error (out of memory, a bug)
    ends the run, and all answers so far stay.

    Args:
        answer: asks the model; true points are the answers when None, which measures the segmenter alone.
        segmenter: points -> masks.
        items: of `read_referring`.
        out: folder for the results, made if missing.
        settings: JSON-able facts that decide the answers; a later run must bring the same.
        ceiling_every: pictures between two true points; 0 leaves the ceiling out.
        rank: which process this is; it asks about expressions rank, rank + world_size, ...
        world_size: how many processes share the expressions; the one that finishes last merges and scores.
        progress: called with (expressions done, expressions of this process).

    Returns:
        What scores.json holds; None while other processes still have expressions.

    Raises:
        DataError: no expressions, or results of other settings.
    """
    if not items:
        raise DataError("there are no expressions to evaluate")
    check_number("world_size", world_size, low=1, integer=True)
    check_number("rank", rank, low=0, below=world_size, integer=True)
    target = Path(out)
    (target / "masks").mkdir(parents=True, exist_ok=True)
    claim_settings(target, {"task": "referring", "ceiling_every": ceiling_every, **(settings or {})})
    known = read_folder(target)
    mine = items[rank::world_size]
    with PredictionLog(target / log_name(rank, world_size)) as log:
        for done, item in enumerate(mine, start=1):
            if item.id not in known or known[item.id].get("error") is not None:
                log.add(_evaluate(answer, segmenter, item, target, ceiling_every))
            if progress is not None:
                progress(done, len(mine))
    known = read_folder(target)
    if any(item.id not in known for item in items):
        return None
    lines = [known[item.id] for item in items]
    asked = {item.id for item in items}
    merged = [*lines, *(line for name, line in known.items() if name not in asked)]  # of a run over more of them
    kept = target / PREDICTIONS
    if not kept.exists() or read_lines(kept) != merged:
        write_lines(kept, merged)
    scores = summarize(lines)
    write_text(target / SCORES, json.dumps({**scores, "settings": dict(settings or {})}, indent=2) + "\n")
    return scores


def _evaluate(
    answer: Answerer | None, segmenter: PointSegmenter, item: ReferringItem, out: Path, ceiling_every: int
) -> dict[str, Any]:
    """One line of predictions.jsonl."""
    line: dict[str, Any] = {
        "id": item.id, "video": item.video, "expression": item.expression, "kind": item.kind, "prediction": None,
    }  # fmt: skip
    began = time.perf_counter()
    try:
        truth, frames = fitting(item)
        ready = time.perf_counter() - began
        if answer is None:
            text, answered = write_tracks(true_tracks(truth, fps=item.fps, every=max(1, ceiling_every))), 0.0
        else:
            text, answered = ask_tracks(answer, video_of(item, frames, out / "videos"), item.expression)
        line["prediction"] = text
        tracked = follow(text, frames, segmenter, fps=item.fps, answered=answered)
        scored = time.perf_counter()
        line |= score(item, truth, tracked.masks, text)
        if ceiling_every:
            best = true_tracks(truth, fps=item.fps, every=ceiling_every)
            reached = segment_tracks(segmenter, frames, best, fps=item.fps)
            line["ceiling_j&f"] = mask_scores(reached, truth.resized(frames.size))["j&f"]
        write_text(out / "masks" / f"{safe_name(item.id)}.json", json.dumps(tracked.masks.plain()) + "\n")
        line["seconds"] = {"read": ready, **tracked.seconds, "score": time.perf_counter() - scored}
        line["problems"] = list(tracked.tracks.problems)
        line["error"] = None
    except OF_THE_VIDEO as error:
        line["error"] = one_line(error)
    except OSError as error:
        if not any(is_about(error, path) for path in _files(item)):
            raise
        line["error"] = one_line(error)
    return line


def _files(item: ReferringItem) -> Sequence[Path]:
    return [item.source] if isinstance(item.source, Path) else item.source


def fitting(item: ReferringItem) -> tuple[MaskTracks, Frames]:
    """Truth and pictures of one length, and of one shape; either may be the larger one."""
    truth, frames = item.read_masks(), item.frames()
    (height, width), (tall, wide) = truth.size, frames.size
    if abs(height * wide / (width * tall) - 1) > _SHAPE:
        raise DataError(f"{item.id}: pictures are {frames.size}, masks {truth.size}; expected one shape")
    if abs(len(frames) - truth.frames) > 1:
        raise DataError(f"{item.id}: {len(frames)} pictures, {truth.frames} masks")
    if len(frames) != truth.frames:  # a filter at a constant rate may give one more or less at the end
        count = min(len(frames), truth.frames)
        truth = MaskTracks(count, truth.size, {i: track[:count] for i, track in truth.objects.items()})
        frames = _First(frames, count)
    return truth, frames


class _First:
    """The first `count` of some frames."""

    def __init__(self, frames: Frames, count: int) -> None:
        self._frames, self._count = frames, count
        self.seconds = frames.seconds[:count]
        self.size = frames.size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Any:
        return self._frames[number]


def score(item: ReferringItem, truth: MaskTracks, masks: MaskTracks, text: str) -> dict[str, Any]:
    """Scores of points and masks, id switches and attributes of one expression."""
    from ov2kit.recipes.spatial.tracks import parse_tracks

    points = point_scores(parse_tracks(text), truth, fps=item.fps, places=item.places)
    shown = truth.resized(masks.size)  # the pictures', as in the public evaluation
    return {
        **mask_scores(masks, shown),
        **points,
        "id_switches": id_switches(masks, shown),
        "attributes": list(attributes_of(truth)),
    }


def video_of(item: ReferringItem, frames: Frames, folder: Path) -> Path:
    """The video that the model is shown: the set's own file, or its pictures encoded once."""
    if isinstance(item.source, Path):
        return item.source
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{safe_name(item.video)}.mp4"
    if not path.exists():
        write_clip(path, (frames[k] for k in range(len(frames))), item.fps)
    return path


def summarize(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over expressions; one with an error counts 0."""
    scores: dict[str, Any] = {"expressions": len(lines), "errors": sum(line["error"] is not None for line in lines)}
    names = [name for name in MEANS if any(name in line for line in lines)]
    scores |= {name: _mean(lines, name) for name in names}
    if scores.get("ceiling_j&f"):
        scores["segmenter_share"] = scores["j&f"] / scores["ceiling_j&f"]
    kinds = sorted({str(line["kind"]) for line in lines})
    if len(kinds) > 1:
        scores["kinds"] = {
            kind: {name: _mean([line for line in lines if line["kind"] == kind], name) for name in names}
            for kind in kinds
        }
    scores["id_switches"] = int(sum(line.get("id_switches", 0) for line in lines))
    scores["attributes"] = attribute_table([{"attributes": [], "j&f": 0.0, **line} for line in lines])
    scores["seconds"] = {
        stage: float(np.mean([line["seconds"][stage] for line in lines if line["error"] is None] or [0.0]))
        for stage in ("read", "answer", "segment", "score")
    }
    return scores


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([float(line.get(name, 0.0)) for line in lines]))
