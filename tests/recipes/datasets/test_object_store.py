"""Input and output in an object store: a real S3 server on loopback, which fails now and then, and once for good."""

import io
import json
import random
import subprocess
import sys

import pytest

from ov2kit.recipes.datasets.shards import ShardFolder
from tests.clips import encode
from tests.paths import ROOT
from tests.recipes.datasets.s3 import BUCKET, serving

pytest.importorskip("s3fs")
OPTIONS = ["--budget_canvases", "2", "--max_pixels", "8000", "--videos_per_shard", "2", "--quiet", "--workers", "2"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for frames in range(8, 14):
        encode(folder / f"clip{frames:02d}.mp4", frames=frames, gop=4)
    (folder / "broken.mp4").write_bytes(b"not a video" * 100)
    return folder


@pytest.fixture(scope="module")
def wanted(videos, tmp_path_factory):
    """Shards and rows of a run on this machine."""
    out = tmp_path_factory.mktemp("wanted") / "out"
    names = videos.parent / "list.txt"
    names.write_text("".join(f"s3://{BUCKET}/in/{path.name}\n" for path in sorted(videos.iterdir())))
    run({}, str(videos), "--out", str(out))
    shards = {path.name: path.read_bytes() for path in (out / "shards").iterdir()}
    return shards, [row | {"name": f"s3://{BUCKET}/in/{row['name']}"} for row in ShardFolder(out).rows()]


@pytest.fixture
def store(videos):
    """The gate, the environment, and a client that goes around neither."""
    import s3fs

    with serving() as (gate, environ):
        options = {"key": "test", "secret": "test", "endpoint_url": environ["AWS_ENDPOINT_URL"]}
        client = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False, **options)
        client.mkdir(BUCKET)
        for path in videos.iterdir():
            client.put_file(str(path), f"{BUCKET}/in/{path.name}")
        gate.requests.clear()
        yield gate, environ, client


def run(environ, *arguments, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "ov2kit", "dataset", *arguments, *OPTIONS], cwd=ROOT, capture_output=True, text=True,
        timeout=240, check=False, env={"PYTHONPATH": str(ROOT), **environ} if environ else None,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
    return done


def found(client, out):
    """Shards and rows in the store, and everything else there by name."""
    names = {path.removeprefix(f"{out}/") for path in client.find(out)}
    shards = {name.removeprefix("shards/"): client.cat(f"{out}/{name}") for name in names if name.startswith("shards/")}
    rows = []
    for name in sorted(name for name in names if name.startswith("state/0")):
        rows += json.loads(client.cat(f"{out}/{name}"))["rows"]
    return shards, rows, {name for name in names if not name.startswith(("shards/", "state/0"))}


def test_bytes_are_those_of_a_run_on_this_machine_although_requests_fail(store, wanted):
    gate, environ, client = store
    generator, last = random.Random(0), {}

    def sometimes(method, path):
        """A third of the requests, never the same one twice in a row."""
        fault = generator.choice(["busy", "hang", "cut"])
        if last.pop((method, path), None) or generator.random() > 1 / 3:
            return None
        last[method, path] = True
        return fault if method == "GET" else "busy"

    gate.fault = sometimes
    run(environ, f"s3://{BUCKET}/in/", "--out", f"s3://{BUCKET}/out")
    gate.fault = lambda method, path: None
    assert {fault for _, _, fault in gate.failed} == {"busy", "hang", "cut"}
    assert {method for method, _, _ in gate.failed} >= {"GET", "PUT"}
    shards, rows, others = found(client, f"{BUCKET}/out")
    assert shards == wanted[0]
    assert rows == wanted[1]
    assert others == {"dataset.json", "manifest.parquet", "timings.parquet", "summary.html"}
    from pyarrow.parquet import read_table

    table = read_table(io.BytesIO(client.cat(f"{BUCKET}/out/manifest.parquet")))
    assert table["output_sha256"].to_pylist() == [row.get("output_sha256") for row in wanted[1]]


def test_a_target_that_goes_away_ends_the_run_and_its_return_continues_it(store, wanted):
    gate, environ, client = store
    arguments = [f"s3://{BUCKET}/in/", "--out", f"s3://{BUCKET}/out"]
    gate.fault = lambda method, path: "busy" if method == "PUT" and "/shards/" in path else None
    done = run(environ, *arguments, code=2)
    (message,) = [line for line in done.stderr.split("\n") if line.startswith("error: ")]
    assert f"s3://{BUCKET}/out/" in message
    assert "cannot be written" in message
    gate.fault = lambda method, path: None
    _, _, others = found(client, f"{BUCKET}/out")
    finished = {name for name in others if name.startswith("state/pieces/")}
    assert finished
    assert "manifest.parquet" not in others
    before = len(gate.requests)
    run(environ, *arguments)
    again = {path.removeprefix(f"/{BUCKET}/out/") for method, path in gate.requests[before:] if method == "PUT"}
    assert not again & finished  # it is not done again
    shards, rows, others = found(client, f"{BUCKET}/out")
    assert (shards, rows) == wanted
    assert others == {"dataset.json", "manifest.parquet", "timings.parquet", "summary.html"}
    before = len(gate.requests)
    run(environ, *arguments)
    assert not [path for method, path in gate.requests[before:] if method == "GET" and "/in/" in path and "mp4" in path]


def test_a_video_that_comes_short_is_not_taken_for_a_shorter_one(store, wanted):
    gate, environ, client = store
    gate.fault = lambda method, path: "short" if method == "GET" and path.endswith("clip09.mp4") else None
    run(environ, f"s3://{BUCKET}/in/", "--out", f"s3://{BUCKET}/out")
    rows = {row["name"].rpartition("/")[2]: row for row in found(client, f"{BUCKET}/out")[1]}
    assert (rows["clip09.mp4"]["status"], rows["clip09.mp4"]["kind"]) == ("failed", "unreadable")
    assert "ended after" in rows["clip09.mp4"]["reason"]
    gate.fault = lambda method, path: None
    run(environ, f"s3://{BUCKET}/in/", "--out", f"s3://{BUCKET}/out", "--retry_failed")
    shards, rows, _ = found(client, f"{BUCKET}/out")
    assert (shards, rows) == wanted


READ = """
import sys
from torch.utils.data import DataLoader
from ov2kit.recipes.datasets.stored import StoredVideos

class Tokens:
    def __len__(self):
        return len(numbers)

    def __getitem__(self, place):
        return stored.canvases(numbers[place]).num_tokens

if __name__ == "__main__":
    stored = StoredVideos(sys.argv[1])
    numbers = [number for number in range(len(stored)) if not stored.failure(number)]
    print([list(map(int, DataLoader(Tokens(), batch_size=None, num_workers=workers))) for workers in (0, 2)])
"""


def test_canvases_are_read_by_range_in_workers_too(store, wanted):
    gate, environ, _ = store
    run(environ, f"s3://{BUCKET}/in/", "--out", f"s3://{BUCKET}/out")
    before = len(gate.requests)
    done = subprocess.run(
        [sys.executable, "-c", READ, f"s3://{BUCKET}/out"], cwd=ROOT, capture_output=True, text=True, timeout=120,
        check=False, env={"PYTHONPATH": str(ROOT), **environ},
    )  # fmt: skip
    tokens = [row["tokens"] for row in wanted[1] if row["status"] == "ok"]
    assert json.loads(done.stdout) == [tokens, tokens], done.stderr[-3000:]
    read = [path for method, path in gate.requests[before:] if method == "GET" and path.endswith(".tar")]
    assert len(read) == 2 * len(tokens)  # one request for each
