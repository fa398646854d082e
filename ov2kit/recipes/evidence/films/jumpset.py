"""A JumpScore-like set on disk: rendered clips, encoded by a real encoder, with exact start times.

Layout: `train.json`, `val.json`, `test.json` (lists of {"id", "video", "question", "answer"}, the answer
being a JSON list of seconds), `annotations.json` (the test list, which is what evaluation reads),
`videos/`, and `jumpset.json` (how it was made, written last).
"""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ov2kit.errors import OptionError, check_number
from ov2kit.files import check_format, format_name, kind_of, write_folder
from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.encode import ENCODINGS, write_video
from ov2kit.recipes.evidence.films.rendered_set import (
    SPLITS,
    check_set,
    choose_encoding,
    offer_to_evaluation,
    write_json,
)
from ov2kit.recipes.evidence.films.scene import render

QUESTION = "When does each jump start? Answer with a list of seconds."
_FPS = (25, 30)
_FACTS = "jumpset.json"
_KIND, _VERSION = "jumpset", 1


class JumpsetError(OptionError):
    """A set cannot be made where it was asked for, or be read."""


def make_jumpset(
    out: str | Path,
    clips: int | tuple[int, int, int],
    *,
    seed: int = 0,
    size: int = 96,
    encoding: str = "h264-mix",
    difficulty: Difficulty | None = None,
    processes: int = 1,
) -> Path:
    """Render and encode a set; the folder appears whole or not at all.

    The same arguments give the same bytes with the same encoder build (x265 excepted). The pixels of a clip depend on
    seed, split and number alone, so sets of two encodings show the same clips.

    Args:
        out: folder to make; must not exist.
        clips: of (train, val, test), or their sum, of which an eighth each is for val and test.
        seed: decides every clip.
        size: edge of the pictures in pixels, a multiple of 16.
        encoding: a name of `ENCODINGS`, or "h264-mix": preset and quality drawn per clip.
        difficulty: knobs of the scenes; the defaults of `Difficulty` when omitted.
        processes: clips made side by side.

    Raises:
        JumpsetError: `out` exists.
        EncoderError: unknown encoding, or one that this PyAV lacks.
        OutputError: it cannot be written there.
        ValueError: counts or sizes out of range.
    """
    folder = Path(out)
    counts = clips if isinstance(clips, tuple) else (clips - 2 * (clips // 8), clips // 8, clips // 8)
    check_set(folder, counts, seed, size, encoding, JumpsetError)
    check_number("processes", processes, low=1, integer=True)
    knobs = difficulty or Difficulty()
    with write_folder(folder) as scratch:
        (scratch / "videos").mkdir()
        jobs = [(split, i) for split, count in enumerate(counts) for i in range(count)]
        make = partial(_make_clip, scratch, seed, size, encoding, knobs)
        if processes > 1:
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                records = list(pool.map(make, jobs, chunksize=8))
        else:
            records = [make(job) for job in jobs]
        for split, name in enumerate(SPLITS):
            own = [record for record, job in zip(records, jobs, strict=True) if job[0] == split]
            write_json(scratch / f"{name}.json", own)
        offer_to_evaluation(scratch / "test.json")
        made: dict[str, Any] = {
            "format": format_name(_KIND, _VERSION),
            "clips": counts,
            "seed": seed,
            "size": size,
            "encoding": encoding,
            "difficulty": asdict(knobs),
        }
        write_json(scratch / _FACTS, made)
    return folder


def make_part(
    out: Path, split: str, numbers: range, *, seed: int, size: int, encoding: str, difficulty: Difficulty
) -> None:
    """Some clips of one split of the set that `make_jumpset` makes of the same options, and their list.

    Args:
        out: folder that is there; gets `videos/` and `SPLIT.json`.
        split: a name of `SPLITS`.
        numbers: of the clips in the split.
        seed: of the set, as the other options.
        size: edge of the pictures in pixels.
        encoding: a name of `ENCODINGS`, or "h264-mix".
        difficulty: knobs of the scenes.
    """
    (out / "videos").mkdir()
    place = SPLITS.index(split)
    write_json(out / f"{split}.json", [_make_clip(out, seed, size, encoding, difficulty, (place, i)) for i in numbers])


def read_split(folder: Path, split: str) -> list[dict[str, str]]:
    """The records of one split of a set.

    Raises:
        JumpsetError: the set is of a newer format.
    """
    if kind_of(folder / _FACTS) == "file":  # sets from elsewhere have none
        made = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        check_format(made.get("format"), _KIND, _VERSION, folder / _FACTS, JumpsetError)
    records: list[dict[str, str]] = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
    return records


def _make_clip(
    folder: Path, seed: int, size: int, encoding: str, difficulty: Difficulty, job: tuple[int, int]
) -> dict[str, str]:
    """Write one video and return its record."""
    split, number = job
    rng = np.random.default_rng((seed, split, number, 1))
    fps = int(rng.choice(_FPS))
    name = choose_encoding(encoding, rng)
    clip = render((seed, split, number), difficulty, size, fps)
    identity = f"{SPLITS[split]}_{number:05d}"
    video = f"videos/{identity}{ENCODINGS[name][1]}"
    write_video(folder / video, clip.frames, fps, name)
    return {"id": identity, "video": video, "question": QUESTION, "answer": json.dumps(list(clip.starts))}
