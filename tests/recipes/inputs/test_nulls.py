"""Null is absent: records and messages as tables write them, read as if the empty columns had never been."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ov2kit.codec import FrameTokenizer, ImageTokenizer
from ov2kit.errors import DataError
from ov2kit.recipes.data.conversations import read_conversation
from ov2kit.recipes.data.faults import BadRecord
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.evaluation.jumpscore_folder import read_jumpscore_folder
from ov2kit.recipes.inputs.nulls import without_nulls
from ov2kit.recipes.inputs.sources import local_source
from ov2kit.recipes.prompt.chat import Media, read_messages
from ov2kit.recipes.prompt.media import open_media
from tests.paths import SAMPLE

TURNS = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A cat."}]
TODAY = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A cat."}]
SEEN = TODAY[0]["content"].replace("<image>", "<video>")
CLIP = [{"role": "user", "content": SEEN}, TODAY[1]]
PARTS = [{"type": "image", "text": None, "image": "cat.png"}, {"type": "text", "text": "What?", "image": None}]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    (folder / "clip.mp4").write_bytes(b"x")
    for name in ("cat.png", "a cat.png", "100%.png"):
        Image.new("RGB", (56, 56), (200, 10, 10)).save(folder / name)
    return folder


def read(record, root, **options):
    """(kind, roles, parts) of a conversation, media by the name of their file."""
    found = read_conversation(record, root, "here", **options)
    parts = [[p.get("text") or (p["type"], Path(p[p["type"]]).name) for p in m["content"]] for m in found.messages]
    return found.name, [m["role"] for m in found.messages], parts


def expected(kind, name):
    return "here", ["user", "assistant"], [[(kind, name), "What?"], ["A cat."]]


IMAGE = {
    "older dialect beside null": {"messages": None, "conversations": TURNS, "image": "cat.png"},
    "older dialect beside nothing": {"messages": [], "conversations": TURNS, "image": "cat.png"},
    "null list": {"messages": TODAY, "images": None, "image": "cat.png"},
    "empty list": {"messages": TODAY, "images": [], "image": "cat.png"},
    "list of null": {"messages": TODAY, "images": [None], "image": ["cat.png"], "videos": [None], "video": None},
    "NaN of pandas": {"id": math.nan, "messages": TODAY, "images": math.nan, "image": "cat.png", "video": np.nan},
    "null video": {"messages": TODAY, "image": "cat.png", "video": None, "videos": {"path": None, "bytes": None}},
    "datasets": {"messages": TODAY, "images": [{"bytes": None, "path": "cat.png"}]},
    "datasets, one": {"messages": TODAY, "image": {"bytes": None, "path": "cat.png"}},
    "path or kind": {"messages": TODAY, "images": [{"path": None, "image": "cat.png"}]},
    "turns of both dialects": {
        "messages": [
            {"from": None, "value": None, "role": "user", "content": "<image>What?"},
            {"from": "gpt", "value": "A cat.", "role": None, "content": None},
        ],
        "image": "cat.png",
    },
    "a turn of nulls": {"conversations": [*TURNS, {"from": None, "value": None}], "image": "cat.png"},
    "parts": {"messages": [{"role": "user", "content": PARTS}, TODAY[1]], "images": None},
    "part with a path": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": None, "path": "cat.png"}, PARTS[1]]},
            TODAY[1],
        ]
    },
    "part of datasets": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": {"bytes": None, "path": "cat.png"}}, PARTS[1]]},
            TODAY[1],
        ]
    },
    "numpy": {
        "id": np.nan,
        "messages": np.array([{k: np.str_(v) for k, v in turn.items()} for turn in TODAY], dtype=object),
        "images": np.array(["cat.png"], dtype=object),
    },
}  # fmt: skip
VIDEO = {
    "null path": {"messages": CLIP, "videos": [{"path": None, "video": "clip.mp4"}]},
    "null subtitles": {"messages": CLIP, "videos": [{"path": "clip.mp4", "subtitles": None}], "images": []},
    "datasets": {"messages": CLIP, "videos": [{"bytes": None, "path": "clip.mp4"}], "video": None},
    "older": {"messages": None, "conversations": TURNS, "video": "clip.mp4", "image": None, "images": []},
}


@pytest.mark.parametrize("form", IMAGE)
def test_a_picture_in_every_form(root, form):
    assert read(IMAGE[form], root) == expected("image", "cat.png")


@pytest.mark.parametrize("form", VIDEO)
def test_a_video_in_every_form(root, form):
    assert read(VIDEO[form], root) == expected("video", "clip.mp4")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("file://{root}/cat.png", "cat.png"),
        ("file://localhost{root}/cat.png", "cat.png"),
        ("file:{root}/cat.png", "cat.png"),
        ("file://{root}/a%20cat.png", "a cat.png"),
        ("file://{root}/a cat.png", "a cat.png"),
        ("file://{root}/100%.png", "100%.png"),
        ("file://{root}/100%25.png", "100%.png"),
    ],
)
def test_addresses_of_files(root, given, name):
    address = given.format(root=root)
    assert local_source(address) == str(root / name)
    for images in ([address], [{"bytes": None, "path": address}]):
        assert read({"messages": TODAY, "images": images}, root) == expected("image", name)


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (["https://example.org/cat.png"], "addresses are not fetched; download the file"),
        ([{"bytes": "iVBORw0KGgo=", "path": None}], "bytes in a record are not read; write them to a file"),
        ([None], "1 <image> for 0 images"),
        (["gone.png"], "is not there"),
        ([7], "expected paths, got 7"),
    ],
)
def test_what_cannot_be_read_is_named(root, images, told):
    with pytest.raises(BadRecord, match=told):
        read({"messages": TODAY, "images": images}, root)


def test_whole_numbers_that_pandas_made_floats_stay_ids(root):
    assert read({"id": 12.0, "messages": TODAY, "image": "cat.png"}, root)[0] == "12"
    assert read({"id": np.int64(12), "messages": TODAY, "image": "cat.png"}, root)[0] == "12"


def test_a_file_of_both_dialects_as_arrow_writes_it(root):
    rows = [
        {"id": "a", "messages": TODAY, "conversations": None, "images": ["cat.png"], "image": None, "video": None},
        {"id": "b", "messages": None, "conversations": TURNS, "images": None, "image": "cat.png", "video": None},
        {"id": None, "messages": None, "conversations": TURNS, "images": [], "image": None, "video": "clip.mp4"},
        {"id": None, "messages": None, "conversations": None, "images": None, "image": None, "video": None},
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = ConversationIndex(root / "rows.jsonl")
    assert [index.read(i).name for i in range(len(index))] == ["a", "b", "rows.jsonl:3"]
    assert [index.read(i).kind for i in range(len(index))] == ["image", "image", "video"]
    (fault,) = index.faults
    assert (fault.name, fault.reason) == ("rows.jsonl:4", "neither 'messages' nor 'conversations'")


NULLS = st.sampled_from([None, math.nan, np.float64("nan"), {"bytes": None, "path": None}, {"a": {"b": None}}])
KEYS = ("id", "messages", "conversations", "images", "image", "videos", "video", "role", "content", "from", "value",
        "type", "text", "path", "bytes", "subtitles", "name", "tool_calls")  # fmt: skip


def with_nulls(draw, value):
    """The value with null columns put into mappings at any depth, before or after what is there."""
    if isinstance(value, list):
        return [with_nulls(draw, each) for each in value]
    if not isinstance(value, dict):
        return value
    own = {key: with_nulls(draw, each) for key, each in value.items()}
    new = {key: draw(NULLS) for key in draw(st.lists(st.sampled_from(KEYS), max_size=6)) if key not in own}
    return new | own if draw(st.booleans()) else own | new


RECORDS = [
    ({"id": "r", "messages": TODAY, "images": [{"path": "cat.png"}]}, ("image", "cat.png")),
    ({"id": "r", "conversations": TURNS, "image": "cat.png"}, ("image", "cat.png")),
    ({"id": "r", "messages": CLIP, "videos": [{"path": "clip.mp4"}]}, ("video", "clip.mp4")),
    (
        {"id": "r", "messages": [{"role": "user", "content": [{"type": "image", "image": "cat.png"},
                                                              {"type": "text", "text": "What?"}]}, TODAY[1]]},
        ("image", "cat.png"),
    ),
]  # fmt: skip


@settings(max_examples=150)
@given(data=st.data(), number=st.integers(0, len(RECORDS) - 1))
def test_null_columns_anywhere_change_nothing(root, data, number):
    record, medium = RECORDS[number]
    filled = with_nulls(data.draw, record)
    assert read(filled, root) == ("r", *expected(*medium)[1:])
    if "messages" in record:
        assert read_messages(filled["messages"]) == read_messages(record["messages"])


def test_without_nulls_leaves_everything_else_as_it_is():
    picture, pixels = Image.new("RGB", (2, 2)), np.zeros((2, 2, 3), np.uint8)
    given = {"a": [picture, pixels, b"", "", 0, False, [], {}, (1, None)], "b": {"c": None}, "d": [None]}
    cleaned = without_nulls(given)
    assert list(cleaned) == ["a", "d"]
    assert cleaned["a"][0] is picture
    assert cleaned["a"][1] is pixels
    assert cleaned["a"][2:] == [b"", "", 0, False, [], {}, [1]]
    assert cleaned["d"] == []
    assert "c" in given["b"]
    missing = [type(name, (), {})() for name in ("NAType", "NaTType")]  # as pandas calls them
    assert without_nulls([None, math.nan, np.float32("nan"), *missing]) == []
    assert type(without_nulls({"a": np.int32(3)})["a"]) is int


def open_image(source, kind="image"):
    return open_media(
        Media(kind, source),
        videos={"frames": FrameTokenizer(2)},
        image=ImageTokenizer(),
        source="frames",
    )[0][1]


def test_messages_with_structs_of_datasets(root):
    """`datasets.Image(decode=False)` and `Video(decode=False)` give bytes, a path, or both."""
    path, data = str(root / "cat.png"), (root / "cat.png").read_bytes()
    want = open_image(path).images
    structs = [
        {"bytes": data, "path": None},
        {"bytes": data, "path": "a name that is no file.png"},
        {"bytes": None, "path": path},
        {"bytes": None, "path": f"file://{path}"},
    ]
    for struct in structs:
        part = [{"type": "image", "image": struct, "text": None}, {"type": "text", "text": "?", "image": None}]
        (own,) = read_messages([{"role": "user", "content": part, "tool_calls": None}])
        (listed,) = read_messages([{"role": "user", "content": "<image>?"}], images=[struct], videos=None)
        for message in (own, listed):
            found = [piece for piece in message.parts if isinstance(piece, Media)]
            assert [len(found), found[0].kind, found[0].options] == [1, "image", {}]
            assert (open_image(found[0].source).images == want).all()
    clip = {"bytes": SAMPLE.read_bytes(), "path": None}
    (message,) = read_messages([{"role": "user", "content": [{"type": "video", "video": clip}]}])
    assert (open_image(message.parts[0].source, "video").images == open_image(str(SAMPLE), "video").images).all()


def test_a_struct_of_nulls_is_no_picture():
    with pytest.raises(DataError, match="needs its source"):
        read_messages([{"role": "user", "content": [{"type": "image", "image": {"bytes": None, "path": None}}]}])
    with pytest.raises(DataError, match=r"1 <image> placeholder\(s\) for 0 image"):
        read_messages([{"role": "user", "content": "<image>?"}], images=[{"bytes": None, "path": None}])


def test_questions_with_null_columns(tmp_path):
    rows = [{"id": None, "video": "a.mp4", "question": "q", "answer": "[1.0]", "confidence": None, "split": None}]
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    (item,) = read_jumpscore_folder(tmp_path).items
    assert (item.id, item.confidence) == ("row-1", None)
