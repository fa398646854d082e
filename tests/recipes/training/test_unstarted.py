"""A run that fails before its first step leaves nothing; one that fails after it leaves everything."""

import json

import pytest

from ov2kit.cli import run
from ov2kit.recipes.training.lit import LitLlavaOneVision2
from tests.paths import SAMPLE
from tests.runs import SMALL, Runs

pytestmark = pytest.mark.usefixtures("one_thread")


def record(video):
    turns = [{"role": "user", "content": "<video>\nWho?"}, {"role": "assistant", "content": "A rabbit."}]
    return json.dumps({"messages": turns, "videos": [str(video)]}) + "\n"


@pytest.fixture
def broken(tmp_path):
    """A file with the name of a video."""
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video at all")
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("command", ["fit", "validate"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "data.jsonl: no such file"),
        ("no JSON\n", "no record can be used"),
        ("", "no record can be used"),
        (record("nowhere.mp4"), "video 'nowhere.mp4' is not there"),
    ],
    ids=["no file", "no JSON", "no record", "no video"],
)
def test_data_that_cannot_be_read_leave_no_folder(text, said, command, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "data.jsonl").write_text(text)
    before = sorted(tmp_path.rglob("*"))
    path, start = ("val_path", ["--model.start", "m"]) if command == "validate" else ("path", [])
    if start:
        LitLlavaOneVision2("tiny").model.save_pretrained(tmp_path / "m")
        before = sorted(tmp_path.rglob("*"))
    places = [f"--data.sources.{path}", "data.jsonl", "--out", "new/runs"]
    assert run([command, *SMALL[:4], *start, *places]) == 2
    assert said in capfd.readouterr().err.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_where_no_video_can_be_opened_only_the_report_stays(broken, tmp_path, capfd, cache):
    (tmp_path / "data.jsonl").write_text(record(broken))
    folder = Runs(tmp_path, cache).fit("runs", "--data.sources.path", str(tmp_path / "data.jsonl"), status=2)
    assert str(folder / "faults.jsonl") in capfd.readouterr().err.splitlines()[-1]
    assert [file.name for file in folder.iterdir()] == ["faults.jsonl"]


def test_a_folder_that_was_there_stays(tmp_path, cache):
    (tmp_path / "runs").mkdir()
    Runs(tmp_path, cache).fit("runs", "--data.sources.path", str(tmp_path / "nowhere.jsonl"), status=2)
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]
    assert not list((tmp_path / "runs").iterdir())


def test_after_a_step_everything_stays(tmp_path, cache, monkeypatch):
    step = LitLlavaOneVision2.training_step

    def failing(self, batch, number):
        if number == 1:
            raise ValueError("no")
        return step(self, batch, number)

    monkeypatch.setattr(LitLlavaOneVision2, "training_step", failing)
    (tmp_path / "data.jsonl").write_text(record(SAMPLE) * 2)
    sources = ["--data.sources.path", str(tmp_path / "data.jsonl"), "--data.order.batch_size", "1"]
    sources += ["--trainer.log_every_n_steps", "10"]  # nothing is logged before it fails
    folder = Runs(tmp_path, cache).fit("runs", *sources, status=2)
    assert {"config.yaml", "hparams.yaml"} <= {file.name for file in folder.iterdir()}
