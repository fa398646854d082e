"""Record files and dialects: every record is found, read by number, or reported with its line."""

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.errors import DataError
from ov2kit.recipes.data.conversations import read_conversation
from ov2kit.recipes.data.faults import BadRecord, Fault, FaultLog
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.records import RecordFile
from tests.recordings import talk, write_jsonl

SIGNS = st.text(alphabet='\\"{}[],:\n\u00e9\U0001f600 a', max_size=12)
RECORDS = st.recursive(
    st.dictionaries(st.text(max_size=5), SIGNS, max_size=3),
    lambda inner: st.dictionaries(SIGNS, inner | st.lists(inner), max_size=3),
)


@settings(max_examples=80)
@given(records=st.lists(RECORDS, max_size=6), indent=st.sampled_from([None, 1]), bom=st.booleans(), raw=st.booleans())
def test_list_and_lines_give_the_same_records(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], indent: int | None, bom: bool, raw: bool
) -> None:
    folder = tmp_path_factory.mktemp("r")
    mark = b"\xef\xbb\xbf" if bom else b""
    listed = json.dumps(records, indent=indent, ensure_ascii=not raw)
    (folder / "a.json").write_bytes(mark + listed.encode())
    lines = "\n\n".join(json.dumps(record, ensure_ascii=not raw) for record in records)
    (folder / "a.jsonl").write_bytes(mark + lines.replace("\n\n", "\r\n \n").encode())
    for name in ("a.json", "a.jsonl"):
        file = RecordFile(folder / name)
        assert [file.read(i) for i in range(len(file))] == records


def test_lines_are_counted_from_one_and_blank_ones_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n\n{"a": 1}\r\n   \n{"b": 2}')
    assert RecordFile(tmp_path / "a.jsonl").lines.tolist() == [3, 5]
    (tmp_path / "a.json").write_text('[\n{"a":\n 1},\n\n{"b": "x\\ny,]"},\n 7]')
    file = RecordFile(tmp_path / "a.json")
    assert file.lines.tolist() == [2, 5, 6]
    assert file.read(1) == {"b": "x\ny,]"}
    assert file.read(2) == 7
    assert file.place(2) == f"{tmp_path / 'a.json'}:6"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b'[{"a": 1}, {"b"', "not closed"),
        ("a.json", b'[{"a": 1}] {}', "expected the end"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        RecordFile(tmp_path / name)
    with pytest.raises(DataError, match=r"no_such.*no such file"):
        RecordFile(tmp_path / "no_such.jsonl")
    with pytest.raises(DataError, match="folder"):
        RecordFile(tmp_path)


def test_bad_lines_say_why(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "\xff"}\n{"a": \n' + b"[" * 100_000)
    file = RecordFile(tmp_path / "a.jsonl")
    for number, told in enumerate(["not UTF-8 at byte 7", "not JSON", "not JSON"]):
        with pytest.raises(BadRecord, match=told):
            file.read(number)


def test_reading_is_safe_from_threads_and_after_pickling(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"n": i, "text": "x" * (i % 50)} for i in range(400)])
    file = pickle.loads(pickle.dumps(RecordFile(tmp_path / "a.jsonl")))
    wrong: list[int] = []

    def work(start: int) -> None:
        wrong.extend(i for i in range(start, 400, 3) for _ in range(3) if file.read(i)["n"] != i)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def parts(record: dict[str, Any], root: Path) -> list[Any]:
    found = read_conversation(record, root, "x")
    return [(m["role"], [p.get("text") or Path(p[p["type"]]).name for p in m["content"]]) for m in found.messages]


def test_both_dialects_give_the_same_messages(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.mp4"):
        (tmp_path / name).touch()
    today = {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "<image> and <image>, then <video>?"},
            {"role": "assistant", "content": "yes"},
        ],
        "images": ["a.png", "b.png"],
        "videos": ["c.mp4"],
    }
    older = {
        "conversations": [
            {"from": "system", "value": "be brief"},
            {"from": "human", "value": "<image> and <image>, then <video>?"},
            {"from": "gpt", "value": "yes"},
        ],
        "image": ["a.png", "b.png"],
        "video": "c.mp4",
    }
    expected = [
        ("system", ["be brief"]),
        ("user", ["a.png", " and ", "b.png", ", then ", "c.mp4", "?"]),
        ("assistant", ["yes"]),
    ]
    assert parts(today, tmp_path) == parts(older, tmp_path) == expected


def test_older_sets_announce_videos_by_image(tmp_path: Path) -> None:
    (tmp_path / "c.mp4").touch()
    turns = [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "that"}]
    found = read_conversation({"conversations": turns, "video": "c.mp4"}, tmp_path, "x")
    assert found.kind == "video"
    assert found.messages[0]["content"][0] == {"type": "video", "video": str(tmp_path / "c.mp4")}


def test_prompt_ends_before_the_last_answer(tmp_path: Path) -> None:
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")]
    found = read_conversation({"messages": turns}, tmp_path, "x")
    assert [m["role"] for m in found.prompt()] == ["user", "assistant", "user"]


def bad(**change: Any) -> dict[str, Any]:
    return talk(0, "image", "a.png") | change


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ([1], "expected a JSON object, got list"),
        ({"id": "x"}, "neither 'messages' nor 'conversations'"),
        (bad(messages=[]), "expected a list of turns"),
        (bad(messages=[{"role": "user"}]), "turn 1: expected text, got NoneType"),
        (bad(messages=[{"role": "bird", "content": "x"}]), "turn 1: unknown role 'bird'"),
        (bad(messages=[{"role": "user", "content": "<image>"}]), "no assistant turn"),
        (bad(images=[]), "1 <image> for 0 images, 0 <video> for 0 videos"),
        (bad(images=["a.png", "a.png"]), "1 <image> for 2 images"),
        (bad(videos=["a.png"]), "0 <video> for 1 videos"),
        (bad(images=[7]), "expected paths, got 7"),
        (bad(images=["b.png"]), r"image 'b.png' is not there"),
        (bad(images=["folder"]), "is a folder"),
        (bad(images=[{"path": "a.png", "crop": 1}]), "unknown crop"),
    ],
)
def test_bad_records_say_why(tmp_path: Path, record: object, told: str) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "folder").mkdir()
    read_conversation(bad(), tmp_path, "x")
    with pytest.raises(BadRecord, match=told):
        read_conversation(record, tmp_path, "x")


def test_index_reports_bad_records_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    records = [talk(0, "image", "a.png"), "", "nonsense", talk(1, "image", "gone.png"), talk(2, "text", None)]
    path = write_jsonl(tmp_path / "a.jsonl", records)
    index = ConversationIndex([path, path])
    assert len(index) == 4
    assert index.total == 8
    assert [index.read(i).name for i in range(4)] == ["image-0", "text-2"] * 2
    assert [(f.place, f.name) for f in index.faults[:2]] == [(f"{path}:3", "a.jsonl:3"), (f"{path}:4", "image-1")]


def test_index_needs_a_usable_record(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["nonsense"])
    with pytest.raises(DataError, match=r"no record can be used, for example .*a.jsonl:1"):
        ConversationIndex(path)


def test_media_root_moves_relative_paths(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.png").touch()
    path = write_jsonl(tmp_path / "a.jsonl", [talk(0, "image", "a.png")])
    assert len(ConversationIndex(path, tmp_path / "media")) == 1


def test_split_keeps_records_of_a_video_together(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i}.mp4").touch()
    path = write_jsonl(tmp_path / "a.jsonl", [talk(i, "video", f"{i % 40}.mp4") for i in range(200)])
    index = ConversationIndex(path)
    train, held = index.split(0.2, seed=1)
    assert sorted([*train, *held]) == list(range(200))
    assert {i % 40 for i in train}.isdisjoint(i % 40 for i in held)
    assert 40 <= len(held) <= 45
    assert index.split(0.2, seed=1)[1].tolist() == held.tolist()
    assert index.split(0.2, seed=2)[1].tolist() != held.tolist()


def fault(line: int, action: Any = "skipped") -> Fault:
    return Fault(f"a.jsonl:{line}", f"r{line}", "broken", action)


def test_faults_count_once_and_stop_a_run_that_has_too_many(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "faults.jsonl"
    log = FaultLog(100, 0.03, path)
    log.good(5)
    for _ in range(3):
        log.add([fault(1), fault(2, "replaced"), fault(3), *(fault(i, "truncated") for i in range(10, 20))])
    assert log.bad == 3
    assert log.summary() == "3 of 100 records not used, 10 truncated"
    with pytest.raises(DataError, match=r"4 of 100 records .* max_bad_share=0.03: a.jsonl:1 \(r1\): broken"):
        log.add([fault(4)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["place"] for line in lines[:3]] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]
    assert len(lines) == 14
    again = FaultLog(100, 0.5, path)  # a resumed run
    again.good()
    again.add([fault(1), fault(50)])
    assert len(path.read_text().splitlines()) == 15


def test_a_run_without_a_single_good_record_stops_early() -> None:
    log = FaultLog(100_000, 0.5)
    with pytest.raises(DataError, match="none of the first 20 records"):
        log.add(fault(i) for i in range(20))
