"""Training from shards: the same batches and losses as from the files they were made of, wherever the shards lie."""

import csv
import json
import shutil
from pathlib import Path

import fsspec
import pytest

from ov2kit.cli import run
from ov2kit.errors import DataError
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.datasets.stored import StoredVideos
from tests.conversation_data import conversation_data
from tests.recipes.data.test_resume import Notes, keep_all, trainer
from tests.recordings import make_media, mixed_records, talk, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")

TOKENS = {"budget_canvases": 3, "max_pixels": 56 * 84}


def dataset(path, out, *more):
    """The shards of the videos that conversations name."""
    options = [text for name, value in TOKENS.items() for text in (f"--{name}", str(value))]
    arguments = [str(path), "--column", "videos", "--out", str(out), "--videos_per_shard", "2", "--quiet"]
    assert run(["dataset", *arguments, *options, *more]) == 0
    return str(out)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Conversations about videos and pictures that lie beside them."""
    folder = tmp_path_factory.mktemp("files")
    make_media(folder, 4, 3)
    (folder / "copy.mp4").write_bytes((folder / "clip_1.mp4").read_bytes())
    return write_jsonl(folder / "all.jsonl", [*mixed_records(9, 4, 4), talk(9, "video", "copy.mp4")])


@pytest.fixture(scope="module")
def shards(files, tmp_path_factory):
    return dataset(files, tmp_path_factory.mktemp("shards") / "out")


@pytest.fixture(scope="module")
def bare(files, tmp_path_factory):
    """The same conversations and pictures, without the videos."""
    folder = tmp_path_factory.mktemp("bare")
    for path in files.parent.iterdir():
        if path.suffix != ".mp4":
            shutil.copy(path, folder)
    return folder / "all.jsonl"


@pytest.fixture
def in_memory(shards):
    fsspec.filesystem("memory").put(f"{shards}/", "/shards/", recursive=True)
    yield "memory://shards"
    fsspec.filesystem("memory").rm("/shards", recursive=True)


def data(path, shards=None, **options):
    small = {**TOKENS, "seed": 3, "batch_size": 2}
    return conversation_data(str(path), shards=shards, **(small | options))


def batches(folder, held, *callbacks, **options):
    module = Notes()
    trainer(folder, *callbacks, max_epochs=2).fit(module, held, **options)
    return module.seen


def test_batches_are_those_of_the_files(files, bare, shards, in_memory, tmp_path):
    wanted = batches(tmp_path, data(files))
    assert len(wanted) == 18
    for place in (shards, in_memory):
        for workers in (0, 2):
            assert batches(tmp_path, data(bare, place, num_workers=workers)) == wanted, (place, workers)


@pytest.mark.parametrize("options", [{}, {"pack": "stream", "pack_length": 300, "pack_buffer": 4, "batch_size": 1}])
def test_a_run_goes_on_in_the_middle_of_an_epoch(bare, in_memory, tmp_path, options):
    whole = batches(tmp_path, data(bare, in_memory, **options), keep_all(tmp_path))
    for step in (2, len(whole) // 2 + 1):
        saved = tmp_path / f"step={step}.ckpt"
        rest = batches(tmp_path, data(bare, in_memory, num_workers=2, **options), ckpt_path=saved)
        assert rest == whole[step:]
        assert rest


def test_other_shards_are_no_place_to_go_on(bare, files, shards, tmp_path):
    batches(tmp_path, data(bare, shards), keep_all(tmp_path))
    other = dataset(files, tmp_path / "other", "--images", "safetensors")
    with pytest.raises(DataError, match=r"shards was '\w+' and is '\w+'"):
        batches(tmp_path, data(bare, other), ckpt_path=tmp_path / "step=2.ckpt")


def test_the_tiny_model_has_the_same_losses(files, bare, shards, in_memory, tmp_path):
    """From one configuration, where the shards alone are named in addition."""
    curves = []
    for number, (path, place) in enumerate([(files, None), (bare, shards), (bare, in_memory)]):
        more = [] if place is None else ["--data.sources.shards", place]
        assert (
            run(
                ["fit", "--config", "tiny.yaml", "--out", str(tmp_path / str(number)),
                 "--data.sources.path", str(path), "--data.sources.val_path", "null", "--data.loading.cache", "null",
                 "--data.tokens.budget_canvases", "3", "--data.tokens.max_pixels", str(56 * 84),
                 "--trainer.max_steps", "4", "--trainer.log_every_n_steps", "1", *more]
            ) == 0
        )  # fmt: skip
        with (tmp_path / str(number) / "version_0" / "metrics.csv").open() as file:
            curves.append([row["loss"] for row in csv.DictReader(file) if row["loss"]])
    assert len(set(curves[0])) == 4
    assert curves[1] == curves[0]
    assert curves[2] == curves[0]


def test_frames_are_read_from_files_and_codec_canvases_from_shards(files, bare, shards, tmp_path):
    options = {"source": "mix", "mix": {"codec": 0.5, "frames": 0.5}}
    assert batches(tmp_path, data(files, shards, **options)) == batches(tmp_path, data(files, **options))
    with pytest.raises(DataError, match=r"10 of 10 videos are prepared .* only 5"):
        batches(tmp_path, data(bare, shards, **options))


def test_options_that_are_not_those_of_the_shards_are_refused(bare, shards, tmp_path):
    with pytest.raises(DataError, match=r"tokens\.budget_canvases is 4, there 3"):
        batches(tmp_path, data(bare, shards, budget_canvases=4))
    with pytest.raises(DataError, match=r"expected a finished dataset"):
        batches(tmp_path, data(bare, str(tmp_path)))


def test_a_video_that_failed_and_one_that_is_nowhere_are_faults(files, tmp_path):
    shutil.copytree(files.parent, tmp_path / "files")
    (tmp_path / "files" / "broken.mp4").write_bytes(b"no video at all")
    records = [talk(0, "video", "clip_0.mp4"), talk(1, "video", "broken.mp4")]
    path = write_jsonl(tmp_path / "files" / "all.jsonl", records)
    shards = dataset(path, tmp_path / "out")
    write_jsonl(path, [*records, talk(2, "video", "gone.mp4"), talk(3, "video", "clip_3.mp4")])
    index = ConversationIndex(path, stored=StoredVideos(shards))
    assert [fault.name for fault in index.faults] == ["video-1", "video-2"]
    assert "gave nothing when shards were made (video: not a video" in index.faults[0].reason
    assert f"looked in {path.parent} and in {shards}" in index.faults[1].reason
    assert [index.read(number).name for number in range(len(index))] == ["video-0", "video-3"]  # one from its file


def test_a_damaged_sample_is_a_fault_of_its_record(bare, shards, tmp_path):
    shutil.copytree(shards, tmp_path / "out")
    row = json.loads((tmp_path / "out" / "state" / "000000.json").read_text())["rows"][0]
    shard = tmp_path / "out" / "shards" / row["shard"]
    content = bytearray(shard.read_bytes())
    content[row["offset"] + row["size"] // 2] ^= 1
    shard.write_bytes(content)
    faults = tmp_path / "faults.jsonl"
    batches(tmp_path, data(bare, str(tmp_path / "out"), max_bad_share=0.5, faults=str(faults)))
    told = [json.loads(line) for line in faults.read_text().split("\n") if line]
    assert {fault["name"] for fault in told} == {f"video-{n}" for n in range(9) if f"clip_{n % 4}.mp4" == row["name"]}
    assert all("the sample of clip_0.mp4 is damaged" in fault["reason"] for fault in told)
    assert Path(shard).exists()


def test_records_may_name_videos_where_they_were_and_are_not_any_more(files, bare, tmp_path):
    """As addresses, which are looked up and not opened; some with subtitles beside them."""
    records = [talk(n, "video", f"file://{files.parent}/clip_{n}.mp4") for n in range(3)]
    path = write_jsonl(tmp_path / "all.jsonl", records)
    shards = dataset(path, tmp_path / "out")
    records[1]["videos"] = [{"path": records[1]["videos"][0]}]
    moved = write_jsonl(bare.parent / "moved.jsonl", [json.loads(json.dumps(each)) for each in records])
    stored = StoredVideos(shards)
    index = ConversationIndex(moved, stored=stored)
    assert not index.faults
    parts = [index.read(number).messages[0]["content"][0] for number in range(3)]
    assert [part["stored"] for part in parts] == [0, 1, 2]
    assert len(StoredVideos(dataset(moved, tmp_path / "again"))) == 3
