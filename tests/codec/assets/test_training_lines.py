"""`ov2kit tokenize --jsonl`: what the release's trainer makes of its lines, derived here from the fields it reads."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from ov2kit.cli import run
from ov2kit.codec import load_assets
from ov2kit.codec.assets.training_lines import read_talks
from ov2kit.errors import DataError
from tests.clips import encode
from tests.paths import SAMPLE

SMALL = ("--budget_canvases", "3", "--max_pixels", "20000", "--quiet")


def tokenize(out, *arguments):
    return run(["tokenize", *map(str, arguments), "--out", str(out), *SMALL])


def lines(out):
    return [json.loads(line) for line in (out / "train.jsonl").read_text().split("\n")[:-1]]


def trained_text(line, root, patch=14, merge=2):
    """Text of the first message as the trainer rewrites it: pictures become runs of one source frame each."""
    pictures = [Image.open(root / name) for name in line["images"]]
    positions = np.concatenate([np.load(root / name) for name in line["patch_positions"]])
    width, height = pictures[0].size
    rows, columns = height // patch, width // patch
    assert {picture.size for picture in pictures} == {(width, height)}
    assert len(positions) == len(pictures) * rows * columns
    assert (positions >= 0).all()
    # raster order to blocks of merge x merge patches
    grid = positions.reshape(len(pictures), rows // merge, merge, columns // merge, merge, 3)
    frames = grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, merge * merge, 3)[:, 0, 0].tolist()
    runs = [[frames[0], 0]]
    for frame in frames:
        runs[-1][1] += 1
        if frame != runs[-1][0]:
            runs[-1][1] -= 1
            runs.append([frame, 1])
    (fps,), digits = line["fps"], line["timestamp_decimal"]
    said = "".join(
        f"<{frame / fps:.{digits}f} seconds><|vision_start|>{'<|image_pad|>' * count}<|vision_end|>\n"
        for frame, count in runs
    )
    text = next(message["content"] for message in line["messages"] if "<image>" in message["content"])
    assert text.count("<image>") == len(pictures)
    before, after = re.fullmatch(r"(.*?)(?:<image>\n)+(.*)", text, re.DOTALL).groups()
    return before + said + after


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_trainer_reads_the_prompt_that_our_processor_writes(tmp_path):
    talks = write(
        tmp_path / "talks.jsonl",
        {"id": "one", "videos": [str(SAMPLE)], "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look: <video>\nWhat happens?"}, {"role": "assistant", "content": "Enough."}]},
        {"videos": ["other.mp4"], "messages": [{"role": "user", "content": "When?"}]},
        {"videos": [str(SAMPLE)], "messages": [{"role": "user", "content": "And é?"}]},
    )  # fmt: skip
    encode(tmp_path / "other.mp4", frames=25)
    out = tmp_path / "out"
    assert tokenize(out, SAMPLE, tmp_path / "other.mp4", "--jsonl", talks, "--decimals", 2) == 0
    one, other, again = lines(out)
    assert (one["id"], other["id"], again["id"]) == ("one", "line-2", "line-3")
    assert one["timestamp_decimal"] == 2
    assert [message["role"] for message in one["messages"]] == ["system", "user", "assistant"]
    assert one["messages"][2]["content"] == "Enough."
    shown = load_assets(out / SAMPLE.stem).prompt(decimals=2)
    assert trained_text(one, out) == f"Look: {shown}What happens?"
    assert trained_text(again, out) == f"{shown}And é?"
    assert trained_text(other, out) == load_assets(out / "other").prompt(decimals=2) + "When?"


def test_without_conversations_the_videos_stand_alone(tmp_path):
    assert tokenize(tmp_path / "out", SAMPLE, "--jsonl") == 0
    (line,) = lines(tmp_path / "out")
    assert line["id"] == SAMPLE.stem
    assert trained_text(line, tmp_path / "out") == load_assets(tmp_path / "out" / SAMPLE.stem).prompt()


def test_wrong_time_stamps_are_told_before_anyone_trains_on_them(tmp_path, capfd):
    times = [0, 40, 80, 1500, 1540, 4000, 4040]
    encode(tmp_path / "vfr.mp4", frames=len(times), times_ms=times)
    assert tokenize(tmp_path / "out", tmp_path / "vfr.mp4", "--jsonl") == 0
    (warning,) = [line for line in capfd.readouterr().err.split("\n") if line.startswith("warning")]
    assert re.search(r"time stamps, index / fps, are off by up to \d\.\d+ s", warning)
    assert tokenize(tmp_path / "out", SAMPLE, "--jsonl", "--overwrite") == 0
    assert "warning" not in capfd.readouterr().err


def test_videos_that_fail_and_conversations_of_others_have_no_line(tmp_path, capfd):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    user = [{"role": "user", "content": "When?"}]
    records = [{"id": name, "videos": [video], "messages": user} for name, video in (
        ("a", "broken.mp4"), ("b", str(SAMPLE)), ("c", "elsewhere.mp4"))]  # fmt: skip
    talks = write(tmp_path / "talks.jsonl", *records)
    assert tokenize(tmp_path / "out", tmp_path / "broken.mp4", SAMPLE, "--jsonl", talks) == 2
    assert [line["id"] for line in lines(tmp_path / "out")] == ["b"]
    assert "1 of 3 conversations are of other videos" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "expected an object, got list"),
        ({"messages": [{"role": "user", "content": "x"}]}, "expected one path in a list 'videos'"),
        ({"videos": ["a.mp4", "b.mp4"], "messages": []}, "expected one path in a list 'videos'"),
        ({"videos": ["a.mp4"], "images": ["b.png"], "messages": []}, "and no images"),
        ({"videos": ["a.mp4"]}, "'messages' must be a list"),
        ({"videos": ["a.mp4"], "messages": [{"role": "judge", "content": "x"}]}, "a role of system, user, assistant"),
        ({"videos": ["a.mp4"], "messages": [{"role": "user", "content": "<image> x"}]}, "<image> in a text"),
        ({"videos": ["a.mp4"], "messages": [{"role": "user", "content": "<video><video>"}]}, "must stand once"),
        ({"videos": ["a.mp4"], "messages": [{"role": "user", "content": "x"},
                                            {"role": "assistant", "content": "<video>"}]}, "must stand once"),
        ({"videos": ["a.mp4"], "messages": [{"role": "assistant", "content": "x"}]}, "no message of the user"),
    ],
)  # fmt: skip
def test_conversations_of_another_form_are_refused_before_any_video_is_read(tmp_path, record, message):
    talks = write(
        tmp_path / "talks.jsonl", {"videos": ["a.mp4"], "messages": [{"role": "user", "content": "x"}]}, record
    )
    with pytest.raises(DataError, match=re.escape(f"{talks}, line 2: ") + ".*" + re.escape(message)):
        read_talks(talks)
    assert tokenize(tmp_path / "out", SAMPLE, "--jsonl", talks) == 2
    assert not (tmp_path / "out").exists()


def test_lines_that_are_there_stay_and_formats_that_nobody_reads_are_refused(tmp_path, capfd):
    out = tmp_path / "out"
    assert tokenize(out, SAMPLE, "--jsonl") == 0
    before = (out / "train.jsonl").read_bytes()
    assert tokenize(out, encode(tmp_path / "b.mp4"), "--jsonl") == 2
    assert "train.jsonl: exists already" in capfd.readouterr().err
    assert (out / "train.jsonl").read_bytes() == before
    assert not (out / "b").exists()
    assert tokenize(tmp_path / "o2", SAMPLE, "--jsonl", "--format", "npy") == 2
    assert "--jsonl needs --format png or jpg" in capfd.readouterr().err
    moved = write(out / "train.jsonl", {"videos": [str(SAMPLE)], "messages": [{"role": "user", "content": "x"}]})
    assert tokenize(out, SAMPLE, "--overwrite", "--jsonl", moved) == 2
    assert "would be overwritten" in capfd.readouterr().err
