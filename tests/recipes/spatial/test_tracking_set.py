"""The tracking set: its truth is what its pixels show, its records train, and the small model goes the whole path."""

import json

import numpy as np
import pytest
import torch

from ov2kit.errors import DataError
from ov2kit.recipes.data.conversations import read_conversation
from ov2kit.recipes.evidence.films.rendered_set import SPLITS
from ov2kit.recipes.evidence.films.tracking_scene import COLORS, TrackingScene, render_tracking
from ov2kit.recipes.evidence.films.tracking_set import make_tracking_set
from ov2kit.recipes.evidence.pointing.one_run import run_pointing, score_answers, true_answers
from ov2kit.recipes.evidence.pointing.point_readout import PointQuery, PointReadout
from ov2kit.recipes.evidence.pointing.truth import KINDS, read_truth
from ov2kit.recipes.evidence.runs.canvas_store import build_canvases
from ov2kit.recipes.evidence.runs.variant import Variant
from ov2kit.recipes.spatial.layouts import read_referring
from ov2kit.recipes.spatial.tracks import parse_tracks

SCENE = TrackingScene(seconds=1.5, size=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tracking_set(tmp_path_factory.mktemp("set") / "data", (4, 1, 1), seed=5, scene=SCENE)


def test_masks_are_where_the_colors_are():
    clip = render_tracking(3, TrackingScene(seconds=1.0, noise=0.0, pillars=0.0))
    for number, name in enumerate(clip.colors):
        away = np.abs(clip.frames.astype(int) - np.array(COLORS[name])).mean(-1)
        inside = clip.masks[number]
        assert np.median(away[inside]) < 25 < np.median(away[~inside])
    assert (clip.masks.sum(0) <= 1).all()
    again = render_tracking(3, TrackingScene(seconds=1.0, noise=0.0, pillars=0.0))
    assert (again.frames == clip.frames).all()


def test_a_pillar_hides_what_is_behind_it():
    clips = [render_tracking(seed, TrackingScene(seconds=0.5, pillars=1.0, drift=0.0)) for seed in range(4)]
    for clip in clips:
        gray = (np.abs(clip.frames.astype(int) - np.array((95, 92, 88))).max(-1) < 14).all(axis=1)  # whole columns
        assert gray.any()
        assert not (clip.masks.any(0) & gray[:, None, :]).any()


def test_the_set_is_what_training_and_evaluation_read(folder):
    for split in SPLITS:
        for record in json.loads((folder / f"{split}.json").read_text()):
            conversation = read_conversation(record, folder, "x")
            assert conversation.kind == "video"
            tracks = parse_tracks(record["messages"][1]["content"], strict=True)
            assert tracks.object_ids() == (0,)
    items = read_referring(folder)
    documents = json.loads((folder / "annotations.json").read_text())
    assert [item.expression for item in items] == [d["expression"] for d in documents]
    for item in items:
        truth = item.read_masks()
        assert truth.frames == len(item.frames())
        for frame, places in (item.places or {}).items():
            x, y = places[0]
            assert truth.mask(0, frame)[int(y), int(x)]
    with pytest.raises(DataError, match="exists already"):
        make_tracking_set(folder, (1, 1, 1))


def test_true_answers_score_full_marks_in_points(folder):
    rows = score_answers(folder, "test", true_answers(folder, "test"))
    assert {row["point_f1"] for row in rows} == {1.0}
    assert np.mean([row["j&f"] for row in rows]) > 0.7


def test_the_read_out_points_at_the_token_that_holds_the_kind():
    readout = PointReadout(8, kinds=2)
    tokens = torch.randn(6, 8)
    place = torch.rand(6, 2)
    frame = torch.tensor([0, 0, 0, 2, 2, 2])  # two clips with two frames each, the second frame without tokens
    seconds = torch.tensor([[0.0, float("nan")], [0.5, float("nan")]])
    query = PointQuery(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0, 1]))
    found = readout(tokens, place, frame, seconds, query)
    assert found.shape == (2, 3, 3)
    other = readout(tokens.index_fill(0, torch.tensor([3, 4, 5]), 0.3), place, frame, seconds, query)
    assert torch.equal(found[0], other[0])  # a clip does not see the other
    assert not torch.equal(found[1], other[1])
    asked = readout(tokens, place, frame, seconds, PointQuery(query.seconds, torch.tensor([1, 1])))
    assert not torch.equal(found[0], asked[0])


@pytest.mark.parametrize("source", ["codec", "frames"])
def test_the_small_model_goes_the_whole_path_and_learns(source, folder, tmp_path):
    for split in SPLITS:
        videos = [str(next((folder / "videos").glob(f"{name}.*"))) for name in read_truth(folder, split)[0]]
        (tmp_path / f"{split}.json").write_text(json.dumps([{"video": v, "answer": "[]"} for v in videos]))
    variant = Variant(source=source, budget=2, canvas=64, size=64, width=32, depth=1, steps=40, batch=4, lr=5e-3)
    build_canvases(variant, tmp_path, tmp_path / "canvases")
    found = run_pointing(variant, 0, folder, tmp_path / "canvases", split="train")
    first = run_pointing(Variant(**{**variant.plain(), "difficulty": (), "steps": 1}), 0, folder, tmp_path / "canvases")
    assert found["loss"] < 0.8 * first["loss"]
    assert found["tokens"] == 2 * 16
    assert len(found["rows"]) == sum(len(t.kinds) for t in read_truth(folder, "train")[1])
    assert 0 <= found["scores"]["j&f"] <= 1
    assert len(KINDS) == 4
