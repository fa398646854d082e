"""A disk that is really full: a small one of memory, mounted where nobody else sees it."""

import subprocess
import sys

import pytest

from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from tests.clips import encode
from tests.paths import ROOT
from tests.recipes.datasets.tokenizers import Traced

#: mounts a disk over its first argument, runs the command, gives the disk more room, runs it again, and copies the disk
SCRIPT = """
mount -t tmpfs -o size=$3 tmpfs $1 || exit 77
shift; copy=$1; shift; shift
"$@"; echo "first: $?"
find $DISK -name '.*partial*'
ls $DISK/out/state/pieces | wc -l
mount -o remount,size=100m $DISK || exit 77
"$@" || exit 1
cp -r $DISK/out $copy
"""
RUN = """
import sys
from pathlib import Path
from ov2kit.errors import OutputError
from tests.recipes.datasets.test_full_disk import build
if __name__ == "__main__":
    try:
        build(*sys.argv[1:])
    except OutputError as error:
        print(f"error: {error}")
        raise SystemExit(2)
"""


def build(videos, out):
    return build_shards(find_items([str(videos)]), out, Recipe(Traced()), workers=2, videos_per_shard=3)


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
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", SCRIPT, "sh", str(disk), str(copy), str(size * 2 // 3),
         sys.executable, "-c", RUN, str(videos), str(disk / "out")],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DISK": str(disk)},
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr[-3000:]
    error, status, pieces = done.stdout.split("\n")[:3]
    assert error.startswith(f"error: {disk}/out/")
    assert "No space left on device" in error
    assert status == "first: 2"
    assert int(pieces) > 0  # finished, and kept
    shards = {path.name: path.read_bytes() for path in (tmp_path / "wanted" / "shards").iterdir()}
    assert {path.name: path.read_bytes() for path in (copy / "shards").iterdir()} == shards
    assert list(ShardFolder(copy).rows()) == list(ShardFolder(tmp_path / "wanted").rows())
    assert not [path for path in copy.rglob("*") if "partial" in path.name]
