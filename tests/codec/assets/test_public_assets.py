"""What public tools leave behind, read as their own readers read it."""

import json

import numpy as np
import pytest
import torch

from ov2kit import Canvases
from ov2kit.codec.assets.facts import has_pixels
from ov2kit.codec.assets.loading import load_assets
from ov2kit.errors import CanvasError
from tests.codec.assets.folders import make_canvases, write_public
from tests.paths import read_golden

TOPK = read_golden("07_groups_topk.npz")
TOPK_CASES = read_golden("07_groups_topk_meta.json")["cases"]
PROMPT = read_golden("11_prompt.npz")
PROMPT_META = read_golden("11_prompt_meta.json")
DROPS = PROMPT_META["drop_padding"]


def golden_case(case: int):
    return TOPK_CASES[case], {
        name: TOPK[f"case{case}_{name}"]
        for name in ("canvases_rgb", "frame_ids", "src_position_raster", "src_position_block_order")
    }


def expected_canvases(case: int):
    meta, data = golden_case(case)
    h, w = meta["grid_hw"]
    positions = data["src_position_raster"].reshape(-1, h, w, 3)
    keep = (positions[..., 0] >= 0).any((1, 2))
    return data["canvases_rgb"][keep], positions[keep], keep


@pytest.mark.parametrize("case", range(len(TOPK_CASES)))
@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_reads_the_public_tool(tmp_path, case, suffix):
    meta, data = golden_case(case)
    emitted = [group for group in meta["groups"] if group["emitted"]]
    per_group = meta["images_per_group"]
    public = {
        "codec_selector_version": 1,
        "codec_name": "h264",
        "score_source": "bitcost",
        "patch": meta["patch"],
        "block_size": meta["block_size"],
        "groups": [{"num_canvases": per_group, "global_img_offset": i * per_group} for i in range(len(emitted))],
    }
    folder = write_public(
        tmp_path / "clip", data["canvases_rgb"], data["src_position_raster"], public,
        frame_ids=data["frame_ids"], suffix=suffix, done=False,
    )  # fmt: skip
    loaded = load_assets(folder)
    pictures, positions, keep = expected_canvases(case)
    np.testing.assert_array_equal(loaded.images.permute(0, 2, 3, 1).numpy(), pictures)
    np.testing.assert_array_equal(loaded.positions.numpy(), positions)
    assert loaded.groups.tolist() == np.repeat(np.arange(len(emitted)), per_group)[keep].tolist()
    is_first = np.arange(len(keep)) % per_group == 0
    assert loaded.is_anchor.tolist() == is_first[keep].tolist()
    anchors = [int(p[0, 0, 0]) for p, a in zip(loaded.positions, loaded.is_anchor, strict=True) if a]
    assert anchors == [group["anchor_frame"] for group in emitted]
    assert loaded.frame_times == {int(i): int(i) / 25.0 for i in data["frame_ids"]}
    assert (loaded.patch, loaded.merge, loaded.signal, loaded.fps) == (
        meta["patch"], meta["block_size"], "bitcost", 25.0,
    )  # fmt: skip
    note = loaded.provenance["assets"]
    assert note["order"] == "raster"
    assert note["dropped_canvases"] == int((~keep).sum())
    assert "index / fps" in note["times"]
    assert loaded.provenance["codec"] == "h264"
    loaded.validate()


@pytest.mark.parametrize("case", range(len(TOPK_CASES)))
def test_reads_the_older_tool_in_block_order(tmp_path, case):
    meta, data = golden_case(case)
    w = meta["grid_hw"][1]
    folder = write_public(
        tmp_path / "clip", data["canvases_rgb"], data["src_position_block_order"],
        {"patch": meta["patch"], "merge": meta["block_size"]},
    )  # fmt: skip
    loaded = load_assets(folder)
    _, positions, _ = expected_canvases(case)
    np.testing.assert_array_equal(loaded.positions.numpy(), positions)
    is_same = w == meta["block_size"]  # one block a row: the two orders are one
    assert loaded.provenance["assets"]["order"] == ("raster" if is_same else "block")
    assert load_assets(folder, order="block").positions.equal(loaded.positions)
    if not is_same:
        wrong = load_assets(folder, order="raster")
        assert not wrong.positions.equal(loaded.positions)
        assert wrong.provenance["assets"]["order"] == "raster (as asked)"
        with pytest.raises(CanvasError):
            wrong.validate()


def test_older_tool_names_its_buckets(tmp_path):
    canvases = make_canvases()
    rgb = canvases.images.permute(0, 2, 3, 1).numpy()
    block = canvases.flat_positions().numpy()
    files = [f"canvas_{i:03d}.jpg" for i in range(4)]
    meta = {"canvas_files": None, "jpg_files": files, "canvas_bucket_ids": [0, 0, 1, 1], "canvas_roles": ["I", "P"] * 2}
    loaded = load_assets(write_public(tmp_path / "clip", rgb, block, meta, suffix="jpg"))
    assert torch.equal(loaded.positions, canvases.positions)
    assert torch.equal(loaded.groups, canvases.groups)
    assert torch.equal(loaded.is_anchor, canvases.is_anchor)
    assert loaded.patch == 4  # from the counts


def test_nothing_but_the_bare_layout(tmp_path):
    """Groups of four, anchors where a canvas is one whole frame, times from fps: all said to be inferred."""
    canvases = Canvases.cat([make_canvases()] * 2)
    rgb = canvases.images.permute(0, 2, 3, 1).numpy()
    folder = write_public(tmp_path / "clip", rgb[:7], canvases.positions.numpy()[:7].reshape(-1, 3), {})
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({"fps": meta["fps"]}))  # not even canvas_files
    loaded = load_assets(folder)
    assert loaded.groups.tolist() == [0, 0, 0, 0, 1, 1, 1]
    # Canvas 1 holds frames 5 and 6: not one whole frame.
    assert loaded.is_anchor.tolist() == [True, False, True, False, True, False, True]
    assert loaded.frame_times[24] == pytest.approx(0.96)
    assert loaded.provenance["assets"]["groups"] == "every 4 canvases"
    assert load_assets(folder, canvases_per_group=2).groups.tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert load_assets(folder, fps=10).frame_times[24] == pytest.approx(2.4)


def test_groups_of_four_are_counted_after_dropping_padding(tmp_path):
    canvases = make_canvases()
    index = [0, 1, 2, 3, 0, 1]
    rgb = canvases.images.permute(0, 2, 3, 1).numpy()[index]
    positions = canvases.positions.numpy()[index].copy()
    positions[1] = -1
    rgb[1] = 0
    loaded = load_assets(write_public(tmp_path / "clip", rgb, positions.reshape(-1, 3), {"patch": 4}))
    assert len(loaded) == 5
    assert loaded.groups.tolist() == [0, 0, 0, 0, 1]
    assert loaded.provenance["assets"]["dropped_canvases"] == 1


@pytest.mark.parametrize("case", range(len(DROPS)))
def test_padding_canvases_are_dropped_as_in_public(case):
    positions = PROMPT[f"drop{case}_positions"].reshape(DROPS[case]["num_canvases"], -1, 3)
    keep = has_pixels(positions)
    if "exception" in DROPS[case]:  # a partly padded canvas: the reference refuses it, we keep it
        partly = (positions[..., 0] >= 0).any(1) & (positions[..., 0] < 0).any(1)
        assert partly.any()
        assert keep[partly].all()
    else:
        assert np.flatnonzero(keep).tolist() == DROPS[case]["kept_canvases"]
        np.testing.assert_array_equal(positions[keep].reshape(-1, 3), PROMPT[f"drop{case}_kept_positions"])


def test_prompt_of_loaded_assets_is_the_public_one(tmp_path):
    """Frame id / fps in the time tags, as the public reader writes them."""
    canvases = make_canvases()
    rgb = canvases.images.permute(0, 2, 3, 1).numpy()
    folder = write_public(tmp_path / "clip", rgb, canvases.positions.numpy().reshape(-1, 3), {"patch": 4})
    lines = load_assets(folder).prompt().splitlines()
    pad = "<|image_pad|>"
    runs = [(3, 6), (5, 2), (6, 4), (20, 6), (24, 2), (25, 1)]
    assert lines == [f"<{f / 25:.1f} seconds><|vision_start|>{pad * n}<|vision_end|>" for f, n in runs]
