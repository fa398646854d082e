"""`--engine ray` gives the bytes of the local engine, on a cluster of two nodes of which one dies."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter

import pytest

from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from tests.clips import encode
from tests.paths import ROOT
from tests.patience import PATIENCE
from tests.recipes.datasets.tokenizers import Segfaults, Traced

pytest.importorskip("ray.data")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """What the datasets on the cluster are, and the folder in which they lie, with those of the local engine."""
    videos, folder = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("on_ray")
    for frames in range(8, 14):
        encode(videos / f"clip{frames:02d}.mp4", frames=frames, gop=4)
    (videos / "copy.mp4").write_bytes((videos / "clip09.mp4").read_bytes())
    (videos / "broken.mp4").write_bytes(b"not a video" * 100)
    for name, tokenizer in (("local", Traced()), ("local_crash", Segfaults())):
        build_shards(find_items([str(videos)]), folder / name, Recipe(tokenizer), videos_per_shard=3)
    with tempfile.TemporaryDirectory(prefix="ray") as place:  # a short name: sockets lie below it
        done = subprocess.run(
            [sys.executable, "-m", "tests.recipes.datasets.on_ray", str(videos), str(folder)], cwd=ROOT,
            capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
            env={
                **os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_TMPDIR": place,  # programs that look for a cluster of this machine do not find it
            },
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "said.json").read_text()), folder


def content(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


@pytest.mark.parametrize(("name", "wanted"), [("one", "local"), ("crash", "local_crash"), ("killed", "local")])
def test_the_bytes_are_those_of_the_local_engine(cluster, name, wanted):
    """With 1, 2 and 4 workers, for any order of inputs, and where a node was killed when it had done some."""
    facts, folder = cluster
    assert facts["said"][name] == Counter(row["status"] for row in ShardFolder(folder / wanted).rows())
    assert content(folder / name) == content(folder / wanted)
    assert list(ShardFolder(folder / name).rows()) == list(ShardFolder(folder / wanted).rows())
    assert not (folder / name / "state" / "pieces").exists()


def test_a_node_was_killed_in_the_middle(cluster):
    assert cluster[0]["killed"]
    assert 0 < cluster[0]["killed"][0] < 8


def test_a_crash_takes_only_its_video_along(cluster):
    facts, folder = cluster
    rows = {row["name"]: row for row in ShardFolder(folder / "crash").rows()}
    assert facts["said"]["crash"] == {"ok": 5, "failed": 2, "duplicate": 1}
    assert (rows["clip13.mp4"]["kind"], rows["clip13.mp4"]["reason"]) == ("crash", "the worker died (signal 11)")


def test_what_is_finished_is_not_done_again(cluster):
    assert cluster[0]["again"] == []
