"""Damaged files by the hundred through real workers: none crashes the run, none hangs, nothing is left over.

Each is a real clip with bytes overwritten, cut out, doubled or exchanged, by a seed. OV2KIT_FUZZ says how many
(1,000 by default); `OV2KIT_FUZZ=10000 python -m pytest tests/recipes/datasets/test_fuzz.py` is the long form.
"""

import os
import random
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.limits import Limits
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from tests.clips import encode
from tests.patience import PATIENCE
from tests.recipes.datasets.processes import children, title, workers_of
from tests.recipes.datasets.tokenizers import Traced

COUNT = int(os.environ.get("OV2KIT_FUZZ", "1000"))
KINDS = [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx"), ("ts", "libx264")]
#: each means that the file is at fault and says how; "crash" and "timeout" would be faults of ours or of a library
EXPECTED = {"video", "memory", "bytes", "streams", "pixels", "packets", "frames", "duration", "references"}

#: bytes that a worker may take beyond the process that it is a fork of; a clip decodes in a fraction of it
MEMORY = 2**28
#: of processor time, per file and per worker that starts: about ten times what is usual
SECONDS, STARTING = 0.15, 30.0


@dataclass
class Use:
    """What a worker took: bytes at its peak, seconds of processor time."""

    memory: int = 0
    seconds: float = 0.0


def peak_of(process):
    """Bytes."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())[1]) * 1024


@contextmanager
def watched():
    """Process -> its use, of all workers of this process while the block runs."""
    found, ended = {}, threading.Event()

    def watch():
        while not ended.wait(0.1):
            for worker in workers_of(os.getpid()):
                use = found.setdefault(worker, Use())
                try:
                    times = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
                    seconds = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
                    use.memory, use.seconds = max(use.memory, peak_of(worker)), seconds
                except (OSError, IndexError, TypeError):  # it has ended meanwhile
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        for worker in [worker for worker, use in found.items() if use.memory == 0]:
            del found[worker]


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


@pytest.mark.skipif(sys.platform != "linux", reason="reads what workers take in /proc")
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
    limit = 2**30
    recipe = Recipe(Traced(), limits=Limits(seconds=PATIENCE, memory=limit, duration=3600.0, pixels=2**24))
    with watched() as workers:
        counts = build_shards(find_items([str(videos)]), out, recipe, workers=2, videos_per_shard=100)
    (first,) = [peak_of(child) for child in children(os.getpid()) if b"forkserver" in title(child)]
    most = max(each.memory for each in workers.values())
    assert most - first < MEMORY, f"{most / 2**20:.0f} MiB, of which {first / 2**20:.0f} are libraries"
    cpu = sum(each.seconds for each in workers.values())
    assert cpu < COUNT * SECONDS + len(workers) * STARTING, f"{cpu:.0f} s of {len(workers)} workers"
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
