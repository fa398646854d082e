"""Input and output in an object store: a real S3 server on loopback, which fails now and then, and once for good."""

import io
import json
import random

import pytest
from torch.utils.data import DataLoader

from ov2kit.cli import run
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.stored import StoredVideos
from tests.recipes.datasets.s3 import BUCKET

OPTIONS = ["--budget_canvases", "2", "--max_pixels", "8000", "--videos_per_shard", "2", "--quiet", "--workers", "2"]
IN = f"s3://{BUCKET}/in/"


@pytest.fixture(scope="module")
def wanted(some_videos, tmp_path_factory):
    """Shards and rows of a run on this machine."""
    out = tmp_path_factory.mktemp("wanted") / "out"
    assert run(["dataset", str(some_videos), "--out", str(out), *OPTIONS]) == 0
    shards = {path.name: path.read_bytes() for path in (out / "shards").iterdir()}
    return shards, [row | {"name": IN + row["name"]} for row in ShardFolder(out).rows()]


def build(store, *more, code=0):
    """Run the command on the other machine."""
    return store.machine.command("dataset", IN, "--out", f"s3://{store.out}", *OPTIONS, *more, code=code)


def found(store):
    """Shards and rows in the store, and everything else there by name but the one lease."""
    client, out = store.client, store.out
    names = {path.removeprefix(f"{out}/") for path in client.find(out)}
    shards = {name.removeprefix("shards/"): client.cat(f"{out}/{name}") for name in names if name.startswith("shards/")}
    rows = []
    for name in sorted(name for name in names if name.startswith("state/0")):
        rows += json.loads(client.cat(f"{out}/{name}"))["rows"]
    assert len([name for name in names if name.startswith("state/lease-")]) == 1
    return shards, rows, {name for name in names if not name.startswith(("shards/", "state/0", "state/lease-"))}


def test_bytes_are_those_of_a_run_on_this_machine_although_requests_fail(store, wanted):
    generator, last = random.Random(0), {}
    once = {("GET", f"/{BUCKET}/in/clip10.mp4"): "hang", ("GET", f"/{BUCKET}/in/clip11.mp4"): "cut"}

    def sometimes(method, path):
        """A third of the requests, never the same one twice in a row."""
        if last.pop((method, path), None) or ((method, path) not in once and generator.random() > 1 / 3):
            return None
        last[method, path] = True
        return once.pop((method, path), generator.choice(["busy", "cut"]) if method == "GET" else "busy")

    store.gate.fault = sometimes
    build(store)
    assert {fault for _, _, fault in store.gate.failed} == {"busy", "hang", "cut"}
    assert {method for method, _, _ in store.gate.failed} >= {"GET", "PUT"}
    store.gate.calm()
    shards, rows, others = found(store)
    assert shards == wanted[0]
    assert rows == wanted[1]
    assert others == {"dataset.json", "manifest.parquet", "timings.parquet", "summary.html"}
    from pyarrow.parquet import read_table

    table = read_table(io.BytesIO(store.client.cat(f"{store.out}/manifest.parquet")))
    assert table["output_sha256"].to_pylist() == [row.get("output_sha256") for row in wanted[1]]


def test_a_target_that_goes_away_ends_the_run_and_its_return_continues_it(store, wanted):
    gate = store.gate
    gate.fault = lambda method, path: "busy" if method == "PUT" and "/shards/" in path else None
    done = build(store, code=2)
    (message,) = [line for line in done.err.split("\n") if line.startswith("error: ")]
    assert f"s3://{store.out}/" in message
    assert "cannot be written" in message
    _, _, others = found(store)
    gate.calm()  # what came until now may count as finished
    finished = {name for name in others if name.startswith("state/pieces/")}
    assert finished
    assert "manifest.parquet" not in others
    build(store)
    again = {path.removeprefix(f"/{store.out}/") for method, path in gate.requests if method == "PUT"}
    assert not again & finished  # it is not done again
    shards, rows, others = found(store)
    assert (shards, rows) == wanted
    assert others == {"dataset.json", "manifest.parquet", "timings.parquet", "summary.html"}
    gate.calm()
    build(store)
    assert not [path for method, path in gate.requests if method == "GET" and "/in/" in path and "mp4" in path]


def test_a_video_that_comes_short_is_not_taken_for_a_shorter_one(store, wanted):
    store.gate.fault = lambda method, path: "short" if method == "GET" and path.endswith("clip09.mp4") else None
    build(store)
    rows = {row["name"].rpartition("/")[2]: row for row in found(store)[1]}
    assert (rows["clip09.mp4"]["status"], rows["clip09.mp4"]["kind"]) == ("failed", "unreadable")
    assert "ended after" in rows["clip09.mp4"]["reason"]
    store.gate.calm()
    build(store, "--retry_failed")
    shards, rows, _ = found(store)
    assert (shards, rows) == wanted


def test_a_dry_run_over_a_store_estimates_and_writes_nothing(store, wanted):
    found = json.loads(build(store, "--dry_run", "7", "--json").out)
    assert (found["videos"], found["tried"], found["failed"]) == (7, 7, 1)
    assert found["tokens"] == sum(row.get("tokens", 0) for row in wanted[1])  # every one was tried
    assert "PUT" not in {method for method, _ in store.gate.requests}


class Tokens:
    """Of each video of a dataset: a dataset as loaders want them."""

    def __init__(self, place):
        self.stored = StoredVideos(place)
        self.numbers = [number for number in range(len(self.stored)) if not self.stored.failure(number)]

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, place):
        return self.stored.canvases(self.numbers[place]).num_tokens


def load(place):
    """With 0 and 2 workers."""
    return [list(map(int, DataLoader(Tokens(place), batch_size=None, num_workers=workers))) for workers in (0, 2)]


def test_canvases_are_read_by_range_in_workers_too(store, wanted):
    build(store)
    store.gate.calm()
    said = store.machine.call(f"{__name__}:load", f"s3://{store.out}")
    tokens = [row["tokens"] for row in wanted[1] if row["status"] == "ok"]
    assert said.value == [tokens, tokens], said.error
    read = [path for method, path in store.gate.requests if method == "GET" and path.endswith(".tar")]
    assert len(read) == 2 * len(tokens)  # one request for each
