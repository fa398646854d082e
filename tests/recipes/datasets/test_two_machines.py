"""Two machines at one place of an object store: one is at work, and its end, however it comes, lets the other go on."""

import json
import signal
import time
from pathlib import Path

import pytest

from ov2kit.recipes.datasets import lease
from ov2kit.recipes.datasets.build import build_shards
from ov2kit.recipes.datasets.inputs import find_items
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from tests.recipes.datasets.machine import Machine
from tests.recipes.datasets.s3 import BUCKET
from tests.recipes.datasets.tokenizers import Held, Traced

IN = f"s3://{BUCKET}/in/"


def hurry():
    """Leases hold for so long that the test need not wait for a minute."""
    lease.SECONDS = 8.0


def build(out, free):
    """Of 8 frames one video is done at once; the others when the file `free` is there."""
    return build_shards(find_items([IN]), f"s3://{out}", Recipe(Held(Path(free))), workers=2, videos_per_shard=2)


@pytest.fixture(scope="module")
def other(served, tmp_path_factory):
    """A second machine, with locks of its own."""
    with Machine({**served.environ, "TMPDIR": str(tmp_path_factory.mktemp("tmp"))}) as machine:
        for each in (served.machine, machine):
            assert not each.call(f"{__name__}:hurry").error
        yield machine


@pytest.fixture(scope="module")
def wanted(some_videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("wanted")
    build_shards(find_items([str(some_videos)]), out, Recipe(Traced()), videos_per_shard=2)
    return {path.name: path.read_bytes() for path in (out / "shards").iterdir()}, [
        row | {"name": IN + row["name"]} for row in ShardFolder(out).rows()
    ]


def begin(machine, store, free):
    """Start a run that has begun when this returns, and ends when `free` is there."""
    machine.send(f"{__name__}:build", store.out, str(free))
    limit = time.monotonic() + 600
    while not store.client.glob(f"{store.out}/state/pieces/*"):
        assert time.monotonic() < limit
        time.sleep(0.1)


def found(store):
    """Shards and rows, and who had the lease last."""
    names = sorted(store.client.find(store.out))
    shards = {name.rpartition("/")[2]: store.client.cat(name) for name in names if "/shards/" in name}
    states = [json.loads(store.client.cat(name)) for name in names if "/state/0" in name]
    (last,) = [json.loads(store.client.cat(name)) for name in names if "/state/lease-" in name]
    assert not [name for name in names if "/state/pieces/" in name]
    return (shards, [row for state in states for row in state["rows"]]), last


def test_the_second_is_refused_and_finds_nothing_to_do_later(store, other, wanted, tmp_path):
    free = tmp_path / "free"
    begin(store.machine, store, free)
    refused = other.call(f"{__name__}:build", store.out, str(tmp_path))  # which is there: it would not wait
    place = f"process {store.machine.process.pid} of "
    assert refused.error.startswith(f"OutputError: s3://{store.out}: another run is at work there, {place}")
    free.touch()
    assert store.machine.receive().value == {"ok": 6, "failed": 1}
    requests = len(store.gate.requests)
    assert other.call(f"{__name__}:build", store.out, str(free)).value == {"ok": 6, "failed": 1}
    assert not [path for method, path in store.gate.requests[requests:] if method == "GET" and path.endswith(".mp4")]
    done, last = found(store)
    assert done == wanted
    assert (last["process"], last["ended"]) == (other.process.pid, True)


def test_one_that_stands_still_for_too_long_loses_its_place(store, other, wanted, tmp_path):
    """And says so when it goes on, whatever it was about to do."""
    free = tmp_path / "free"
    begin(store.machine, store, free)
    store.machine.process.send_signal(signal.SIGSTOP)
    try:
        free.touch()
        assert other.call(f"{__name__}:build", store.out, str(free)).value == {"ok": 6, "failed": 1}
        done, last = found(store)
    finally:
        store.machine.process.send_signal(signal.SIGCONT)
    said = store.machine.receive()
    assert said.error.startswith(f"OutputError: s3://{store.out}: this run ends: its lease ")
    assert done == wanted
    assert last["process"] == other.process.pid
    assert found(store)[0][0] == wanted[0]


def test_what_one_that_is_gone_has_finished_is_kept(store, other, wanted, tmp_path):
    free = tmp_path / "free"
    begin(other, store, free)
    other.process.kill()
    other.process.wait()
    finished = store.client.glob(f"{store.out}/state/pieces/*")
    free.touch()
    store.gate.calm()
    assert store.machine.call(f"{__name__}:build", store.out, str(free)).value == {"ok": 6, "failed": 1}
    assert found(store)[0] == wanted
    written = {path.removeprefix("/") for method, path in store.gate.requests if method == "PUT"}
    assert not written & set(finished)
