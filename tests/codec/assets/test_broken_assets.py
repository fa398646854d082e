"""Directories that cannot be read, each with one clear error."""

import numpy as np
import pytest
from PIL import Image

from ov2kit.codec.assets.files import canvas_names
from ov2kit.codec.assets.loading import load_assets
from ov2kit.codec.assets.saving import save_assets
from ov2kit.errors import AssetError
from tests.codec.assets.folders import edit_meta, make_canvases, write_public


def test_load_refuses_options_it_does_not_know(tmp_path):
    out = save_assets(make_canvases(), tmp_path / "clip")
    with pytest.raises(ValueError, match="unknown order 'diagonal'"):
        load_assets(out, order="diagonal")
    with pytest.raises(ValueError, match="canvases_per_group must be at least 1, got 0"):
        load_assets(out, canvases_per_group=0)


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
