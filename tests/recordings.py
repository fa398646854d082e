"""A small data set of conversations about real clips and pictures, for tests of the training data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.clips import encode


def talk(number: int, kind: str, path: str | None, words: int = 3) -> dict[str, Any]:
    """One record of today's dialect."""
    mark = {"video": "<video>\n", "image": "<image>\n"}.get(kind, "")
    record: dict[str, Any] = {
        "id": f"{kind}-{number}",
        "messages": [
            {"role": "user", "content": f"{mark}what is it?"},
            {"role": "assistant", "content": " ".join([f"answer {number}", *["yes"] * words])},
        ],
    }
    if path is not None:
        record[f"{kind}s"] = [path]
    return record


def make_media(folder: Path, videos: int, images: int) -> None:
    """clip_0.mp4 ... and picture_0.png ..., small, each different."""
    for i in range(videos):
        encode(folder / f"clip_{i}.mp4", frames=12 + 2 * i, size=(56, 84), gop=6)
    for i in range(images):
        pixels = np.random.default_rng(i).integers(0, 255, (56, 56 + 28 * (i % 2), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"picture_{i}.png")


def write_jsonl(path: Path, records: list[Any]) -> Path:
    """A JSONL file; text is written as it is."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def mixed_records(videos: int, images: int, texts: int) -> list[dict[str, Any]]:
    """Records of the media that `make_media` makes, of different length."""
    records = [talk(i, "video", f"clip_{i % 4}.mp4", words=1 + 5 * (i % 3)) for i in range(videos)]
    records += [talk(i, "image", f"picture_{i % 3}.png", words=1 + 3 * (i % 4)) for i in range(images)]
    return records + [talk(i, "text", None, words=2 + i) for i in range(texts)]
