"""`ov2kit track`: the whole path, on a real clip with a tracker of transformers, and on a set with known truth."""

import json
from html.parser import HTMLParser

import av
import numpy as np
import pytest
from PIL import Image

from ov2kit.cli import run
from ov2kit.errors import DataError
from ov2kit.recipes import Processor, build, release_config, small_tokenizer
from ov2kit.recipes.evaluation.predictions import read_lines
from ov2kit.recipes.evidence.films.tracking_scene import TrackingScene
from ov2kit.recipes.evidence.films.tracking_set import make_tracking_set
from ov2kit.recipes.spatial.evaluate import evaluate_referring
from ov2kit.recipes.spatial.frames import VideoFrames
from ov2kit.recipes.spatial.layouts import read_referring
from ov2kit.recipes.spatial.page import write_page
from ov2kit.recipes.spatial.region_growing import RegionGrowing
from ov2kit.recipes.spatial.rle import decode_mask
from ov2kit.recipes.spatial.segmenter import MaskTracks
from tests.paths import SAMPLE
from tests.recipes.spatial import set_folders, tiny_sam

ANSWER = '<tracks coords="0.5 0 500 500; 2.0 0 480 510 1 200 300; 9 0 2000 1">rabbit</tracks>'


@pytest.fixture(scope="module")
def tracking_set(tmp_path_factory):
    scene = TrackingScene(seconds=2.0, pillars=0.0)
    return make_tracking_set(tmp_path_factory.mktemp("set") / "data", (1, 1, 2), seed=3, scene=scene)


def test_one_video_gives_points_masks_a_video_and_a_contact_sheet(tmp_path, capsys):
    sam = tiny_sam.sam2(tmp_path / "sam")
    out = tmp_path / "out"
    arguments = ["track", "--video", str(SAMPLE), "--prompt", "the rabbit", "--answer", ANSWER, "--fps", "2"]
    assert run([*arguments, "--segmenter", str(sam), "--device", "cpu", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "2 objects, 3 points" in shown.out
    assert "(2000, 1) of object 0 at 9 s is outside 0 to 1000" in shown.err
    result = json.loads((out / "tracks.json").read_text())
    assert result["label"] == "rabbit"
    assert [(p["seconds"], p["object"], p["x"], p["y"]) for p in result["points"]] == [
        (0.5, 0, 320.0, 180.0), (2.0, 0, 307.2, 183.6), (2.0, 1, 128.0, 108.0),
    ]  # fmt: skip
    assert set(result["seconds"]) == {"answer", "segment", "draw"}
    frames = VideoFrames(SAMPLE, fps=2)
    assert [len(track) for track in result["masks"].values()] == [len(frames)] * 2
    coded = next(mask for mask in result["masks"]["0"] if mask is not None)
    assert decode_mask(coded).shape == frames.size
    with av.open(str(out / "overlay.mp4")) as video:
        pictures = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert (len(pictures), pictures[0].shape) == (len(frames), (*frames.size, 3))
    number = next(k for k, mask in enumerate(result["masks"]["0"]) if mask is not None)
    inside = decode_mask(result["masks"]["0"][number])
    changed = np.abs(pictures[number].astype(int) - frames[number]).mean(-1)
    assert changed[inside].mean() > 4 * max(changed[~inside].mean(), 1) or not (~inside).any()
    assert Image.open(out / "contact_sheet.png").width > 400


def test_true_points_reach_their_ceiling_on_a_set_and_the_page_shows_the_worst(tracking_set, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["track", "--data", str(tracking_set), "--true_points", "--out", str(out), "--attributes", "--quiet"]
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert "fast motion" in shown
    scores = json.loads((out / "scores.json").read_text())
    assert scores["errors"] == 0
    assert scores["point_f1"] == pytest.approx(1.0)
    assert scores["j&f"] > 0.85
    assert scores["segmenter_share"] == 1.0
    assert scores["attributes"]["all"]["videos"] == scores["expressions"]
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == min(8, scores["expressions"])
    assert "http" not in page
    HTMLParser().feed(page)


def test_answers_are_scored_kept_and_not_asked_again(tracking_set, tmp_path):
    items = read_referring(tracking_set)
    asked = []

    def answer(video, prompt):
        asked.append((video.name, prompt))
        return "nothing" if len(asked) == 1 else '<tracks coords="0 0 500 500">x</tracks>'

    first = evaluate_referring(answer, RegionGrowing(), items, tmp_path / "out")
    assert [prompt.splitlines()[0] for _, prompt in asked] == [f"Track the {item.expression}" for item in items]
    assert 0 < first["ceiling_j&f"] > first["j&f"]
    again = evaluate_referring(answer, RegionGrowing(), items, tmp_path / "out")
    assert len(asked) == len(items)
    assert again == first
    with pytest.raises(DataError, match="ceiling_every 3"):
        evaluate_referring(answer, RegionGrowing(), items, tmp_path / "out", ceiling_every=1)


def test_a_folder_of_pictures_is_shown_to_the_model_as_a_video(tmp_path):
    items = read_referring(set_folders.mevis(tmp_path / "set"))
    shown = []

    def answer(video, prompt):
        shown.append(len(VideoFrames(video, fps=None)))
        return '<tracks coords="0 0 180 250 1 750 750">x</tracks>'

    scores = evaluate_referring(answer, RegionGrowing(), items, tmp_path / "out", ceiling_every=1)
    assert shown == [set_folders.FRAMES] * 2
    assert scores["errors"] == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert lines[1]["j"] > 0.85  # both squares, followed from one point each
    assert lines[0]["point_precision"] < lines[1]["point_precision"]


def test_fewer_expressions_leave_the_answers_to_the_others(tracking_set, tmp_path):
    items = read_referring(tracking_set)
    asked = []

    def answer(video, prompt):
        asked.append(video)
        return '<tracks coords="0 0 500 500">x</tracks>'

    out = tmp_path / "out"
    whole = evaluate_referring(answer, RegionGrowing(), items, out)
    few = evaluate_referring(answer, RegionGrowing(), items[1:2], out)
    assert few["expressions"] == 1
    assert evaluate_referring(answer, RegionGrowing(), items, out) == whole
    assert len(asked) == len(items)
    ids = [json.loads(line)["id"] for line in (out / "predictions.jsonl").read_text().split("\n") if line]
    assert ids == [item.id for item in items]


def test_pictures_of_another_size_than_the_masks_are_scored_at_their_own(tmp_path):
    root = set_folders.mevis(tmp_path / "set")
    for path in (root / "valid_u" / "JPEGImages" / "clip").iterdir():
        picture = Image.open(path)
        picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(path, quality=95)
    items = read_referring(root)
    scores = evaluate_referring(None, RegionGrowing(), items, tmp_path / "out", ceiling_every=1)
    assert scores["errors"] == 0
    hidden = 2 / 3  # of two masks one is hidden in the last of 4 pictures: a recall of 1/2
    assert scores["point_f1"] == pytest.approx((1 + (3 + hidden) / 4) / 2)
    assert scores["j"] > 0.85
    coded = json.loads((tmp_path / "out" / "masks" / f"{items[0].id}.json").read_text())["0"][0]
    assert decode_mask(coded).shape == (2 * set_folders.SIZE[0], 2 * set_folders.SIZE[1])
    lines = read_lines(tmp_path / "out" / "predictions.jsonl")
    write_page(tmp_path / "page.html", scores, lines, items, tmp_path / "out" / "masks")
    assert (tmp_path / "page.html").read_text().count("data:image/png") == 2
    for path in (root / "valid_u" / "JPEGImages" / "clip").iterdir():
        Image.open(path).resize((48, 64)).save(path)
    scores = evaluate_referring(None, RegionGrowing(), read_referring(root), tmp_path / "turned")
    assert scores["errors"] == 2
    assert "expected one shape" in (tmp_path / "turned" / "predictions.jsonl").read_text()


def test_masks_at_another_size_are_the_pixels_they_begin_in():
    mask = np.array([[True, False], [False, True]])
    tracks = MaskTracks(1, (2, 2))
    tracks.put(0, {3: mask})
    assert (tracks.resized((4, 6)).mask(3, 0) == np.kron(mask, np.ones((2, 3), dtype=bool))).all()
    assert tracks.resized((3, 3)).mask(3, 0).astype(int).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert tracks.resized((1, 1)).mask(3, 0).tolist() == [[True]]


def test_a_failure_counts_zero_and_is_named(tmp_path):
    root = set_folders.ref_youtube_vos(tmp_path / "set")
    (root / "valid" / "Annotations" / "clip" / "00000.png").unlink()
    scores = evaluate_referring(None, RegionGrowing(), read_referring(root), tmp_path / "out")
    assert (scores["errors"], scores["attributes"]["all"]["with"]) == (2, 0.0)
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])
    assert "00000.png: this mask cannot be read" in line["error"]


def test_processes_share_a_set_and_the_last_one_merges(tracking_set, tmp_path, capsys):
    given = ["track", "--data", str(tracking_set), "--true_points", "--quiet", "--out"]
    assert run([*given, str(tmp_path / "alone")]) == 0
    out = tmp_path / "shared"
    assert run([*given, str(out), "--rank", "1", "--world_size", "2"]) == 0
    assert "others still have expressions" in capsys.readouterr().out
    assert not (out / "scores.json").exists()
    assert run([*given, str(out), "--rank", "0", "--world_size", "2"]) == 0
    alone, shared = (json.loads((tmp_path / name / "scores.json").read_text()) for name in ("alone", "shared"))
    assert {**alone, "seconds": None} == {**shared, "seconds": None}
    ids = [
        [json.loads(line)["id"] for line in (tmp_path / name / "predictions.jsonl").read_text().split("\n") if line]
        for name in ("alone", "shared")
    ]
    assert ids[0] == ids[1]
    assert sorted(path.name for path in (out / "masks").iterdir()) == sorted(
        path.name for path in (tmp_path / "alone" / "masks").iterdir()
    )


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("a bug"), OSError(28, "disk full", "log")])
def test_what_is_no_fault_of_a_video_ends_the_run(error, tracking_set, tmp_path):
    def answer(video, prompt):
        raise error

    with pytest.raises(type(error)):
        evaluate_referring(answer, RegionGrowing(), read_referring(tracking_set), tmp_path / "out")
    assert not (tmp_path / "out" / "scores.json").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--out", "o"], "give --video with --prompt, or --data"),
        (["--out", "o", "--video", str(SAMPLE)], "--video needs --prompt"),
        (["--out", "o", "--video", str(SAMPLE), "--prompt", "x"], "--model is needed to ask"),
        (["--out", "o", "--video", str(SAMPLE), "--prompt", "x", "--model", "nowhere"], "expected a model directory"),
        (["--out", "o", "--video", str(SAMPLE), "--prompt", "x", "--fps", "0"], "--fps must be from 0.01 to 1000"),
        (
            ["--out", "o", "--video", str(SAMPLE), "--prompt", "x", "--limit", "3"],
            "--limit has no meaning with --video",
        ),
        (["--out", "o", "--data", "nowhere", "--prompt", "x"], "--prompt has no meaning with --data"),
        (["--out", "o", "--data", "x", "--true_points", "--model", "y"], "--true_points asks no model"),
        (["--out", "o", "--data", "nowhere", "--true_points"], "expected a folder of referring segmentation"),
    ],
)
def test_bad_input_is_one_line(arguments, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["track", *arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert problem in shown
    assert not (tmp_path / "o").exists()


def test_a_model_directory_is_asked_the_public_question(tmp_path, capsys):
    tokenizer = small_tokenizer()
    model = build(release_config("tiny", tokenizer=tokenizer))
    model.save_pretrained(tmp_path / "model", Processor(tokenizer))
    arguments = ["--video", str(SAMPLE), "--prompt", "the rabbit", "--fps", "1", "--out", str(tmp_path / "out")]
    small = ["--max_new_tokens", "3", "--budget_canvases", "1", "--device", "cpu", "--json"]
    assert run(["track", "--model", str(tmp_path / "model"), *arguments, *small]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert isinstance(shown["answer"], str)
    assert shown["seconds"]["answer"] > 0
    assert shown["points"] == []  # random weights write no tracks
    assert json.loads((tmp_path / "out" / "tracks.json").read_text())["masks"] == {}
    assert (tmp_path / "out" / "overlay.mp4").stat().st_size > 0
