"""Datasets: the right canvases, the same bytes whoever made them, and one bad video takes no other along."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import fsspec
import pytest
import torch

from ov2kit.errors import OptionError, OutputError
from ov2kit.recipes.datasets import local_engine
from ov2kit.recipes.datasets.build import build_shards, plan_run
from ov2kit.recipes.datasets.inputs import Item, find_items
from ov2kit.recipes.datasets.limits import Limits
from ov2kit.recipes.datasets.shards import ShardFolder
from ov2kit.recipes.datasets.work import Recipe
from tests.clips import encode
from tests.paths import ROOT
from tests.patience import PATIENCE
from tests.recipes.datasets.tokenizers import Hangs, Hogs, Segfaults, SegfaultsOnce, Traced


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Six videos of 8 to 13 frames, a copy of one of them, and a file that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    for frames in range(8, 14):
        encode(folder / f"clip{frames:02d}.mp4", frames=frames, gop=4)
    (folder / "copy.mp4").write_bytes((folder / "clip09.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes(b"not a video" * 100)
    return folder


@pytest.fixture
def videos(clips, tmp_path):
    return shutil.copytree(clips, tmp_path / "videos")


def content(folder):
    """Name -> bytes of all shards."""
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


def rows(folder):
    return {row["name"]: row for row in ShardFolder(folder).rows()}


def build(videos, out, tokenizer, limits=None, **options):
    recipe = Recipe(tokenizer, options.pop("images", "png"), limits or Limits())
    options = {"videos_per_shard": 3, **options}
    return build_shards(find_items([str(videos)]), out, recipe, **options)


@pytest.fixture(scope="module")
def reference(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference")
    counts = build(clips, out, Traced())
    assert counts == {"ok": 6, "failed": 1, "duplicate": 1}
    return out


def test_rows_say_what_is_in_the_shards(reference, clips):
    found = rows(reference)
    assert list(found) == sorted(path.name for path in clips.iterdir())
    assert found["copy.mp4"] | {"status": "duplicate", "duplicate_of": "clip09.mp4"} == found["copy.mp4"]
    assert found["broken.mp4"]["kind"] == "video"
    assert found["broken.mp4"]["reason"].startswith("not a video that can be opened")
    for name, row in found.items():
        assert row["sha256"] == hashlib.sha256((clips / name).read_bytes()).hexdigest()
        if row["status"] != "ok":
            continue
        wanted = Traced()(str(clips / name))  # the tokenizer itself, in this process
        stored = ShardFolder(reference).canvases(row)
        assert torch.equal(stored.images, wanted.images)
        assert torch.equal(stored.positions, wanted.positions)
        assert stored.frame_times == wanted.frame_times
        assert row["tokens"] == wanted.num_tokens
        assert (row["canvases"], row["codec"], row["frames"]) == (len(wanted), "h264", int(name[4:6]))


def test_shards_are_plain_tar_files_of_samples_in_order(reference):
    found = rows(reference)
    for number, names in enumerate([["clip08.mp4", "clip09.mp4"], ["clip10.mp4", "clip11.mp4", "clip12.mp4"]]):
        with tarfile.open(reference / "shards" / f"shard-{number:06d}.tar") as tar:
            members = tar.getmembers()
        samples = list(dict.fromkeys(member.name.partition(".")[0] for member in members))
        assert samples == [found[name]["sample"] for name in names]
        suffixes = {member.name.partition(".")[2] for member in members}
        assert suffixes >= {"canvas_000.png", "meta.json", "src_patch_position.npy", "DONE"}
        assert all((member.mtime, member.uid, member.mode) == (0, 0, 0o644) for member in members)


@pytest.mark.parametrize("workers", [2, 4])
def test_the_bytes_do_not_depend_on_workers_or_the_order_of_inputs(reference, clips, tmp_path, workers):
    paths = sorted(clips.iterdir(), reverse=True)
    items = [Item(path.name, str(path)) for path in paths]
    counts = build_shards(items, tmp_path / "out", Recipe(Traced()), workers=workers, videos_per_shard=3)
    assert counts == {"ok": 6, "failed": 1, "duplicate": 1}
    assert content(tmp_path / "out") == content(reference)
    assert rows(tmp_path / "out") == rows(reference)


def test_safetensors_hold_the_same_canvases(reference, clips, tmp_path):
    build(clips, tmp_path, Traced(), images="safetensors")
    for name, row in rows(reference).items():
        if row["status"] == "ok":
            other = ShardFolder(tmp_path).canvases(rows(tmp_path)[name])
            assert torch.equal(other.images, ShardFolder(reference).canvases(row).images)


# --- workers that die


def others_are_untouched(out, reference, bad):
    found, wanted = rows(out), rows(reference)
    places = {"shard", "offset"}  # those behind it move up
    for name, row in wanted.items():
        if name != bad:
            assert {k: v for k, v in found[name].items() if k not in places} == {
                k: v for k, v in row.items() if k not in places
            }
    return found[bad]


class Clock:
    """Of the engine: each time a video hangs an hour passes, but not before all others are done."""

    def __init__(self, log):
        self.log, self.is_last = log, False

    def progress(self, counts, done, total):
        self.is_last = done == total - 1

    def monotonic(self):
        hours = Traced(self.log).calls().count("clip13.mp4") if self.is_last else 0
        return time.monotonic() + 3600 * hours


@pytest.mark.parametrize(
    ("tokenizer", "kind", "reason", "limits"),
    [
        (Segfaults, "crash", r"the worker died (signal 11)", {}),
        (Hangs, "timeout", "took more than limits.seconds=900", {"seconds": 900.0}),
        (Hogs, "memory", "more memory than limits.memory", {"memory": 2**28}),
    ],
)
def test_a_worker_that_dies_takes_only_its_video_along(
    tokenizer, kind, reason, limits, reference, clips, tmp_path, monkeypatch
):
    log = tmp_path / "log"
    clock = Clock(log)
    if tokenizer is Hangs:
        monkeypatch.setattr(local_engine, "time", clock)
    build(clips, tmp_path / "out", tokenizer(log), Limits(**limits), workers=2, progress=clock.progress)
    row = others_are_untouched(tmp_path / "out", reference, "clip13.mp4")
    assert (row["status"], row["kind"]) == ("failed", kind)
    assert reason in row["reason"]
    calls = tokenizer(log).calls()
    assert calls.count("clip13.mp4") == 2  # once more, and then recorded
    assert calls.count("clip08.mp4") == 1


def test_a_video_that_is_lucky_at_its_second_try_is_like_any_other(reference, clips, tmp_path):
    build(clips, tmp_path / "out", SegfaultsOnce(tmp_path / "log"), workers=2)
    assert content(tmp_path / "out") == content(reference)
    assert rows(tmp_path / "out") == rows(reference)


# --- going on


def test_what_is_finished_is_not_done_again(reference, videos, tmp_path):
    tokenizer, out = Traced(tmp_path / "log"), tmp_path / "out"
    build(videos, out, tokenizer)
    first = tokenizer.calls()
    assert len(first) == 6  # not the copy
    build(videos, out, tokenizer)
    assert tokenizer.calls() == first
    for name in ("clip08.mp4", "clip13.mp4"):  # other times and inodes, the same bytes
        shutil.copy(videos / name, tmp_path / name)
        shutil.copy(tmp_path / name, videos / name)
    build(videos, out, tokenizer)
    assert tokenizer.calls() == first
    build(videos, out, tokenizer, videos_per_shard=2)  # other shards of the same samples
    assert tokenizer.calls() == first
    build(videos, out, tokenizer)
    assert content(out) == content(reference)
    assert sorted(path.name for path in out.iterdir()) == ["dataset.json", "shards", "state"]


def test_new_changed_and_removed_videos(videos, tmp_path):
    tokenizer, out = Traced(tmp_path / "log"), tmp_path / "out"
    build(videos, out, tokenizer)
    first = tokenizer.calls()
    encode(videos / "a-new.mp4", frames=20, gop=4)  # comes first: everything moves
    encode(videos / "clip11.mp4", frames=21, gop=4)
    (videos / "clip09.mp4").unlink()  # the copy is no copy any more
    plan = plan_run(find_items([str(videos)]), ShardFolder(out), 3)
    assert plan.first == 0
    said = {name: reason for name, reason in plan.reasons.items() if not reason.startswith("finished")}
    assert said == {"a-new.mp4": "not finished yet", "clip11.mp4": "changed since it was read"}
    build(videos, out, tokenizer)
    assert tokenizer.calls() == sorted([*first, "a-new.mp4", "clip11.mp4"])
    fresh = tmp_path / "fresh"
    build(videos, fresh, Traced())
    assert content(out) == content(fresh)
    assert rows(out) == rows(fresh)
    assert rows(out)["copy.mp4"]["status"] == "ok"


def test_a_damaged_shard_and_a_missing_state_are_made_again(reference, videos, tmp_path):
    tokenizer, out = Traced(tmp_path / "log"), tmp_path / "out"
    build(videos, out, tokenizer)
    shard = out / "shards" / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-5000])
    (out / "state" / "000002.json").write_text("{")
    build(videos, out, tokenizer)
    assert content(out) == content(reference)


def test_other_options_are_refused_and_named(videos, tmp_path):
    build(videos, tmp_path / "out", Traced())
    before = content(tmp_path / "out")
    with pytest.raises(OutputError, match=r"tokenizer\.budget_canvases 2 -> 3.*--overwrite"):
        build(videos, tmp_path / "out", Traced(budget_canvases=3))
    assert content(tmp_path / "out") == before
    build(videos, tmp_path / "out", Traced(budget_canvases=3), overwrite=True)
    build(videos, tmp_path / "fresh", Traced(budget_canvases=3))
    assert content(tmp_path / "out") == content(tmp_path / "fresh") != before


def test_a_folder_with_something_else_is_left_alone(videos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match=r"found thesis\.tex"):
        build(videos, tmp_path / "out", Traced())
    with pytest.raises(OptionError, match="videos_per_shard must be at least 1, got 0"):
        build(videos, tmp_path / "new", Traced(), videos_per_shard=0)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "new").exists()


def test_failures_hold_until_they_are_to_be_tried_again(reference, videos, tmp_path):
    out = tmp_path / "out"
    build(videos, out, Segfaults(tmp_path / "log"))
    build(videos, out, Segfaults(tmp_path / "log"))
    assert Segfaults(tmp_path / "log").calls().count("clip13.mp4") == 2
    build(videos, out, Traced(tmp_path / "log2"), retry_failed=True)
    assert Traced(tmp_path / "log2").calls() == ["clip13.mp4"]  # the file that is no video is not tokenized
    assert content(out) == content(reference)
    assert rows(out) == rows(reference)


def test_a_video_that_cannot_be_read_is_recorded(videos, tmp_path):
    items = [*find_items([str(videos)]), Item("gone.mp4", str(videos / "gone.mp4"))]
    build_shards(items, tmp_path / "out", Recipe(Traced()), videos_per_shard=100)
    row = rows(tmp_path / "out")["gone.mp4"]
    assert (row["status"], row["kind"], row["reason"]) == ("failed", "unreadable", "No such file or directory")


def test_urls_are_read_through_fsspec(reference, clips, tmp_path):
    items = [Item(path.name, f"file://{path}") for path in sorted(clips.iterdir())]
    build_shards(items, tmp_path / "out", Recipe(Traced()), videos_per_shard=3)
    assert content(tmp_path / "out") == content(reference)


def test_workers_that_cannot_start_are_no_fault_of_the_videos(videos, tmp_path):
    script = (
        "from tests.recipes.datasets.test_build import build, Traced\n"
        "import sys\n"
        "from pathlib import Path\n"
        "build(Path(sys.argv[1]), Path(sys.argv[2]), Traced())\n"
    )
    done = subprocess.run(
        [sys.executable, "-", str(videos), str(tmp_path / "out")], input=script, cwd=ROOT, capture_output=True,
        text=True, timeout=PATIENCE, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "workers do not start" in done.stderr
    assert "below `if __name__ == '__main__':`" in done.stderr
    assert rows(tmp_path / "out") == {}


def test_videos_in_a_tar_file_give_the_same_samples(reference, clips, tmp_path):
    with tarfile.open(tmp_path / "videos.tar", "w") as tar:
        for path in sorted(clips.iterdir()):
            tar.add(path, path.name)
    build(tmp_path / "videos.tar", tmp_path / "out", Traced())
    assert content(tmp_path / "out") == content(reference)
    place = f"{tmp_path}/videos.tar/"
    assert {name.removeprefix(place) for name in rows(tmp_path / "out")} == set(rows(reference))


def test_inputs_and_a_target_in_memory(reference, clips):
    memory = fsspec.filesystem("memory")
    memory.put(f"{clips}/", "/clips/", recursive=True)
    items = [replace(item, name=item.url.rpartition("/")[2]) for item in find_items(["memory://clips"])]
    build_shards(items, "memory://tokens/out", Recipe(Traced()), videos_per_shard=3)
    shards = {path.rpartition("/")[2]: memory.cat(path) for path in memory.find("/tokens/out/shards")}
    assert shards == content(reference)
    assert list(ShardFolder("memory://tokens/out").rows()) == list(rows(reference).values())
    assert sorted(path.rpartition("/")[2] for path in memory.ls("/tokens/out", detail=False)) == [
        "dataset.json", "shards", "state",
    ]  # fmt: skip
    memory.rm("/tokens", recursive=True)
    memory.rm("/clips", recursive=True)
