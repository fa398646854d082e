"""Which videos: every kind of input, one order, clear errors."""

import io
import json
import tarfile
from importlib.util import find_spec

import fsspec
import pyarrow as pa
import pytest
from fsspec.registry import known_implementations
from pyarrow import parquet

from ov2kit.errors import DataError
from ov2kit.recipes.datasets.inputs import Item, find_items, fingerprint
from ov2kit.recipes.datasets.storage import open_storage
from ov2kit.recipes.datasets.stores import modules_of, open_input


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp4", "a.MKV", "deep/er/c.webm", "notes.md", "deep/picture.png"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "videos"


def test_a_folder_gives_its_videos_by_their_paths_below_it(folder):
    assert find_items([str(folder)]) == [
        Item("a.MKV", f"{folder}/a.MKV"),
        Item("b.mp4", f"{folder}/b.mp4"),
        Item("deep/er/c.webm", f"{folder}/deep/er/c.webm"),
    ]


def test_lists_globs_and_videos_in_any_order(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("videos/b.mp4\n\nvideos/a.MKV\n")
    conversations = [{"video": "videos/b.mp4"}, {"image": "x.png"}, {"video": ["videos/a.MKV", "videos/b.mp4"]}]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(each) + "\n" for each in conversations))
    (tmp_path / "records.json").write_text(json.dumps(conversations))
    wanted = ["videos/a.MKV", "videos/b.mp4"]
    for given in (["list.txt"], ["records.jsonl"], ["records.json"], ["list.txt", "records.json"]):
        found = find_items(given)
        assert [item.name for item in found] == wanted
        assert [item.url for item in found] == wanted  # relative to the folder of the list, which is here
    assert [item.name for item in find_items(["videos/*.[mM][pK]*"])] == wanted
    assert [item.name for item in find_items(["videos/b.mp4", "videos/a.MKV"])] == wanted
    root = str(tmp_path / "videos")
    assert find_items(["list.txt"], media_root=root)[0] == Item("videos/a.MKV", f"{root}/videos/a.MKV")
    for missing in ("m", "list.txt"):
        with pytest.raises(DataError, match=rf"^{missing}: expected the folder that paths in lists are relative to"):
            find_items(["list.txt"], media_root=missing)


def test_a_parquet_column(tmp_path):
    parquet.write_table(pa.table({"path": ["b.mp4", None, "s3://bucket/a.mp4"]}), tmp_path / "t.parquet")
    assert find_items([str(tmp_path / "t.parquet")], "path") == [
        Item("b.mp4", f"{tmp_path}/b.mp4"),
        Item("s3://bucket/a.mp4", "s3://bucket/a.mp4"),
    ]
    with pytest.raises(DataError, match=r"no column 'video' can be read"):
        find_items([str(tmp_path / "t.parquet")])


def test_urls_are_listed_by_fsspec():
    system = fsspec.filesystem("memory")
    for name in ("/set/b.mp4", "/set/in/a.mkv", "/set/readme.txt"):
        system.pipe(name, b"x")
    names = ["memory:///set/b.mp4", "memory:///set/in/a.mkv"]
    assert [item.url for item in find_items(["memory://set"])] == names
    assert [item.url for item in find_items(["memory://set/*.mp4"])] == names[:1]
    assert [item.url for item in find_items(["memory://set/in/a.mkv"])] == names[1:]
    with pytest.raises(DataError, match="no video found"):
        find_items(["memory://elsewhere"])
    with pytest.raises(DataError, match="cannot be opened here"):
        find_items(["nowhere://x/y.mp4"])


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.json", "{", "not readable"),
        ("x.json", '{"video": "a.mp4"}', "expected a list of records"),
        ("x.jsonl", '{"video": 3}\n', r"record 1: expected a path in 'video', got 3"),
        ("x.jsonl", '{"clip": "a.mp4"}\n', "no record has a path in 'video', which --column names"),
        ("x.txt", "\n", "the list is empty"),
    ],
)
def test_malformed_lists_are_named(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}.*{reason}"):
        find_items([str(tmp_path / name)])


def test_two_videos_may_not_have_one_name(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match=r"two/a\.mp4: is called 'a\.mp4', as .*one/a\.mp4 is"):
        find_items([str(tmp_path / "one"), str(tmp_path / "two")])
    assert len(find_items([str(tmp_path)])) == 2
    with pytest.raises(DataError, match="no such file"):
        find_items([str(tmp_path / "three")])


def test_a_fingerprint_changes_with_the_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"one")
    item = Item("a.mp4", str(path))
    before = fingerprint(item)
    assert before == fingerprint(item)
    path.write_bytes(b"two")
    assert fingerprint(item) != before
    path.unlink()
    assert fingerprint(item) == ""


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)


def test_videos_in_a_tar_file_are_byte_ranges(tmp_path):
    members = {"b.mp4": b"bbbb", "b.json": b"{}", "deep/a.webm": b"a" * 700}
    write_tar(tmp_path / "x.tar", members)
    fsspec.filesystem("memory").pipe("/tars/x.tar", (tmp_path / "x.tar").read_bytes())
    for place in (f"{tmp_path}/x.tar", "memory://tars/x.tar"):
        found = find_items([place.replace("x.tar", "*.tar")])
        assert [item.name for item in found] == [f"{found[0].url}/b.mp4", f"{found[0].url}/deep/a.webm"]
        for item, content in zip(found, (members["b.mp4"], members["deep/a.webm"]), strict=True):
            with open_input(item.url) as file:
                file.seek(item.offset)
                assert file.read(item.size) == content
    assert len({fingerprint(item) for item in found}) == 2
    (tmp_path / "y.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match=r"y\.tar: not a tar file that can be read"):
        find_items([str(tmp_path / "y.tar")])


def test_lists_in_a_store_name_what_lies_beside_them(tmp_path):
    system = fsspec.filesystem("memory")
    system.pipe("/lists/a.jsonl", b'{"video": "b.mp4"}\n{"video": ["s3://bucket/a.mp4"]}\n')
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"video": ["b.mp4"]}), buffer)
    system.pipe("/lists/a.parquet", buffer.getvalue())
    beside, elsewhere = Item("b.mp4", "memory://lists/b.mp4"), Item("s3://bucket/a.mp4", "s3://bucket/a.mp4")
    assert find_items(["memory://lists/a.jsonl"]) == [beside, elsewhere]
    assert find_items(["memory://lists/a.parquet"]) == [beside]
    root = str(tmp_path)
    assert find_items(["memory://lists/a.parquet"], media_root=root) == [Item("b.mp4", f"{root}/b.mp4")]
    assert find_items(["memory://lists/a.parquet"], media_root="s3://m/")[0].url == "s3://m/b.mp4"
    with pytest.raises(DataError, match=r"memory://lists/none\.txt: cannot be read"):
        find_items(["memory://lists/none.txt"])


def test_a_package_that_is_not_installed_is_one_error(tmp_path, monkeypatch):
    absent = {"class": "not_installed_here.Store", "err": "Please install nothere"}
    monkeypatch.setitem(known_implementations, "nothere", absent)
    (tmp_path / "list.txt").write_text("file:///a.mp4\nnothere://bucket/b.mp4\n")
    for given in ("nothere://bucket", "nothere://bucket/*.mp4", "nothere://bucket/list.json", f"{tmp_path}/list.txt"):
        with pytest.raises(DataError, match=r"nothere://.*: cannot be opened here \(Please install nothere\)"):
            find_items([given])
    with pytest.raises(DataError, match=r"nothere://out: cannot be opened here"):
        open_storage("nothere://out")
    with pytest.raises(DataError, match=r"nowhere://out: cannot be opened here \(Protocol not known"):
        open_storage("nowhere://out")


@pytest.mark.parametrize(
    ("url", "package"),
    [("s3://a/b.mp4", "s3fs"), ("gs://a/b.mp4", "gcsfs"), ("hf://datasets/a/b.mp4", "huggingface_hub")],
)
def test_which_package_opens_it(url, package):
    if find_spec(package):
        assert modules_of(url)[0].partition(".")[0] == package
        assert modules_of(f"zip://c.mp4::{url}")[1:] == modules_of(url)
    else:
        with pytest.raises(DataError, match=f"{url}: cannot be opened here .*{package}"):
            modules_of(url)
