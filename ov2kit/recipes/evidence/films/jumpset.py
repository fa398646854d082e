"""A JumpScore-like set on disk: rendered clips, encoded by a real encoder, with exact start times.

Layout: `train.json`, `val.json`, `test.json` (lists of {"id", "video", "question", "answer"}, the answer
being a JSON list of seconds), `annotations.json` (the test list, which is what evaluation reads),
`videos/`, and `jumpset.json` (how it was made, written last).
"""

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ov2kit.errors import OptionError, check_choice, check_number, check_numbers
from ov2kit.files import check_format, format_name, kind_of, write_folder
from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.encode import ENCODINGS, H264_MIX, EncoderError, write_video
from ov2kit.recipes.evidence.films.scene import render

SPLITS = ("train", "val", "test")
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
    if folder.exists():
        raise JumpsetError(f"{folder}: exists already; choose another folder or remove it")
    counts = clips if isinstance(clips, tuple) else (clips - 2 * (clips // 8), clips // 8, clips // 8)
    if min(check_numbers("clips", counts, length=3, integer=True)) < 1:
        raise OptionError(f"every split needs at least 1 clip, got {counts} for train, val, test; ask for 8 or more")
    check_number("seed", seed, low=0, integer=True)
    check_number("size", size, low=32, integer=True)
    if size % 16:
        raise OptionError(f"size must be a multiple of 16 pixels and at least 32, got {size}")
    check_choice("encoding", encoding, ("h264-mix", *ENCODINGS), EncoderError)
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
            (scratch / f"{name}.json").write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(scratch / "test.json", scratch / "annotations.json")
        made: dict[str, Any] = {
            "format": format_name(_KIND, _VERSION),
            "clips": counts,
            "seed": seed,
            "size": size,
            "encoding": encoding,
        }
        (scratch / _FACTS).write_text(
            json.dumps({**made, "difficulty": asdict(knobs)}, indent=1) + "\n", encoding="utf-8"
        )
    return folder


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
    drawn = str(rng.choice(H264_MIX))
    clip = render((seed, split, number), difficulty, size, fps)
    name = drawn if encoding == "h264-mix" else encoding
    identity = f"{SPLITS[split]}_{number:05d}"
    video = f"videos/{identity}{ENCODINGS[name][1]}"
    write_video(folder / video, clip.frames, fps, name)
    return {"id": identity, "video": video, "question": QUESTION, "answer": json.dumps(list(clip.starts))}
