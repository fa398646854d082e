"""`ov2kit dataset`: the command, its manifest, what it says it would do."""

import json

import pytest
from pyarrow import parquet

from ov2kit.cli import run
from ov2kit.codec import CodecTokenizer
from ov2kit.recipes.datasets import work
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.prompt.media import load_canvases
from tests.clips import encode

MOVED = "finished; only its shard is put together again"
OPTIONS = ["--budget_canvases", "2", "--max_pixels", "8000", "--quiet", "--videos_per_shard", "2"]


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        encode(folder / f"{number}.mp4", frames=8 + number, gop=4)
    (folder / "copy.mp4").write_bytes((folder / "0.mp4").read_bytes())
    (folder / "list.mkv").write_text("#EXTM3U\n#EXTINF:1,\n0.mp4\n")
    return folder


def dataset(videos, out, *more):
    return run(["dataset", str(videos), "--out", str(out), *OPTIONS, *more])


def test_manifest_and_shards(videos, tmp_path, capsys):
    assert dataset(videos, tmp_path / "out", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["videos"], facts["ok"], facts["failed"], facts["duplicate"]) == (5, 3, 1, 1)
    rows = parquet.read_table(facts["manifest"]).to_pylist()
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == ["0.mp4", "1.mp4", "2.mp4", "copy.mp4", "list.mkv"]
    assert by_name["list.mkv"]["kind"] == "references"
    assert by_name["copy.mp4"]["duplicate_of"] == "0.mp4"
    assert [by_name[f"{n}.mp4"]["frames"] for n in range(3)] == [8, 9, 10]
    wanted = CodecTokenizer(2, max_pixels=8000)(str(videos / "2.mp4"))
    assert by_name["2.mp4"]["tokens"] == wanted.num_tokens
    assert (ShardFolder(tmp_path / "out").canvases(by_name["2.mp4"]).images == wanted.images).all()
    timings = parquet.read_table(tmp_path / "out" / "timings.parquet").to_pylist()
    assert {row["name"] for row in timings} == {"0.mp4", "1.mp4", "2.mp4"}
    assert {"check", "decode", "pack"} <= {row["stage"] for row in timings}


def test_the_manifest_is_the_same_for_more_workers_and_a_resumed_run(videos, tmp_path, capsys):
    assert dataset(videos, tmp_path / "one") == 0
    assert dataset(videos, tmp_path / "two", "--workers", "2") == 0
    (videos / "later.mp4").write_bytes((videos / "1.mp4").read_bytes() + b"\0" * 8)
    moved = videos.parent / "2.mp4"
    (videos / "2.mp4").rename(moved)
    assert dataset(videos, tmp_path / "three") == 0
    (videos / "later.mp4").unlink()
    moved.rename(videos / "2.mp4")
    assert dataset(videos, tmp_path / "three") == 0
    manifests = [(tmp_path / name / "manifest.parquet").read_bytes() for name in ("one", "two", "three")]
    assert manifests[0] == manifests[1] == manifests[2]


def test_explain_writes_nothing(videos, tmp_path, capsys):
    assert dataset(videos, tmp_path / "out", "--explain") == 0
    assert set(capsys.readouterr().out.strip().split("\n")) == {
        f"{name}: no dataset is there" for name in ("0.mp4", "1.mp4", "2.mp4", "copy.mp4", "list.mkv")
    }
    assert not (tmp_path / "out").exists()
    assert dataset(videos, tmp_path / "out") == 0
    encode(videos / "2.mp4", frames=15, gop=4)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert dataset(videos, tmp_path / "out", "--explain") == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert lines[:3] == ["0.mp4: finished", "1.mp4: finished", "2.mp4: changed since it was read"]
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_explain_names_each_reason(videos, tmp_path, capsys, monkeypatch):
    out, names = tmp_path / "out", tmp_path / "list.txt"

    def explained(lines, *more):
        """Name -> reason, with this list of videos."""
        names.write_text("".join(f"videos/{line}.mp4\n" for line in lines))
        capsys.readouterr()
        assert dataset(names, out, "--explain", *more) == 0
        return [line.removeprefix("videos/") for line in capsys.readouterr().out.strip().split("\n")]

    assert explained([1, 4]) == ["1.mp4: no dataset is there", "4.mp4: cannot be read"]
    (videos / "3.mp4").write_bytes(b"no video")
    names.write_text("videos/1.mp4\nvideos/2.mp4\nvideos/3.mp4\nvideos/4.mp4\n")
    assert dataset(names, out) == 0
    four = [1, 2, 3, 4]
    unread = "4.mp4: cannot be read"
    assert explained(four) == ["1.mp4: finished", "2.mp4: finished", f"3.mp4: {MOVED}", unread]
    assert explained(four, "--retry_failed")[2:] == ["3.mp4: failed, and is tried again", unread]
    assert explained([0, 1, 2]) == ["0.mp4: not finished yet", f"1.mp4: {MOVED}", f"2.mp4: {MOVED}"]
    (videos / "4.mp4").write_bytes((videos / "1.mp4").read_bytes())
    encode(videos / "1.mp4", frames=15, gop=4)
    assert explained(four)[::3] == ["1.mp4: changed since it was read", "4.mp4: not finished yet"]
    other = "the dataset was made with other options"
    assert explained([1], "--images", "npy") == [f"1.mp4: {other} (images png -> npy)"]
    assert explained([1], "--budget_canvases", "3") == [f"1.mp4: {other} (tokenizer.budget_canvases 2 -> 3)"]
    monkeypatch.setattr(work, "FORMAT", "ov2kit.dataset/2")
    assert explained([1, 9])[1] == "9.mp4: cannot be read"
    assert explained([1]) == [f"1.mp4: {other} (format ov2kit.dataset/1 -> ov2kit.dataset/2)"]


def test_a_dry_run_estimates_and_writes_nothing(videos, tmp_path, capsys):
    for name in ("copy.mp4", "list.mkv"):
        (videos / name).unlink()
    assert dataset(videos, tmp_path / "out", "--dry_run", "3", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert dataset(videos, tmp_path / "out") == 0
    rows = parquet.read_table(tmp_path / "out" / "manifest.parquet").to_pylist()
    assert found["tokens"] == sum(row["tokens"] for row in rows)  # every one was tried
    assert found["gigabytes"] == pytest.approx(sum(row["size"] for row in rows) / 1e9)
    assert found["video_hours"] == pytest.approx(sum(row["duration"] for row in rows) / 3600)
    assert (found["videos"], found["tried"], found["failed"]) == (3, 3, 0)
    assert found["hours"] > 0


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--workers", "0"], "workers must be at least 1"),
        (["--limits.packets", "0"], "limits.packets must be above 0"),
        (["--budget_canvases", "3"], "tokenizer.budget_canvases 2 -> 3"),
    ],
)
def test_bad_input_is_one_line(videos, tmp_path, capsys, more, reason):
    assert dataset(videos, tmp_path / "out") == 0
    capsys.readouterr()
    assert dataset(videos, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert "\n" not in error


def test_a_file_where_the_dataset_should_be_is_named(videos, tmp_path, capsys):
    (tmp_path / "taken").write_text("x")
    assert dataset(videos, tmp_path / "taken") == 2
    assert f"{tmp_path / 'taken'}: expected a folder for the dataset" in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "x"


@pytest.mark.parametrize("images", ["png", "safetensors"])
def test_asset_directories_beside_the_shards(videos, tmp_path, images):
    out = tmp_path / "out"
    assert dataset(videos, out, "--assets", "--images", images) == 0
    rows = {row["name"]: row for row in ShardFolder(out).rows() if row["status"] == "ok"}
    assert {path.name for path in (out / "assets").iterdir()} == {row["sample"] for row in rows.values()}
    for name, row in rows.items():
        wanted = CodecTokenizer(2, max_pixels=8000)(str(videos / name))
        assert (load_canvases(out / "assets" / row["sample"]).images == wanted.images).all()
    kept, damaged = (out / "assets" / rows[name]["sample"] for name in ("0.mp4", "1.mp4"))
    before = {path.name: path.stat().st_mtime_ns for path in kept.iterdir()}
    (damaged / ("_DONE" if images == "png" else "canvases.safetensors")).unlink()
    (videos / "2.mp4").unlink()
    assert dataset(videos, out, "--assets", "--images", images) == 0
    assert {path.name: path.stat().st_mtime_ns for path in kept.iterdir()} == before
    assert len(load_canvases(damaged))
    assert not (out / "assets" / rows["2.mp4"]["sample"]).exists()
