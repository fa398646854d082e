"""Directories of the public layout: ours survive the trip, theirs are understood, broken ones are refused."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ov2kit import Canvases
from ov2kit.codec.assets.facts import has_pixels
from ov2kit.codec.assets.files import asset_name, canvas_names
from ov2kit.codec.assets.loading import load_assets
from ov2kit.codec.assets.order import broken_canvas, find_order, from_raster, to_raster
from ov2kit.codec.assets.saving import save_assets
from ov2kit.errors import AssetError, CanvasError, OutputError
from ov2kit.geometry import to_block_layout
from tests.paths import read_golden

TOPK = read_golden("07_groups_topk.npz")
TOPK_CASES = read_golden("07_groups_topk_meta.json")["cases"]
PROMPT = read_golden("11_prompt.npz")
PROMPT_META = read_golden("11_prompt_meta.json")
DROPS = PROMPT_META["drop_padding"]


def make_canvases(patch=4, merge=2, signal="motion+residual", **options) -> Canvases:
    """Two groups of (anchor, P) on a 4 x 6 patch grid; the last P is half padding; times are uneven."""
    h, w = 4, 6
    grid = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1)
    positions = np.full((4, h, w, 3), -1, np.int32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 3, h * patch, w * patch), dtype=np.uint8)
    for k, frame in ((0, 3), (2, 20)):
        positions[k, ..., 0], positions[k, ..., 1:] = frame, grid
    for k, frame, blocks in ((1, 5, 6), (3, 24, 3)):
        for slot in range(blocks):
            row, col = 2 * (slot // 3), 2 * (slot % 3)
            source = (slot + 1) % 6 if blocks < 6 else slot
            cell = positions[k, row : row + 2, col : col + 2]
            cell[..., 0] = frame + (slot > 1)
            cell[..., 1:] = grid[:2, :2] + [2 * (source // 3), 2 * (source % 3)]
    images[:, 0][np.repeat(np.repeat(positions[..., 0] < 0, patch, 1), patch, 2)] = 0
    images[:, 1:] *= np.repeat(np.repeat(positions[..., 0] >= 0, patch, 1), patch, 2)[:, None]
    times = {3: 0.11, 5: 0.2, 6: 0.31, 20: 1.5, 24: 1.75, 25: 1.9, 30: 2.5}
    settings = {"fps": 12.5, "provenance": {"preset": "paper", "signal": signal, "seconds": {"decode": 0.1}}}
    return Canvases(
        torch.from_numpy(images),
        torch.from_numpy(positions),
        torch.tensor([0, 0, 1, 1], dtype=torch.int32),
        torch.tensor([True, False, True, False]),
        times,
        patch=patch,
        merge=merge,
        signal=signal,
        **(settings | options),
    ).validate()


NOTHING = {
    "images": torch.zeros(0, 3, 16, 24, dtype=torch.uint8),
    "positions": torch.zeros(0, 4, 6, 3, dtype=torch.int32),
    "groups": torch.zeros(0, dtype=torch.int32),
    "is_anchor": torch.zeros(0, dtype=torch.bool),
    "clips": None,
}


def write_public(folder: Path, rgb, positions, meta, *, frame_ids=None, suffix="png", done=True) -> Path:
    """What a public tool leaves behind: canvases, positions, frame ids, meta.json and (one of them) _DONE."""
    folder.mkdir(parents=True)
    names = [f"canvas_{i:03d}.{suffix}" for i in range(len(rgb))]
    for name, picture in zip(names, rgb, strict=True):
        if suffix == "npy":
            np.save(folder / name, picture)
        else:
            Image.fromarray(picture).save(folder / name)
    np.save(folder / "src_patch_position.npy", positions)
    if frame_ids is not None:
        np.save(folder / "frame_ids.npy", np.asarray(frame_ids, np.int32))
    (folder / "meta.json").write_text(json.dumps({"fps": 25.0, "canvas_files": names} | meta))
    if done:
        (folder / "_DONE").write_text("ok\n")
    return folder


def public_reader(folder: Path):
    """The steps of the public reader, from its described behavior: pictures, positions, seconds of each frame."""
    meta = json.loads((folder / "meta.json").read_text())
    pictures = [
        np.load(folder / name) if name.endswith(".npy") else np.asarray(Image.open(folder / name).convert("RGB"))
        for name in meta["canvas_files"]
    ]
    positions = np.load(folder / "src_patch_position.npy")
    assert positions.dtype == np.int32
    assert len(positions) % len(pictures) == 0
    return np.stack(pictures), positions, float(meta.get("fps") or 30.0)


# --- what we write


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


# --- a directory is complete or absent


def test_complete_directory_is_replaced_only_on_request(tmp_path):
    first, second = make_canvases(), make_canvases(signal="luma")
    out = save_assets(first, tmp_path / "clip")
    with pytest.raises(AssetError, match="complete already; pass overwrite=True"):
        save_assets(second, out)
    assert load_assets(out) == first
    save_assets(second, out, "npy", overwrite=True)
    assert load_assets(out) == second
    assert not list(out.glob("*.png"))
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_interrupted_save_leaves_what_was_there(tmp_path, monkeypatch, error):
    def fail(*args):
        raise error

    old = make_canvases()
    out = save_assets(old, tmp_path / "clip")
    monkeypatch.setattr("ov2kit.codec.assets.files.write_pictures", fail)
    for target in ("clip", "new"):
        with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
            save_assets(make_canvases(signal="luma"), tmp_path / target, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]
    assert load_assets(out) == old


def test_failed_swap_puts_the_old_directory_back(tmp_path, monkeypatch):
    old = make_canvases()
    out = save_assets(old, tmp_path / "clip")
    rename = os.rename

    def fail_for_scratch(source, target):
        if str(source).endswith(".partial"):
            raise OSError(39, "Directory not empty")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_scratch)
    with pytest.raises(OutputError, match="somebody else wrote there"):
        save_assets(make_canvases(signal="luma"), out, overwrite=True)
    assert load_assets(out) == old
    assert [p.name for p in tmp_path.iterdir()] == ["clip"]


def test_leftovers_of_a_crash_are_no_result_and_in_nobodys_way(tmp_path):
    out = save_assets(make_canvases(), tmp_path / "clip")
    (out / "_DONE").unlink()
    (out / "canvas_002.png").unlink()
    with pytest.raises(AssetError, match="no _DONE"):
        load_assets(out)
    save_assets(make_canvases(), out)  # without overwrite: nothing of worth was there
    assert load_assets(out) == make_canvases()


def test_foreign_places_are_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name, reason in (("file", "there is a file"), ("folder", "thesis.tex"), ("file/below", "is a file")):
        with pytest.raises((AssetError, OutputError), match=reason):
            save_assets(make_canvases(), tmp_path / name, overwrite=True)
    save_assets(make_canvases(), tmp_path / "empty")
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


# --- what public tools write


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


# --- order


@pytest.mark.parametrize("merge", [1, 2, 3])
def test_orders_are_inverse_and_agree_with_the_model_order(merge):
    rng = np.random.default_rng(merge)
    raster = rng.integers(0, 99, (3, 6, 6, 3)).astype(np.int32)
    for order in ("raster", "block"):
        flat = from_raster(raster, merge, order)
        np.testing.assert_array_equal(to_raster(flat.reshape(3, 36, 3), (6, 6), merge, order), raster)
    block = to_block_layout(torch.from_numpy(raster), merge).numpy()
    np.testing.assert_array_equal(from_raster(raster, merge, "block"), block)


def test_an_order_that_cannot_be_told_is_an_error(tmp_path):
    canvases = make_canvases()
    rgb = canvases.images.permute(0, 2, 3, 1).numpy()
    shuffled = np.random.default_rng(0).permutation(canvases.positions.numpy().reshape(-1, 3))
    folder = write_public(tmp_path / "clip", rgb, shuffled, {"patch": 4})
    with pytest.raises(AssetError, match=r'src_patch_position.npy: .*neither in raster order.*order="raster"'):
        load_assets(folder)
    assert load_assets(folder, order="raster").positions.reshape(-1, 3).equal(torch.from_numpy(shuffled))


def test_both_orders_fit_and_differ(monkeypatch):
    """Cannot happen with whole blocks of 2 x 2, but a check that trusts that would guess silently."""
    monkeypatch.setattr("ov2kit.codec.assets.order.broken_canvas", lambda positions, merge: None)
    positions = make_canvases().positions.numpy().reshape(4, 24, 3)
    with pytest.raises(AssetError, match="the two differ"):
        find_order(positions, (4, 6), 2, "here")


def test_padding_alone_says_nothing_about_order():
    positions = make_canvases().positions.numpy().reshape(4, 24, 3).copy()
    positions[1:] = -1
    assert find_order(positions, (4, 6), 2, "here") == "raster"
    block = from_raster(positions.reshape(4, 4, 6, 3), 2, "block").reshape(4, 24, 3)
    assert find_order(block, (4, 6), 2, "here") == "block"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.__setitem__((1, 0, 0, 0), 77),  # one patch of another frame
        lambda p: p.__setitem__((1, 0, 0), -1),  # a block partly padding
        lambda p: p.__setitem__((1, slice(0, 2), slice(0, 2), 2), p[1, :2, :2, 2] + 1),  # off the block grid
        lambda p: p.__setitem__((1, slice(0, 2), slice(0, 2), 1), p[1, :2, :2, 1] + 4),  # below the picture
    ],
)
def test_a_block_that_is_not_whole_is_seen(spoil):
    positions = make_canvases().positions.numpy().copy()
    assert broken_canvas(positions, 2) is None
    spoil(positions)
    assert broken_canvas(positions, 2) == 1


def test_load_refuses_options_it_does_not_know(tmp_path):
    out = save_assets(make_canvases(), tmp_path / "clip")
    with pytest.raises(ValueError, match="unknown order 'diagonal'"):
        load_assets(out, order="diagonal")
    with pytest.raises(ValueError, match="canvases_per_group must be at least 1, got 0"):
        load_assets(out, canvases_per_group=0)


def test_declared_order_is_checked(tmp_path):
    out = save_assets(make_canvases(), tmp_path / "clip")
    edit_meta(out, order="block")
    with pytest.raises(AssetError, match="says block order, but"):
        load_assets(out)


# --- broken directories


def edit_meta(folder: Path, **changes) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    for key, value in changes.items():
        if value is None:
            meta.pop(key, None)
        else:
            meta[key] = value
    (folder / "meta.json").write_text(json.dumps(meta))


def cut(name):
    return lambda d: (d / name).write_bytes((d / name).read_bytes()[:40])


def pickled(d):
    np.save(d / "src_patch_position.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def resized(d):
    Image.new("RGB", (28, 16)).save(d / "canvas_001.png")


def too_long(d):
    p = np.load(d / "src_patch_position.npy")
    np.save(d / "src_patch_position.npy", np.concatenate([p, p[:1]]))


def zipped(d):
    with (d / "src_patch_position.npy").open("wb") as file:
        np.savez(file, np.zeros((96, 3), np.int32))


def npy_of_another_kind(d):
    np.save(d / "canvas_000.npy", np.zeros((16, 24), np.uint8))
    edit_meta(d, canvas_files=["canvas_000.npy"])


def no_canvas(d):
    for path in d.glob("canvas_*"):
        path.unlink()
    edit_meta(d, canvas_files=None)


def halved(d):
    p = np.load(d / "src_patch_position.npy")
    np.save(d / "src_patch_position.npy", p[: len(p) // 2])


BROKEN = {
    "no directory": (lambda d: d.rename(d.with_name("gone")), "not a directory"),
    "no _DONE": (lambda d: (d / "_DONE").unlink(), "no _DONE"),
    "no meta": (lambda d: (d / "meta.json").unlink(), "meta.json: the file is missing"),
    "cut meta": (cut("meta.json"), "meta.json: not readable JSON"),
    "meta is a list": (lambda d: (d / "meta.json").write_text("[1]"), "expected a JSON object, got list"),
    "meta not text": (lambda d: (d / "meta.json").write_bytes(b"\xff\xfe\x80{"), "meta.json: not readable JSON"),
    "later format": (lambda d: edit_meta(d, format="ov2kit.assets.9"), "ov2kit.assets.9"),
    "canvas missing": (lambda d: (d / "canvas_002.png").unlink(), "canvas_002.png: the canvas is missing"),
    "canvas cut": (cut("canvas_002.png"), "canvas_002.png: not a readable picture"),
    "canvas is text": (lambda d: (d / "canvas_000.png").write_text("hi"), "canvas_000.png: not a readable picture"),
    "canvas elsewhere": (lambda d: edit_meta(d, canvas_files=["../x/canvas_000.png"]), "plain file names"),
    "names no list": (lambda d: edit_meta(d, canvas_files="canvas_000.png"), "plain file names"),
    "one name too few": (lambda d: edit_meta(d, canvas_files=canvas_names(3, "png")), "32 positions a canvas"),
    "other size": (resized, "canvas_001.png: expected every canvas to be .* like canvas_000.png, got "),
    "positions missing": (lambda d: (d / "src_patch_position.npy").unlink(), "position.npy: the file is missing"),
    "positions cut": (cut("src_patch_position.npy"), "position.npy: not a readable .npy"),
    "positions pickled": (pickled, "position.npy: not a readable .npy"),
    "positions zipped": (zipped, "expected one array, got an archive"),
    "no canvas at all": (no_canvas, "no canvas_"),
    "npy canvas gray": (npy_of_another_kind, r"canvas_000.npy: a canvas must be \(H, W, 3\) uint8"),
    "positions flat": (lambda d: np.save(d / "src_patch_position.npy", np.zeros(96, np.int32)), r"\(N, 3\) integers"),
    "positions float": (lambda d: np.save(d / "src_patch_position.npy", np.zeros((96, 3))), "integers, got"),
    "positions huge": (lambda d: np.save(d / "src_patch_position.npy", np.full((96, 3), 2**40)), "do not fit int32"),
    "positions too long": (too_long, "97 rows do not divide into 4"),
    "positions halved": (halved, "12 positions a canvas do not fit"),
    "other patch": (lambda d: edit_meta(d, patch=8), "in patches of 8"),
    "patch no number": (lambda d: edit_meta(d, patch="14"), "patch must be a whole number"),
    "merge does not divide": (lambda d: edit_meta(d, merge=5), "no multiple of merge=5"),
    "groups short": (lambda d: edit_meta(d, groups=[0, 0, 1]), "one rising id for each of 4"),
    "groups go back": (lambda d: edit_meta(d, groups=[0, 1, 0, 1]), "one rising id"),
    "groups are words": (lambda d: edit_meta(d, groups=["a"] * 4), "groups cannot be read"),
    "groups a number": (lambda d: edit_meta(d, groups=4), "groups cannot be read"),
    "anchors short": (lambda d: edit_meta(d, is_anchor=[True]), "is_anchor must hold"),
    "anchor not whole": (lambda d: edit_meta(d, is_anchor=[True] * 4), "not one whole frame"),
    "times miss a frame": (lambda d: edit_meta(d, frame_times=[[3, 0.1]]), r"does not hold source frame\(s\) \[5"),
    "times are words": (lambda d: edit_meta(d, frame_times=["ab"]), "frame_times must be pairs"),
    "no times, no fps": (lambda d: edit_meta(d, frame_times=None, fps=0), "neither frame times nor fps"),
    "fps is text": (lambda d: edit_meta(d, fps="fast"), "fps must be a number"),
    "frame ids miss": (lambda d: np.save(d / "frame_ids.npy", np.arange(5, dtype=np.int32)), r"frame\(s\) \[5"),
    "frame ids cut": (cut("frame_ids.npy"), "frame_ids.npy: not a readable"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_directories_are_refused(tmp_path, name):
    spoil, reason = BROKEN[name]
    out = save_assets(make_canvases(), tmp_path / "clip")
    load_assets(out)
    spoil(out)
    with pytest.raises(AssetError, match=reason) as caught:
        load_assets(out)
    assert "clip" in str(caught.value)


def test_all_padding_is_refused(tmp_path):
    positions = np.full((24, 3), -1, np.int32)
    folder = write_public(tmp_path / "clip", np.zeros((1, 16, 24, 3), np.uint8), positions, {"patch": 4})
    with pytest.raises(AssetError, match="every canvas is padding"):
        load_assets(folder)


def test_mixed_formats_without_a_list_are_refused(tmp_path):
    out = save_assets(make_canvases(), tmp_path / "clip")
    edit_meta(out, canvas_files=None)
    assert load_assets(out) == make_canvases()
    Image.new("RGB", (24, 16)).save(out / "canvas_000.jpg")
    with pytest.raises(AssetError, match="several formats"):
        load_assets(out)


def test_odd_provenance_is_written_as_text(tmp_path):
    canvases = make_canvases(provenance={"video": Path("a/b.mp4"), "title": "caf\udce9 <b>", "shape": (1, 2)})
    loaded = load_assets(save_assets(canvases, tmp_path / "clip"))
    assert loaded.provenance == {"video": "a/b.mp4", "title": "caf\udce9 <b>", "shape": [1, 2]}
