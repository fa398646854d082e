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
from tests.patience import wait_until
from tests.recipes.datasets.machine import Machine
from tests.recipes.datasets.processes import below, title
from tests.recipes.datasets.s3 import BUCKET
from tests.recipes.datasets.tokenizers import Held, Traced

IN = f"s3://{BUCKET}/in/"


class Clock:
    """What leases measure with: here nobody sleeps, and a minute has passed when the file `passed` is there."""

    def __init__(self, passed):
        self.passed, self.slept = Path(passed), 0.0

    def monotonic(self):
        return time.monotonic() + self.slept + (lease.SECONDS if self.passed.exists() else 0)

    def sleep(self, seconds):
        self.slept += seconds


def set_clock(passed):
    """Of this machine, for one test."""
    lease.time, lease._RENEWALS = Clock(passed), 4


def renew_often():
    """And look often, by the real clock: a lease holds for a minute still, however busy the machine is."""
    lease.time, lease._RENEWALS = time, 60


def as_usual():
    """For the tests that come after these."""
    lease.time, lease._RENEWALS = time, 4


def build(out, free, workers=2):
    """Of 8 frames one video is done at once; the others when the file `free` is there."""
    recipe = Recipe(Held(Path(free)))
    return build_shards(find_items([IN]), f"s3://{out}", recipe, workers=workers, videos_per_shard=2)


@pytest.fixture(scope="module")
def second(served, tmp_path_factory):
    """A second machine, with locks of its own."""
    with Machine({**served.environ, "TMPDIR": str(tmp_path_factory.mktemp("tmp"))}) as machine:
        yield machine


@pytest.fixture
def other(store, second, tmp_path):
    """The same, by the real clock."""
    for each in (store.machine, second):
        assert not each.call(f"{__name__}:renew_often").error
    yield second
    for free in ("free", "late"):  # whatever a test that failed left there
        (tmp_path / free).touch()
    for each in (store.machine, second):
        if each.process.poll() is None:
            assert not each.call(f"{__name__}:as_usual").error


@pytest.fixture(scope="module")
def wanted(some_videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("wanted")
    build_shards(find_items([str(some_videos)]), out, Recipe(Traced()), videos_per_shard=2)
    return {path.name: path.read_bytes() for path in (out / "shards").iterdir()}, [
        row | {"name": IN + row["name"]} for row in ShardFolder(out).rows()
    ]


def begin(machine, store, free, workers=2):
    """Start a run that has finished a video and is held at another when this returns, until `free` is there."""
    machine.send(f"{__name__}:build", store.out, str(free), workers)
    wait_until(Path(f"{free}.held").exists)


def pieces(store):
    return store.client.glob(f"{store.out}/state/pieces/*")


def found(store):
    """Shards and rows, and who had the lease last."""
    names = sorted(store.client.find(store.out))
    shards = {name.rpartition("/")[2]: store.client.cat(name) for name in names if "/shards/" in name}
    states = [json.loads(store.client.cat(name)) for name in names if "/state/0" in name]
    (last,) = [json.loads(store.client.cat(name)) for name in names if "/state/lease-" in name]
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
    assert not pieces(store)
    assert (last["process"], last["ended"]) == (other.process.pid, True)


def test_one_that_stands_still_for_too_long_loses_its_place(store, other, wanted, tmp_path):
    """And says so when it goes on. What its worker finished too late is in no shard, and the next run removes it."""
    late, passed = tmp_path / "late", tmp_path / "passed"
    assert not store.machine.call(f"{__name__}:set_clock", str(passed)).error
    begin(store.machine, store, late, workers=1)
    store.machine.process.send_signal(signal.SIGSTOP)
    try:
        assert not other.call(f"{__name__}:set_clock", "").error
        assert other.call(f"{__name__}:build", store.out, str(tmp_path)).value == {"ok": 6, "failed": 1}
        done, last = found(store)
        assert not pieces(store)
        late.touch()
        wait_until(lambda: pieces(store))  # the worker goes on alone
        passed.touch()
    finally:
        store.machine.process.send_signal(signal.SIGCONT)
    said = store.machine.receive()
    assert said.error.startswith(f"OutputError: s3://{store.out}: this run ends: its lease ")
    assert done == wanted
    assert last["process"] == other.process.pid
    assert pieces(store)
    assert found(store) == (wanted, last)
    assert other.call(f"{__name__}:build", store.out, str(tmp_path)).value == {"ok": 6, "failed": 1}
    assert not pieces(store)
    assert found(store)[0] == wanted


def test_what_one_that_is_gone_has_finished_is_kept(store, other, wanted, tmp_path):
    free = tmp_path / "free"
    begin(other, store, free)
    workers = below(other.process.pid)
    other.process.kill()
    other.process.wait()
    wait_until(lambda: not any(map(title, workers)))
    finished = {*pieces(store), *store.client.glob(f"{store.out}/state/0*")}
    assert finished
    free.touch()
    store.gate.calm()
    assert not store.machine.call(f"{__name__}:set_clock", "").error
    assert store.machine.call(f"{__name__}:build", store.out, str(free)).value == {"ok": 6, "failed": 1}
    assert found(store)[0] == wanted
    assert not pieces(store)
    written = {path.removeprefix("/") for method, path in store.gate.requests if method == "PUT"}
    assert not written & finished
