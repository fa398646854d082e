"""A tracking set on disk: rendered clips, encoded by a real encoder, with the mask of every object.

Layout, that of the public evaluation of referring segmentation by points:

    videos/NAME.mp4
    masks/NAME/K.json        {"K": [run lengths or null per picture at 6 per second]}
    train.json, val.json, test.json    conversations for training, one per object
    SPLIT_expressions.json             every expression of a split, in the form of the public evaluation
    annotations.json         those of the test clips, which is what `ov2kit track --data` reads
    trackset.json            how it was made, written last
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ov2kit.errors import DataError
from ov2kit.files import write_folder
from ov2kit.recipes.evidence.films.encode import ENCODINGS, write_video
from ov2kit.recipes.evidence.films.rendered_set import (
    SPLITS,
    check_set,
    choose_encoding,
    offer_to_evaluation,
    write_json,
)
from ov2kit.recipes.evidence.films.tracking_scene import TrackedClip, TrackingScene, render_tracking
from ov2kit.recipes.spatial.frames import VideoFrames
from ov2kit.recipes.spatial.prompts import PROMPT_FPS
from ov2kit.recipes.spatial.records import track_record
from ov2kit.recipes.spatial.scores import true_places, true_tracks
from ov2kit.recipes.spatial.segmenter import MaskTracks

_EVERY = 3  # pictures between two points of a training answer: two points a second


def make_tracking_set(
    out: str | Path,
    clips: tuple[int, int, int],
    *,
    seed: int = 0,
    encoding: str = "h264-mix",
    scene: TrackingScene | None = None,
) -> Path:
    """Render and encode a set; the folder appears whole or not at all.

    Args:
        out: folder to make; must not exist.
        clips: of train, val and test.
        seed: decides every clip; the pixels of a clip depend on seed, split and number alone.
        encoding: a name of `ENCODINGS`, or "h264-mix": drawn per clip.
        scene: knobs of the scenes.

    Raises:
        DataError: `out` exists.
        EncoderError: unknown encoding, or one that this PyAV lacks.
        OutputError: it cannot be written there.
        ValueError: a split without clips, or a size that is no multiple of 16.
    """
    folder, knobs = Path(out), scene or TrackingScene()
    check_set(folder, clips, seed, knobs.size, encoding, DataError)
    with write_folder(folder) as scratch:
        (scratch / "videos").mkdir()
        for split, count in enumerate(clips):
            documents: list[dict[str, Any]] = []
            records: list[dict[str, Any]] = []
            for number in range(count):
                name = f"{SPLITS[split]}_{number:05d}"
                clip = render_tracking((seed, split, number), knobs)
                chosen = choose_encoding(encoding, np.random.default_rng((seed, split, number, 1)))
                of_clip, own = _write_clip(scratch, name, clip, chosen)
                records += own
                documents += of_clip
            write_json(scratch / f"{SPLITS[split]}.json", records)
            write_json(scratch / f"{SPLITS[split]}_expressions.json", documents)
        offer_to_evaluation(scratch / "test_expressions.json")
        made = {"clips": clips, "seed": seed, "encoding": encoding, "scene": asdict(knobs)}
        write_json(scratch / "trackset.json", made)
    return folder


def _write_clip(
    folder: Path, name: str, clip: TrackedClip, encoding: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Video and masks of one clip; its documents for evaluation and its records for training."""
    video = f"videos/{name}{ENCODINGS[encoding][1]}"
    write_video(folder / video, clip.frames, clip.fps, encoding)
    shown = VideoFrames(folder / video).source_frames
    (folder / "masks" / name).mkdir(parents=True)
    documents, records = [], []
    for number, color in enumerate(clip.colors):
        masks = _masks(clip, number, shown)
        path = folder / "masks" / name / f"{number}.json"
        path.write_text(json.dumps(masks.plain()) + "\n", encoding="utf-8")
        expression = f"{color} object"
        documents.append(_document(name, number, expression, masks))
        answer = true_tracks(masks, fps=PROMPT_FPS, every=_EVERY, label=expression)
        if answer.points:
            records.append(track_record(f"{name}_{number}", video, expression, answer))
    return documents, records


def _masks(clip: TrackedClip, number: int, shown: Sequence[int]) -> MaskTracks:
    """Truth at 6 pictures per second; the only object of its expression has id 0."""
    found = MaskTracks(len(shown), (clip.frames.shape[1], clip.frames.shape[2]))
    for frame, source in enumerate(shown):
        found.put(frame, {0: clip.masks[number, source]})
    return found


def _document(name: str, number: int, expression: str, masks: MaskTracks) -> dict[str, Any]:
    """One expression in the form of the public evaluation."""
    path = [
        {
            "frame": frame,
            "time": frame / PROMPT_FPS,
            "points": {str(i): {"point": list(place), "occluded": False} for i, place in places.items()},
        }
        for frame, places in true_places(masks, _EVERY).items()
    ]
    return {
        "id": f"trackset_track_{name}_{number}",
        "video": name,
        "expression": expression,
        "width": masks.size[1],
        "height": masks.size[0],
        "fps": PROMPT_FPS,
        "n_frames": masks.frames,
        "mask_ids": [str(number)],
        "frame_trajectories": json.dumps(path),
    }
