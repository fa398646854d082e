"""What sets of rendered clips have in common: splits, what is checked before one is made, how lists are written."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ov2kit.errors import OptionError, Ov2kitError, check_choice, check_number, check_numbers
from ov2kit.recipes.evidence.films.encode import ENCODINGS, H264_MIX, EncoderError

SPLITS = ("train", "val", "test")
#: preset and quality drawn per clip
MIXED = "h264-mix"


def check_set(
    folder: Path, clips: Sequence[int], seed: int, size: int, encoding: str, exists: type[Ov2kitError]
) -> None:
    """Whether a set can be made.

    Args:
        folder: to make.
        clips: of each split.
        seed: from 0 on.
        size: edge of the pictures in pixels.
        encoding: a name of `ENCODINGS`, or `MIXED`.
        exists: the error if the folder is there already.

    Raises:
        EncoderError: unknown encoding.
        OptionError: another option is out of range.
    """
    if folder.exists():
        raise exists(f"{folder}: exists already; choose another folder or remove it")
    if min(check_numbers("clips", clips, length=len(SPLITS), integer=True)) < 1:
        raise OptionError(f"every split needs at least 1 clip, got {tuple(clips)} for {', '.join(SPLITS)}")
    check_number("seed", seed, low=0, integer=True)
    check_number("size", size, low=32, integer=True)
    if size % 16:
        raise OptionError(f"size must be a multiple of 16 pixels and at least 32, got {size}")
    check_choice("encoding", encoding, (MIXED, *ENCODINGS), EncoderError)


def choose_encoding(encoding: str, rng: Any) -> str:
    """A name of `ENCODINGS`; drawn from a NumPy generator where encodings are mixed."""
    drawn = str(rng.choice(H264_MIX))
    return drawn if encoding == MIXED else encoding


def write_json(path: Path, content: Any) -> None:
    """Write a list of records, or the facts of a set."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def offer_to_evaluation(test: Path) -> None:
    """Copy the list of the test clips to where evaluation looks for it."""
    shutil.copyfile(test, test.with_name("annotations.json"))
