"""Files of every format version that was ever written are read, and newer ones are one clear error.

tests/formats/vN holds what the project wrote while N was a format's newest version. They are never written again.
"""

import json
import shutil

import pytest
import torch

from ov2kit import Canvases
from ov2kit.codec import Provenance, load_assets
from ov2kit.errors import AssetError, CheckpointError, DataError, OptionError
from ov2kit.files import check_format, format_name
from tests.paths import ROOT

STORED = ROOT / "tests" / "formats"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_canvases_of_each_version(version):
    canvases = Canvases.load(STORED / version / "canvases")
    canvases.validate()
    assert len(canvases) > 0
    assert canvases.provenance["preset"]


def test_both_versions_of_canvases_hold_the_same():
    old, new = (Canvases.load(STORED / version / "canvases") for version in ("v1", "v2"))
    assert torch.equal(old.images, new.images)
    assert torch.equal(old.positions, new.positions)
    assert old.frame_times == new.frame_times


def test_assets_of_version_1_are_the_canvases():
    assets, canvases = load_assets(STORED / "v1" / "assets"), Canvases.load(STORED / "v1" / "canvases")
    assert torch.equal(assets.images, canvases.images)
    assert torch.equal(assets.positions, canvases.positions)


def test_provenance_of_version_1_and_from_before():
    plain = json.loads((STORED / "v1" / "provenance.json").read_text(encoding="utf-8"))
    made = Provenance.from_dict(plain)
    assert made.to_dict() == plain
    assert (made.source.name, made.source.frames, made.lost.packets) == ("bbb_360p.mp4", 132, 132)
    before = Provenance.of(Canvases.load(STORED / "v1" / "canvases"))  # names no version
    assert (before.preset, before.seconds) == ("paper", {"decode": 0.1})
    assert dict(before.other) == {"signal": "motion+residual"}  # text once, kept as it is


def test_the_canvas_store_of_version_1():
    pytest.importorskip("transformers", reason="needs the recipes extra")
    from ov2kit.recipes.evidence.runs.canvas_store import read_canvases

    for split in ("train", "val", "test"):
        assert len(read_canvases(STORED / "v1" / "canvas_store", split)) > 0


def test_the_set_of_events_of_version_1():
    pytest.importorskip("pycocotools", reason="needs the recipes extra")
    from ov2kit.recipes.evidence.films.eventset import read_events

    for split in ("tune", "test"):
        (clip,) = read_events(STORED / "v1" / "eventset", split)
        (event,) = clip.events
        assert (clip.footage, clip.encoding, clip.size, event.kind) == ("still", "x264-veryfast", (64, 64), "turn")
        pixels = sum(int(mask.sum()) for mask in event.masks.values())
        assert (clip.frames, pixels) == {"tune": (30, 2016), "test": (60, 5460)}[split]


def test_predictions_and_their_settings_of_version_1():
    from ov2kit.recipes.evaluation.predictions import read_lines

    lines = read_lines(STORED / "v1" / "evaluation" / "predictions.jsonl")
    assert lines
    assert all("id" in line for line in lines)


def test_checkpoints_of_both_versions_become_the_same_model():
    pytest.importorskip("lightning", reason="needs the recipes extra")
    from ov2kit.recipes import LitLlavaOneVision2
    from ov2kit.recipes.model.convert import model_from_lightning

    files = [STORED / version / "checkpoint" / "start.ckpt" for version in ("v1", "v2")]
    old, new = (torch.load(file, weights_only=True) for file in files)
    assert [content["ov2kit"].get("format") for content in (old, new)] == [None, "ov2kit.checkpoint.2"]
    values = [
        sorted(tensor.double().sum().item() for tensor in content["state_dict"].values()) for content in (old, new)
    ]
    assert values[0] == values[1]
    for read in (model_from_lightning, lambda file: LitLlavaOneVision2.load_from_checkpoint(file).model):
        one, other = (read(file).state_dict() for file in files)
        assert {f"model.{name}" for name in one} == new["state_dict"].keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
        assert all(torch.equal(tensor, one[name.removeprefix("model.")]) for name, tensor in new["state_dict"].items())


def test_a_module_refuses_a_newer_checkpoint(tmp_path):
    pytest.importorskip("lightning", reason="needs the recipes extra")
    from ov2kit.recipes import LitLlavaOneVision2

    stored = STORED / "v2" / "checkpoint" / "start.ckpt"
    content = torch.load(stored, weights_only=True)
    module = LitLlavaOneVision2.load_from_checkpoint(stored)
    assert all(torch.equal(value, content["state_dict"][name]) for name, value in module.state_dict().items())
    content["ov2kit"]["format"] = "ov2kit.checkpoint.9"
    torch.save(content, tmp_path / "newer.ckpt")
    with pytest.raises(CheckpointError, match=r"'ov2kit.checkpoint.9' is newer than 'ov2kit.checkpoint.2'.*update"):
        LitLlavaOneVision2.load_from_checkpoint(tmp_path / "newer.ckpt")


def test_newer_versions_say_so(tmp_path):
    shutil.copytree(STORED / "v1" / "assets", tmp_path / "assets")
    meta = tmp_path / "assets" / "meta.json"
    facts = json.loads(meta.read_text(encoding="utf-8"))
    meta.write_text(json.dumps(facts | {"format": "ov2kit.assets.9"}), encoding="utf-8")
    with pytest.raises(
        AssetError, match=r"meta.json: format 'ov2kit.assets.9' is newer than 'ov2kit.assets.1'.*update"
    ):
        load_assets(tmp_path / "assets")


@pytest.mark.parametrize("error", [DataError, CheckpointError, OptionError])
def test_the_rule(error):
    assert check_format(None, "thing", 3, "f", error) == 1
    assert [check_format(format_name("thing", n), "thing", 3, "f", error) for n in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(error, match=r"f: format 'ov2kit.thing.4' is newer than 'ov2kit.thing.3'"):
        check_format("ov2kit.thing.4", "thing", 3, "f", error)
    for other in ("ov2kit.things.1", "ov2kit.thing.0", "ov2kit.thing.x", 7, ""):
        with pytest.raises(error, match=r"f: expected format 'ov2kit.thing.3', got"):
            check_format(other, "thing", 3, "f", error)
