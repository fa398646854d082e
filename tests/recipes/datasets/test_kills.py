"""Killed at any moment and started again: in the end the dataset is the one of a run that nobody disturbed.

Parents and workers are really killed, at random moments; OV2KIT_KILLS says how often (20 by default), and
OV2KIT_KILLS_ENGINE=ray with which engine: its parents, actors, and the workers below these.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from tests.clips import encode
from tests.paths import ROOT
from tests.patience import PATIENCE
from tests.recipes.datasets.processes import actors_of, workers_of
from tests.recipes.datasets.tokenizers import Slow

KILLS = int(os.environ.get("OV2KIT_KILLS", "20"))
ENGINE = os.environ.get("OV2KIT_KILLS_ENGINE", "local")
RUN = """
import sys
from tests.recipes.datasets.test_kills import build
if __name__ == "__main__":
    build(*sys.argv[1:])
"""


def build(videos, out, engine):
    """Workers that are killed do not use up the attempts of their video."""
    recipe = Recipe(Slow())
    return build_shards(
        find_items([str(videos)]), Path(out), recipe, engine=engine, workers=2, videos_per_shard=4, attempts=1000
    )


def content(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


victims_of = actors_of if ENGINE == "ray" else workers_of


@pytest.mark.skipif(sys.platform != "linux", reason="finds its victims in /proc")
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path):
    (tmp_path / "videos").mkdir()
    for number in range(16):
        encode(tmp_path / "videos" / f"{number:02d}.mp4", frames=6 + number, gop=4)
    (tmp_path / "videos" / "copy.mp4").write_bytes((tmp_path / "videos" / "03.mp4").read_bytes())
    build(tmp_path / "videos", tmp_path / "undisturbed", "local")
    wanted = content(tmp_path / "undisturbed")
    generator = random.Random(0)
    killed = {"parent": 0, "worker": 0}
    out = tmp_path / "out"

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path / "videos"), str(out), ENGINE], cwd=ROOT, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"},  # not one that somebody else has here
        )  # fmt: skip

    process = start()
    while sum(killed.values()) < KILLS:
        begin = time.monotonic()
        while not (victims := victims_of(process.pid)) and process.poll() is None and time.monotonic() - begin < 60:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.3))
        if process.poll() is not None:
            assert process.returncode == 0, process.communicate()[0]
            for path in out.glob("state/0*.json"):  # too quick: some of it is to be made again
                path.unlink()
            process = start()
        elif sum(killed.values()) % 8 == 7:  # a parent takes seconds to start, a worker does not
            process.kill()
            process.communicate()
            killed["parent"] += 1
            process = start()
        elif victims := victims_of(process.pid):
            try:
                os.kill(generator.choice(victims), generator.choice([signal.SIGKILL, signal.SIGSEGV]))
            except ProcessLookupError:
                continue
            killed["worker"] += 1
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 0, output
    assert min(killed.values()) > 0
    assert content(out) == wanted
    assert list(ShardFolder(out).rows()) == list(ShardFolder(tmp_path / "undisturbed").rows())
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "shards", "state"]
    assert not list(out.rglob(".*.partial*"))
    assert not (out / "state" / "pieces").exists()
