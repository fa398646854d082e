"""A disk that is really full: a small one of memory, mounted where nobody else sees it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from tests.clips import encode
from tests.recipes.datasets.machine import Machine
from tests.recipes.datasets.tokenizers import Traced

#: mounts a disk over its first argument, of the size that is its second, and becomes the rest
MOUNT = 'mount -t tmpfs -o size=$2 tmpfs "$1" || exit 77; shift 2; exec "$@"'


def build(videos, out):
    return build_shards(find_items([str(videos)]), Path(out), Recipe(Traced()), workers=2, videos_per_shard=3)


def look(disk):
    """What a run left there: unfinished files and finished pieces."""
    return [str(path) for path in Path(disk).rglob(".*partial*")], os.listdir(f"{disk}/out/state/pieces")


def enlarge(disk):
    subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)


def copy(disk, place):
    shutil.copytree(f"{disk}/out", place)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for frames in range(8, 16):
        encode(folder / f"clip{frames:02d}.mp4", frames=frames, gop=4)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_is_one_error_and_more_room_goes_on(videos, tmp_path):
    build(videos, tmp_path / "wanted")
    size = sum(path.stat().st_size for path in (tmp_path / "wanted" / "shards").iterdir())
    disk, place = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT, "sh", str(disk), str(size * 2 // 3)]
    if (tried := subprocess.run([*mount, "true"], capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no disk can be mounted here: {tried.stderr.strip()}")
    with Machine(before=mount) as machine:
        said = machine.call(f"{__name__}:build", str(videos), str(disk / "out"))
        assert said.error.startswith(f"OutputError: {disk}/out/")
        assert "No space left on device" in said.error
        partial, pieces = machine.call(f"{__name__}:look", str(disk)).value
        assert partial == []
        assert pieces  # finished, and kept
        for function, arguments in (
            ("enlarge", [disk]), ("build", [videos, disk / "out"]), ("copy", [disk, place]),
        ):  # fmt: skip
            said = machine.call(f"{__name__}:{function}", *map(str, arguments))
            assert not said.error
    shards = {path.name: path.read_bytes() for path in (tmp_path / "wanted" / "shards").iterdir()}
    assert {path.name: path.read_bytes() for path in (place / "shards").iterdir()} == shards
    assert list(ShardFolder(place).rows()) == list(ShardFolder(tmp_path / "wanted").rows())
    assert not [path for path in place.rglob("*") if "partial" in path.name]
