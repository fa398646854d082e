"""Directories of canvases as we write them: the public files, everything kept, whole or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ov2kit import Canvases
from ov2kit.codec.assets.files import asset_name, canvas_names
from ov2kit.codec.assets.loading import load_assets
from ov2kit.codec.assets.saving import save_assets
from ov2kit.errors import CanvasError
from ov2kit.geometry import to_block_layout
from tests.codec.assets.folders import make_canvases, public_reader

NOTHING = {
    "images": torch.zeros(0, 3, 16, 24, dtype=torch.uint8),
    "positions": torch.zeros(0, 4, 6, 3, dtype=torch.int32),
    "groups": torch.zeros(0, dtype=torch.int32),
    "is_anchor": torch.zeros(0, dtype=torch.bool),
    "clips": None,
}


@pytest.mark.parametrize("format", ["png", "npy"])
@pytest.mark.parametrize("order", ["raster", "block"])
def test_round_trip_keeps_everything(tmp_path, format, order):
    canvases = make_canvases()
    out = save_assets(canvases, tmp_path / "deep" / "clip", format, order=order)
    assert out == tmp_path / "deep" / "clip"
    loaded = load_assets(out)
    assert loaded == canvases
    assert loaded.provenance == canvases.provenance
    assert loaded.frame_times == canvases.frame_times
    assert [p.name for p in out.parent.iterdir()] == ["clip"]  # no scratch left


def test_files_are_the_public_ones(tmp_path):
    canvases = make_canvases()
    out = save_assets(canvases, tmp_path / "clip")
    names = {"canvas_000.png", "canvas_001.png", "canvas_002.png", "canvas_003.png"}
    assert {p.name for p in out.iterdir()} == names | {"src_patch_position.npy", "frame_ids.npy", "meta.json", "_DONE"}
    frame_ids = np.load(out / "frame_ids.npy")
    assert frame_ids.dtype == np.int32
    assert frame_ids.tolist() == [3, 5, 6, 20, 24, 25, 30]
    meta = json.loads((out / "meta.json").read_text())
    assert meta["fps"] == 12.5
    assert meta["canvas_files"] == sorted(names)
    assert meta["groups"] == [0, 0, 1, 1]
    assert meta["index_over_fps_error_seconds"] == pytest.approx(5 / 12.5 - 0.2, abs=1e-6)  # frame 5 is furthest off


@pytest.mark.parametrize("format", ["png", "npy"])
def test_public_reader_understands_ours(tmp_path, format):
    canvases = make_canvases()
    pictures, positions, fps = public_reader(save_assets(canvases, tmp_path / "clip", format))
    assert fps == 12.5
    np.testing.assert_array_equal(pictures, canvases.images.permute(0, 2, 3, 1).numpy())
    # It reads raster order, then brings each canvas into block order: our model order.
    raster = torch.from_numpy(positions).reshape(4, 4, 6, 3)
    assert torch.equal(to_block_layout(raster, 2), canvases.flat_positions())
    # lmms-eval takes the canvases as glob finds them, sorted as text, jpg before png.
    assert [p.name for p in sorted((tmp_path / "clip").glob(f"canvas_*.{format}"))] == canvas_names(4, format)


def test_partly_padded_canvases_can_be_left_out(tmp_path):
    """Public readers refuse a directory that holds one."""
    canvases = make_canvases()
    kept = save_assets(canvases, tmp_path / "kept")
    assert json.loads((kept / "meta.json").read_text())["partly_padded_canvases"] == 1
    dropped = save_assets(canvases, tmp_path / "dropped", partly_padded="drop")
    assert json.loads((dropped / "meta.json").read_text())["partly_padded_canvases"] == 0
    loaded = load_assets(dropped).validate()
    assert torch.equal(loaded.positions, canvases.positions[:3])
    assert torch.equal(loaded.images, canvases.images[:3])
    assert loaded.frame_times == canvases.frame_times


def test_names_stay_sorted_beyond_a_thousand():
    names = canvas_names(1001, "png")
    assert names == sorted(names)
    assert canvas_names(1000, "jpg")[-1] == "canvas_999.jpg"


def test_asset_name_is_what_lmms_eval_looks_for():
    # SHA-1 of "/data/a b/clip.one.mp4" by sha1sum
    assert asset_name("/data/a b/clip.one.mp4") == "clip.one__e61da212"


def test_jpeg_is_close_marked_and_keeps_padding_black(tmp_path):
    canvases = make_canvases()
    loaded = load_assets(save_assets(canvases, tmp_path / "clip", "jpg"))
    loaded.validate()
    assert torch.equal(loaded.positions, canvases.positions)
    assert not torch.equal(loaded.images, canvases.images)
    assert loaded.provenance["assets"]["lossy"] is True
    assert loaded.provenance["preset"] == "paper"


def test_refuses_what_the_layout_cannot_hold(tmp_path):
    canvases = make_canvases()
    with pytest.raises(CanvasError, match="one clip, got 2"):
        save_assets(Canvases.cat([canvases, canvases]), tmp_path / "a")
    with pytest.raises(CanvasError, match=r"no time for source frame\(s\) \[20\]"):
        save_assets(replace(canvases, frame_times={3: 0.0, 5: 0.0, 6: 0.0, 24: 0.0, 25: 0.0}), tmp_path / "a")
    positions = canvases.positions.clone()
    positions[1, 0, 0, 2] = 1
    with pytest.raises(CanvasError, match="canvas 1: a block is neither"):
        save_assets(replace(canvases, positions=positions), tmp_path / "a")
    empty = canvases.positions.clone()
    empty[2] = -1
    with pytest.raises(CanvasError, match="canvas 2: every block is padding"):
        save_assets(replace(canvases, positions=empty), tmp_path / "a")
    with pytest.raises(CanvasError, match="no canvas to save"):
        save_assets(replace(canvases, **NOTHING), tmp_path / "a")
    for options, reason in (
        ({"format": "gif"}, "unknown format 'gif'"),
        ({"order": "diagonal"}, "unknown order 'diagonal'"),
        ({"partly_padded": "fill"}, "unknown partly_padded 'fill'"),
    ):
        with pytest.raises(ValueError, match=reason):
            save_assets(canvases, tmp_path / "a", **options)
    assert list(tmp_path.iterdir()) == []


def test_odd_provenance_is_written_as_text(tmp_path):
    canvases = make_canvases(provenance={"video": Path("a/b.mp4"), "title": "caf\udce9 <b>", "shape": (1, 2)})
    loaded = load_assets(save_assets(canvases, tmp_path / "clip"))
    assert loaded.provenance == {"video": "a/b.mp4", "title": "caf\udce9 <b>", "shape": [1, 2]}
