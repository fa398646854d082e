"""Files and folders: whole or not at all, with the right mode, never over an input; paths looked at before opening."""

import os
import resource
import socket
import stat

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ov2kit import files
from ov2kit.encoders.checkpoint import write_tensors as write_encoder
from ov2kit.errors import CheckpointError, DataError, OutputError
from ov2kit.files import (
    append_to,
    check_file,
    check_folder,
    fill_folder,
    is_safe_name,
    refuse_overwriting_inputs,
    safe_name,
    write_file,
    write_folder,
    write_tensors,
    write_text,
)

BIG = {"a": torch.zeros(100_000)}


@pytest.fixture
def small_disk():
    """No file grows beyond 100,000 bytes: the system then says so as it does of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def save(path):
    with write_file(path, sync=True) as file:
        torch.save(BIG, file)


def save_array(path):
    with write_folder(path) as folder:
        np.save(folder / "a.npy", BIG["a"].numpy())


def save_inside(path):
    with write_folder(path) as folder:
        write_tensors(folder / "a.safetensors", BIG, {})


def save_beside(path):
    with fill_folder(path) as folder:
        write_text(folder / "a.txt", "a" * 200_000)


WRITERS = {
    "text": lambda path: write_text(path, "a" * 200_000),
    "safetensors": lambda path: write_tensors(path, BIG, {}),
    "torch": save,
    "encoder": lambda path: write_encoder(BIG, path, 10**9),
    "folder of numpy": save_array,
    "folder of safetensors": save_inside,
    "files of a folder": save_beside,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, small_disk, kind):
    target = tmp_path / "new" / "result"
    with pytest.raises(OutputError, match=r"new/result.*cannot be written .*free some space") as caught:
        WRITERS[kind](target)
    assert "partial" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["text", "safetensors", "torch"])
def test_a_failed_file_leaves_the_one_before(tmp_path, small_disk, kind):
    (tmp_path / "result").write_text("before")
    with pytest.raises(OutputError):
        WRITERS[kind](tmp_path / "result")
    assert (tmp_path / "result").read_text() == "before"
    assert names(tmp_path) == ["result"]


def test_what_fails_for_other_reasons_passes_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), write_file(tmp_path / "a") as file:
        file.write((tmp_path / "input that is gone").read_bytes())
    with pytest.raises(KeyboardInterrupt), write_folder(tmp_path / "b"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_modes_follow_the_umask_and_a_file_that_is_replaced_keeps_its_own(tmp_path, umask):
    write_text(tmp_path / "text", "a")
    write_tensors(tmp_path / "tensors", {"a": torch.arange(3)}, {})
    with write_folder(tmp_path / "folder") as folder:
        write_text(folder / "inside", "a")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {path.name: mode for path, mode in modes.items()} == {
        "text": 0o640, "tensors": 0o640, "folder": 0o750, "inside": 0o640,
    }  # fmt: skip
    assert load_file(tmp_path / "tensors")["a"].tolist() == [0, 1, 2]
    os.chmod(tmp_path / "text", 0o600)
    write_text(tmp_path / "text", "b")
    assert stat.S_IMODE((tmp_path / "text").stat().st_mode) == 0o600
    assert (tmp_path / "text").read_text() == "b"


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "real").write_text("a")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "b")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "b"


def test_a_folder_that_is_replaced_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "mine").write_text("a")
    rename = os.rename

    def fail(source, target):
        if str(source).endswith(".partial"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(KeyboardInterrupt), write_folder(tmp_path / "f", replace=True):
        pass
    assert names(tmp_path) == ["f"]
    assert (tmp_path / "f" / "mine").read_text() == "a"


def test_a_folder_with_something_in_it_is_replaced_only_when_asked(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "mine").write_text("a")
    with pytest.raises(OutputError, match="somebody else"), write_folder(tmp_path / "f") as folder:
        write_text(folder / "b", "b")
    assert names(tmp_path / "f") == ["mine"]
    with write_folder(tmp_path / "f", replace=True) as folder:
        write_text(folder / "b", "b")
    assert names(tmp_path / "f") == ["b"]
    assert names(tmp_path) == ["f"]


def test_adding_to_a_file_adds_all_or_nothing(tmp_path, small_disk):
    with append_to(tmp_path / "log") as file:
        file.write(b"one\n")
    with pytest.raises(OutputError, match="log: cannot be written"), append_to(tmp_path / "log") as file:
        file.write(b"two\n" * 100_000)
    with append_to(tmp_path / "log") as file:
        file.write(b"three\n")
    assert (tmp_path / "log").read_text() == "one\nthree\n"


@pytest.fixture
def odd(tmp_path):
    """kind -> a path that is no file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "s"))
    (tmp_path / "link to a pipe").symlink_to("pipe")
    return {
        "a pipe": tmp_path / "pipe",
        "a folder": tmp_path / "folder",
        "a socket": tmp_path / "s",
        "a device": "/dev/zero",
        "no such file": tmp_path / "nothing\0",
    } | {"got a pipe": tmp_path / "link to a pipe"}


def test_what_is_no_file_is_named_and_never_opened(odd):
    for said, path in odd.items():
        with pytest.raises(DataError, match=said):
            check_file(path)
    for said in ("a pipe", "a folder", "a socket", "a device"):
        for write in (lambda p: write_text(p, "a"), lambda p: append_to(p).__enter__()):
            with pytest.raises(OutputError, match=said):
                write(odd[said])


def test_what_is_no_folder_is_named(odd, tmp_path):
    assert check_folder(tmp_path, "a folder of x") == tmp_path
    for kind in ("a pipe", "a socket", "a device"):
        with pytest.raises(DataError, match=f"expected a folder of x, got {kind}$"):
            check_folder(odd[kind], "a folder of x")
    (tmp_path / "a").touch()
    with pytest.raises(CheckpointError, match=r"a: expected a folder of x, got a file$"):
        check_folder(tmp_path / "a", "a folder of x", CheckpointError)
    with pytest.raises(DataError, match=r"nothing: expected a folder of x, found nothing there; check the path$"):
        check_folder(tmp_path / "nothing", "a folder of x")


def test_a_long_path_is_not_quoted_whole(tmp_path):
    with pytest.raises(DataError) as caught:
        check_file("x" * 100_000)
    assert len(str(caught.value)) < 200
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(DataError, match="at most 4 bytes, got 5"):
        check_file(tmp_path / "a", most=4)


def test_inputs_are_known_by_every_name(tmp_path):
    (tmp_path / "d").mkdir()
    video = tmp_path / "d" / "x.mp4"
    video.write_text("v")
    os.link(video, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(video)
    for out in (video, tmp_path / "hard", tmp_path / "soft", tmp_path / "d", tmp_path / "d" / ".." / "d" / "x.mp4"):
        with pytest.raises(OutputError, match="is read by this command"):
            refuse_overwriting_inputs(out, [None, b"x", str(video)])
    refuse_overwriting_inputs(tmp_path / "d" / "y", [video])
    refuse_overwriting_inputs(tmp_path / "other", [video, tmp_path / "nothing"])


def test_names_from_outside_stay_one_name():
    given = ["clip", ".hidden", "..mp4", "a b", "é", ".", "..", "...", "", " ", "a/b", "/etc", "a\\b", "a\0b", "con"]
    given += ["NUL.txt", "x" * 400, "é" * 200, "\n"]
    safe = [text for text in given if is_safe_name(text)]
    assert safe == ["clip", ".hidden", "..mp4", "a b", "é"]
    for text in given:
        made = safe_name(text)
        assert is_safe_name(made), text
        assert os.path.dirname(os.path.normpath(os.path.join("/out", made))) == "/out"
        assert len(os.fsencode(made)) <= 200
    assert [safe_name(text) for text in safe] == safe
    assert not is_safe_name(3)


def test_tensors_are_written_by_one_hand():
    """Nothing in the package but `files` writes safetensors, moves things into place, or makes scratch files."""
    for path in (files.Path(files.__file__).parent).rglob("*.py"):
        if path.name == "files.py":
            continue
        text = path.read_text()
        for word in ("save_file(", "os.replace(", "os.rename(", "mkstemp", "mkdtemp", ".umask("):
            assert word not in text, f"{path}: {word}"
