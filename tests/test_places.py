"""Every command: never over what it reads, never outside its place, never stuck at what is no file, never half done."""

import json
import os
import resource
import struct

import numpy as np
import pytest
import torch

from ov2kit.cli import run
from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer, VideoStream, load_assets
from ov2kit.errors import DataError, OutputError, VideoError
from ov2kit.recipes.data.faults import BadRecord
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.records import RecordFile
from ov2kit.recipes.evaluation.predictions import PredictionLog
from tests.clips import encode
from tests.paths import SAMPLE
from tests.recipes.model.test_convert import lightning_content
from tests.release_files import write_release

ONE = ("--budget_canvases", "1", "--max_pixels", "20000", "--quiet")


@pytest.fixture
def ov2kit(capfd, monkeypatch, tmp_path):
    """Run one command in an empty folder; its status and its lines on stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        return status, capfd.readouterr().err.strip().splitlines()

    return command


@pytest.fixture
def small_disk():
    """No file grows beyond 40,000 bytes: the system then says so as it does of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def clip(tmp_path):
    return encode(tmp_path / "x.mp4", frames=10)


def tree(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


# --- names


def made_of(folder):
    return {path.name: load_assets(path).provenance["source"]["name"] for path in folder.iterdir()}


def test_made_up_names_give_way_to_real_ones(ov2kit, clip, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    videos = ["a/clip.mp4", "b/clip.mp4", "clip-2.mp4", "c/Clip-3.mp4", "..mp4", "...mp4", "con.mp4"]
    for name in videos:
        (tmp_path / name).write_bytes(clip.read_bytes())
    assert ov2kit("tokenize", *videos, "--out", "D/o", *ONE) == (0, [])
    wanted = ["clip", "clip-4", "clip-2", "Clip-3", "_", "__", "_con"]
    assert made_of(tmp_path / "D" / "o") == dict(zip(wanted, videos, strict=True))
    assert os.listdir(tmp_path / "D") == ["o"]


@pytest.mark.parametrize("kind", ["png", "safetensors"])
def test_a_made_up_name_replaces_only_its_own_video(ov2kit, clip, tmp_path, kind):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for name in ("a/clip.mp4", "b/clip.mp4", "clip-2.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    options = ("--out", "D", "--overwrite", "--format", kind, *ONE)
    assert ov2kit("tokenize", "clip-2.mp4", *options)[0] == 0
    before = tree(tmp_path / "D" / "clip-2")
    status, errors = ov2kit("tokenize", "a/clip.mp4", "b/clip.mp4", *options)
    assert (status, len(errors)) == (2, 1)
    assert "clip-2: is of another video, and a made-up name for b/clip.mp4" in errors[0]
    assert tree(tmp_path / "D" / "clip-2") == before
    options = ("--out", "E", *options[2:])
    for _ in range(2):
        assert ov2kit("tokenize", "a/clip.mp4", "b/clip.mp4", *options) == (0, [])


@pytest.mark.parametrize("name", ["../escape", "/etc/x", "a\\b", "..", "nul", "a\nb"])
def test_the_name_of_an_experiment_stays_a_name(ov2kit, tmp_path, name):
    sweep = {"experiments": [{"name": name, "grid": {"budget": [1]}}]}
    (tmp_path / "s.yaml").write_text(json.dumps(sweep))
    status, errors = ov2kit("ablate", "--config", "s.yaml", "--out", "o", "--report_only")
    assert (status, len(errors)) == (2, 1)
    assert "the name of an experiment" in errors[0]
    assert os.listdir(tmp_path) == ["s.yaml"]


def test_two_experiments_of_one_name_are_refused(ov2kit, tmp_path):
    sweep = {"experiments": [{"name": name, "grid": {"budget": [1]}} for name in ("a", "A")]}
    (tmp_path / "s.yaml").write_text(json.dumps(sweep))
    assert "two experiments are called 'a'" in ov2kit("ablate", "--config", "s.yaml")[1][0]


def test_a_split_is_the_name_of_a_file_in_the_folder(tmp_path):
    from ov2kit.recipes.evaluation.jumpscore_folder import read_jumpscore_folder

    (tmp_path / "f").mkdir()
    row = [{"video": "v", "question": "q", "answer": []}]
    (tmp_path / "secret.json").write_text(json.dumps(row))
    for split in ("../secret", str(tmp_path / "secret")):
        with pytest.raises(DataError, match="split must be the name of a file"):
            read_jumpscore_folder(tmp_path / "f", split)


# --- inputs are never overwritten


def answers(path):
    lines = [{"id": "1", "video": "v", "question": "q", "answer": "1", "prediction": "1", "error": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_report_and_compare_keep_what_they_read(ov2kit, clip, tmp_path, link):
    a = answers(tmp_path / "a.jsonl")
    (tmp_path / "c.yaml").write_text("budget_canvases: 1\n")
    outs = {clip: "v.html", a: "c.json", tmp_path / "c.yaml": "y"}
    for path, other in outs.items():
        if link is not None:
            link(path, tmp_path / other)
            outs[path] = other
        else:
            outs[path] = path
    before = tree(tmp_path)
    for arguments in (
        ("report", clip, "--out", outs[clip], *ONE),
        ("report", clip, "--config", "c.yaml", "--out", outs[tmp_path / "c.yaml"], "--quiet"),
        ("compare", a, a, "--resamples", "10", "--metric", "exact", "--out", outs[a]),
    ):
        status, errors = ov2kit(*arguments)
        assert (status, len(errors)) == (2, 1)
        assert "is read by this command" in errors[0]
    assert tree(tmp_path) == before


def test_convert_keeps_what_it_reads(ov2kit, tmp_path):
    write_release(tmp_path / "m")
    torch.save(lightning_content(), tmp_path / "m" / "last.ckpt")
    before = tree(tmp_path)
    for source in ("m", "m/last.ckpt"):  # the folder would be replaced, and the checkpoint in it with it
        status, errors = ov2kit("convert", source, "m", "--overwrite")
        assert (status, len(errors)) == (2, 1)
        assert "is read by this command" in errors[0]
    assert tree(tmp_path) == before


def test_evaluate_and_ablate_keep_what_they_read(ov2kit, tmp_path):
    from ov2kit.recipes.evaluation.evaluate import evaluate_jumpscore

    row = {"id": "1", "video": "v", "question": "q", "answer": []}
    for name in ("predictions.jsonl", "scores.json"):
        text = json.dumps([row] if name.endswith("json") else row)
        (tmp_path / name).write_text(text)
        with pytest.raises(OutputError, match="is read by this command"):
            evaluate_jumpscore(lambda *_: "", tmp_path, tmp_path, split=name.split(".")[0], overwrite=True)
        assert (tmp_path / name).read_text() == text
    sweep = json.dumps({"experiments": [{"name": "a", "grid": {"budget": [1]}}]})
    (tmp_path / "results.json").write_text(sweep)
    assert "is read by" in ov2kit("ablate", "--config", "results.json", "--out", ".", "--report_only")[1][0]
    assert (tmp_path / "results.json").read_text() == sweep


def record(**more):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    return {"id": "1", "messages": turns, **more}


def test_predict_and_faults_keep_the_data(ov2kit, tmp_path):
    data = tmp_path / "mine.jsonl"
    data.write_text(json.dumps(record()) + "\n" + json.dumps({"id": 2}) + "\n")
    os.link(data, tmp_path / "twin.jsonl")
    before = data.read_bytes()
    write_release(tmp_path / "m")
    common = ("--model.start", "m", "--trainer.accelerator", "cpu", "--data.sources.max_bad_share", "1")
    for command, option in (
        ("predict", ["--predictions", "twin.jsonl"]),
        ("predict", ["--predictions", data]),
        ("fit", ["--data.sources.faults", "twin.jsonl", "--trainer.max_steps", "1"]),
    ):
        status, errors = ov2kit(command, *common, "--data.sources.path", "mine.jsonl", *option)
        assert status == 2
        assert "is read by this command" in errors[-1]
        assert data.read_bytes() == before


def test_a_log_of_predictions_cuts_off_nothing_but_its_own_last_line(tmp_path):
    path = tmp_path / "predictions.jsonl"
    whole = b'{"id": "1", "a": 1}\n'
    for tail in (b"", b"{", b'{"id": "2", "a'):
        path.write_bytes(whole + tail)
        with PredictionLog(path) as log:
            log.add({"a": 3, "id": "3"})
        assert path.read_bytes() == whole + b'{"id": "3", "a": 3}\n'
    for foreign in (b'[{"video": "v"}]', whole + b"a note of mine", b'{"video": "v"}'):
        path.write_bytes(foreign)
        with pytest.raises(DataError, match="does not end in a line of predictions"):
            PredictionLog(path)
        assert path.read_bytes() == foreign


# --- what is no file


def test_a_pipe_is_one_line_everywhere(ov2kit, clip, tmp_path):
    """Each of these would wait for ever for somebody to write into the pipe."""
    os.mkfifo(tmp_path / "p.mp4")
    for name in ("p.jsonl", "p.yaml", "p.srt", "last.ckpt"):
        os.symlink("p.mp4", tmp_path / name)
    folder = write_release(tmp_path / "m")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    answers(tmp_path / "a.jsonl")
    for arguments in (
        ("tokenize", "p.mp4", "--out", "o"),
        ("report", "p.mp4"),
        ("report", clip, "--out", "p.mp4", *ONE),
        ("tokenize", clip, "--config", "p.yaml", "--out", "o"),
        ("tokenize", clip, "--config=p.yaml", "--out", "o"),
        ("compare", "p.jsonl", "a.jsonl"),
        ("compare", "a.jsonl", "a.jsonl", "--metric", "exact", "--resamples", "10", "--out", "p.jsonl"),
        ("convert", "last.ckpt", "o"),
        ("convert", "m", "o"),
        ("ablate", "--config", "p.yaml", "--out", "o"),
        ("generate", "--model", "m", "--prompt", "x"),
        ("fit", "--config", "p.yaml"),
        ("validate", "--ckpt_path", "last.ckpt", "--data.sources.path", "a.jsonl", "--model.size", "tiny"),
        ("fit", "--data.sources.path", "p.jsonl", "--model.size", "tiny", "--trainer.accelerator", "cpu"),
    ):
        status, errors = ov2kit(*arguments)
        assert status == 2, arguments
        assert errors[-1].startswith("error: "), arguments
        assert not (tmp_path / "o").exists(), arguments


def test_pipes_within_data_and_folders(clip, tmp_path):
    os.mkfifo(tmp_path / "p.mp4")
    for tokenizer in (ImageTokenizer(), FrameTokenizer(1), CodecTokenizer(1), VideoStream):
        with pytest.raises(VideoError, match=r"p.mp4: expected .*, got a pipe"):
            tokenizer(tmp_path / "p.mp4")
    with pytest.raises(VideoError, match="got a device"):
        VideoStream("/dev/zero")
    with open(clip, "rb") as file:  # a file that the caller has opened is the caller's
        assert VideoStream(file).num_frames == 10
    folder = tmp_path / "canvases"
    CodecTokenizer(1)(clip).save(folder)
    (folder / "canvases.safetensors").unlink()
    os.mkfifo(folder / "canvases.safetensors")
    from ov2kit.recipes.prompt.media import load_canvases

    with pytest.raises(ValueError, match="got a pipe"):
        load_canvases(folder)


def test_a_bad_file_never_ends_the_batch(ov2kit, clip, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "p.mp4")
    (tmp_path / "bad.mp4").write_bytes(clip.read_bytes())
    forward = CodecTokenizer.forward

    def odd(self, video, *args, **options):
        if str(video) == "bad.mp4":
            raise RuntimeError("a decoder\nfell over")
        return forward(self, video, *args, **options)

    monkeypatch.setattr(CodecTokenizer, "forward", odd)
    status, errors = ov2kit("tokenize", "p.mp4", "bad.mp4", "/dev/null", ".", clip, "--out", "o", *ONE)
    assert status == 2
    assert [line[: len("error: ")] for line in errors] == ["error: "] * 4, errors
    assert "bad.mp4: RuntimeError: a decoder fell over" in errors[1]
    assert os.listdir(tmp_path / "o") == ["x"]


def test_pipes_and_long_texts_in_records_are_faults_of_their_own(tmp_path):
    os.mkfifo(tmp_path / "p.mp4")
    turns = [{"role": "user", "content": "<image> hi"}, {"role": "assistant", "content": "ho"}]
    media = [["p.mp4"], ["data:image/png;base64," + "A" * 260_000], [{"a": "b" * 260_000}], ["no\nfile"]]
    lines = [json.dumps({"id": str(n), "messages": turns, "images": each}) for n, each in enumerate(media)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, json.dumps(record())]))
    index = ConversationIndex(tmp_path / "a.jsonl")
    assert len(index) == 1
    assert len(index.faults) == 4
    assert "is a pipe, expected a file" in str(index.faults[0])
    for fault in index.faults:
        assert len(str(fault)) < 400
        assert "\n" not in str(fault)


# --- sizes


def tall_clip(path, height=262_416):
    """A video whose header declares pictures of 640 x `height`."""
    encode(path, codec="ffv1", frames=2, size=(16, 640))
    data = path.read_bytes()
    small, tall = (struct.pack("<ii", 640, rows) for rows in (16, height))
    assert small in data
    path.write_bytes(data.replace(small, tall))
    return path


def test_a_video_is_bounded_by_its_header(tmp_path):
    tall = tall_clip(tmp_path / "tall.avi")
    for make in (VideoStream, FrameTokenizer(1), CodecTokenizer(1)):
        with pytest.raises(VideoError, match=r"tall.avi: .* more than max_source_pixels=67108864"):
            make(tall)
    clip = encode(tmp_path / "x.mp4", frames=5)  # 96 x 128
    assert VideoStream(clip, max_source_pixels=96 * 128).num_frames == 5
    for make in (FrameTokenizer(1, max_source_pixels=96 * 128 - 1), CodecTokenizer(1, max_source_pixels=96 * 128 - 1)):
        with pytest.raises(
            VideoError, match=r"pictures of 128 x 96 are 12288 pixels, more than max_source_pixels=12287"
        ):
            make(clip)


def test_pictures_that_grow_later_are_not_decoded(tmp_path):
    """The header of the first part is small; of the second, the decoder is not to take the memory."""
    parts = [encode(tmp_path / f"{n}.h264", frames=8, size=(n, n), bframes=0) for n in (64, 256)]
    joined = tmp_path / "joined.h264"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(list(VideoStream(joined).frames(rgb=False))) == 16
    with pytest.warns(UserWarning, match="could not be decoded|missing"):
        assert len(list(VideoStream(joined, max_source_pixels=64 * 64).frames(rgb=False))) == 8


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_record_is_bounded(tmp_path, kind):
    good, long = json.dumps(record()), json.dumps(record(more="x" * 3000))
    path = tmp_path / f"a.{kind}"
    path.write_text(f"[{good},\n{long},\n{good}]" if kind == "json" else f"{good}\r\n\n{long}\n{good}")
    file = RecordFile(path, max_record_bytes=1000)
    assert [file.place(n).rpartition(":")[2] for n in range(3)] == (
        ["1", "2", "3"] if kind == "json" else ["1", "3", "4"]
    )
    assert file.read(0) == file.read(2) == record()
    with pytest.raises(BadRecord, match="bytes are more than max_record_bytes=1000"):
        file.read(1)
    index = ConversationIndex(path, max_record_bytes=1000)
    assert len(index) == 2
    assert len(index.faults) == 1
    assert len(ConversationIndex(path)) == 2 + (kind == "jsonl") + (kind == "json")


@pytest.mark.parametrize("value", [0, -1, True, 1.5, float("nan"), "5", None])
def test_bounds_are_whole_numbers_from_1_on(tmp_path, clip, value):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record()))
    for make in (
        lambda: ImageTokenizer(max_source_pixels=value),
        lambda: FrameTokenizer(max_source_pixels=value),
        lambda: CodecTokenizer(max_source_pixels=value),
        lambda: VideoStream(clip, max_source_pixels=value),
        lambda: load_assets(tmp_path, max_source_pixels=value),
        lambda: RecordFile(path, value),
        lambda: ConversationIndex(path, max_record_bytes=value),
    ):
        with pytest.raises(ValueError, match=r"max_\w+ must be (a whole number, )?at least 1, got"):
            make()


# --- a full disk


def test_a_full_disk_is_one_line_and_nothing_half_written(ov2kit, tmp_path, small_disk):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    write_release(tmp_path / "m")
    torch.save(lightning_content(), tmp_path / "last.ckpt")
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    before = tree(tmp_path)
    for arguments in (
        ("convert", "m", "n"),
        ("convert", "m", "deep/er/n.ckpt"),
        ("convert", "last.ckpt", "n"),
        ("tokenize", SAMPLE, "--out", "o", "--format", "npy", *ONE),
        ("tokenize", SAMPLE, "--out", "o", "--format", "safetensors", *ONE),
        ("report", SAMPLE, "--out", "o/page.html", "--budget_canvases", "8", "--quiet"),
        ("jumpset", "--out", "o", "--clips", "8", "--encoding", "x264-intra", "--size", "256"),
    ):
        status, errors = ov2kit(*arguments)
        assert (status, len(errors)) == (2, 1), arguments
        assert "cannot be written" in errors[0], arguments
        assert "free some space" in errors[0], arguments
        assert tree(tmp_path) == before, arguments


def test_a_full_disk_while_training_is_one_line(ov2kit, tmp_path, small_disk):
    (tmp_path / "d.jsonl").write_text(json.dumps(record()) + "\n")
    status, errors = ov2kit(
        "fit", "--data.sources.path", "d.jsonl", "--model.size", "tiny", "--model.train.language_model", "1e-3",
        "--out", "o", "--trainer.accelerator", "cpu", "--trainer.max_steps", "1",
        "--checkpoint.every_n_train_steps", "1",
    )  # fmt: skip
    assert status == 2
    assert "last.ckpt: cannot be written" in errors[-1] or ".ckpt: cannot be written" in errors[-1]
    assert errors[-1].startswith("error: ")
    assert not any("Traceback" in line for line in errors)
    assert not [path for path in tmp_path.rglob("*") if "partial" in path.name or path.suffix == ".ckpt"]


def test_modes_follow_the_umask(ov2kit, clip, tmp_path):
    before = os.umask(0o022)
    try:
        assert ov2kit("tokenize", clip, "--out", "o", "--format", "safetensors", *ONE)[0] == 0
        assert ov2kit("tokenize", clip, "--out", "q", *ONE)[0] == 0
        assert ov2kit("report", clip, "--out", "r.html", *ONE)[0] == 0
        write_release(tmp_path / "m")
        assert ov2kit("convert", "m", "n")[0] == 0
        assert ov2kit("convert", "m", "n.ckpt")[0] == 0
    finally:
        os.umask(before)
    made = [
        path
        for name in ("o", "q", "n", "n.ckpt", "r.html")
        for path in [tmp_path / name, *(tmp_path / name).rglob("*")]
    ]
    modes = {path: path.stat().st_mode & 0o777 for path in made}
    assert all(mode == (0o755 if path.is_dir() else 0o644) for path, mode in modes.items()), modes
    assert np.isin([".safetensors", ".png", ".ckpt"], [path.suffix for path in made]).all()
