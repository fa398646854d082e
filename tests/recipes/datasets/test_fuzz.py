"""Damaged files by the hundred through real workers: none crashes the run, none hangs, nothing is left over.

Each is a real clip with bytes overwritten, cut out, doubled or exchanged, by a seed. OV2KIT_FUZZ says how many
(200 by default); `OV2KIT_FUZZ=10000 python -m pytest tests/recipes/datasets/test_fuzz.py` is the long form.
"""

import os
import random

import pytest

from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.limits import Limits
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from tests.clips import encode
from tests.recipes.datasets.tokenizers import Traced

COUNT = int(os.environ.get("OV2KIT_FUZZ", "200"))
KINDS = [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx"), ("ts", "libx264")]
#: each means that the file is at fault and says how; "crash" and "timeout" would be faults of ours or of a library
EXPECTED = {"video", "memory", "bytes", "streams", "pixels", "packets", "duration", "references"}


def mutated(content, generator):
    data = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 5, 50])):
        start = generator.randrange(len(data)) if generator.random() < 0.5 else generator.randrange(min(600, len(data)))
        length = generator.choice([1, 2, 4, 16, 200])
        match generator.randrange(5):
            case 0:
                data[start : start + length] = generator.randbytes(length)
            case 1:
                data[start : start + length] = b""
            case 2:
                data[start:start] = data[start : start + length]
            case 3:
                data[start : start + length] = generator.choice([b"\xff", b"\x00", b"\x7f"]) * length
            case 4:
                data[start] ^= 1 << generator.randrange(8)
        if len(data) < 50:
            break
    return bytes(data[: generator.randrange(len(data))] if generator.random() < 0.1 else data)


@pytest.mark.parametrize("seed", [0])
def test_damaged_files_are_recorded_and_nothing_else_happens(seed, tmp_path):
    generator = random.Random(seed)
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    sound = []
    for suffix, codec in KINDS:
        sound.append(encode(tmp_path / f"sound.{suffix}", codec=codec, frames=8, size=(64, 80), gop=4))
    for number in range(COUNT):
        clip = sound[number % len(sound)]
        (videos / f"{number:05d}{clip.suffix}").write_bytes(mutated(clip.read_bytes(), generator))
    recipe = Recipe(Traced(), limits=Limits(seconds=60.0, memory=2**30, duration=3600.0, pixels=2**24))
    counts = build_shards(find_items([str(videos)]), out, recipe, workers=2, videos_per_shard=100)
    assert sum(counts.values()) == COUNT
    rows = list(ShardFolder(out).rows())
    strange = [(row["name"], row["kind"], row["reason"]) for row in rows if row["status"] == "failed"]
    assert [each for each in strange if each[1] not in EXPECTED] == []
    assert counts["ok"] > COUNT / 10
    assert counts["failed"] > COUNT / 20
    for row in rows:
        if row["status"] == "ok":
            ShardFolder(out).canvases(row).validate()
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "shards", "state"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", *sorted(path.name for path in sound), "videos"]
