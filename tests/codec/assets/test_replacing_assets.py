"""Directories that are there already: replaced on request alone, and never left half-written."""

import errno
import os

import pytest

from ov2kit.codec.assets.loading import load_assets
from ov2kit.codec.assets.saving import save_assets
from ov2kit.errors import AssetError, OutputError
from tests.codec.assets.folders import make_canvases


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
