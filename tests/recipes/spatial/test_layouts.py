"""Every public layout gives the same objects; what does not belong together is refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ov2kit.errors import DataError, OptionError
from ov2kit.recipes.data.conversations import read_conversation
from ov2kit.recipes.spatial.boxes import parse_boxes
from ov2kit.recipes.spatial.frames import VideoFrames
from ov2kit.recipes.spatial.layouts import digest_of, read_referring
from ov2kit.recipes.spatial.points import parse_points
from ov2kit.recipes.spatial.set_masks import read_labels
from ov2kit.recipes.spatial.set_records import write_picture_records, write_track_records
from ov2kit.recipes.spatial.tracks import parse_tracks
from tests.paths import SAMPLE
from tests.recipes.spatial import set_folders

BOTH = [("the red one", [0]), ("the blue one", [1])]


@pytest.mark.parametrize(
    ("layout", "split", "expected"),
    [
        ("ref_youtube_vos", "valid", BOTH),
        ("ref_davis_text", None, BOTH),
        ("mevis", "valid_u", [("the red one", [0]), ("both", [0, 1])]),
        ("revos", None, [("the red one", [0]), ("what would stop a car?", [1])]),
        ("reasonvos", None, [("what would stop a car?", [0]), ("the blue one", [1])]),
    ],
)
def test_every_layout_gives_expressions_pictures_and_masks(layout, split, expected, tmp_path):
    items = read_referring(getattr(set_folders, layout)(tmp_path / "set"), split)
    assert [item.expression for item in items] == [text for text, _ in expected]
    assert len({item.id for item in items}) == len(items)
    for item, (_, objects) in zip(items, expected, strict=True):
        truth, frames = item.read_masks(), item.frames()
        assert (truth.frames, truth.size) == (set_folders.FRAMES, set_folders.SIZE)
        assert (len(frames), frames.size) == (set_folders.FRAMES, set_folders.SIZE)
        assert np.abs(frames[1].astype(int) - set_folders.pictures()[1]).mean() < 6
        for number, k in enumerate(objects):
            for t in range(truth.frames):
                assert (truth.mask(number, t) == set_folders.masks()[k, t]).all(), (number, t)
        assert sorted(truth.objects) == list(range(len(objects)))


def test_the_only_split_needs_no_name_and_several_do(tmp_path):
    root = set_folders.mevis(tmp_path / "set")
    assert len(read_referring(root)) == 2
    (root / "train").mkdir()
    (root / "train" / "meta_expressions.json").write_text(json.dumps({"videos": {}}))
    with pytest.raises(DataError, match=r"several files of expressions \(train/.*valid_u/"):
        read_referring(root)
    assert len(read_referring(root, "valid_u")) == 2


def test_kinds_of_revos_are_told_apart(tmp_path):
    assert [i.kind for i in read_referring(set_folders.revos(tmp_path / "s"))] == ["referring", "reasoning"]


def test_ids_in_a_palette_are_indices_whatever_the_colors(tmp_path):
    root = set_folders.ref_youtube_vos(tmp_path / "set")
    path = root / "valid" / "Annotations" / "clip" / "00000.png"
    assert Image.open(path).mode == "P"
    assert set(np.unique(read_labels(path))) == {0, 1, 2}
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(DataError, match=r"00000\.png: expected ids as a palette or gray PNG, got mode RGB"):
        read_labels(path)


def test_what_does_not_belong_together_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected a folder"):
        read_referring(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"expected annotations\.json, meta_expressions\.json"):
        read_referring(tmp_path)
    root = set_folders.mevis(tmp_path / "mevis")
    (root / "valid_u" / "mask_dict.json").write_text(json.dumps({"7": set_folders._rle(0)}))
    with pytest.raises(DataError, match="no masks of annotation '9'"):
        read_referring(root)[1].read_masks()
    path = root / "valid_u" / "meta_expressions.json"
    for content, problem in [
        ({"videos": {"clip": {"expressions": {}}}}, "KeyError: 'frames'"),
        (
            {"videos": {"clip": {"frames": ["0"], "expressions": {"0": 3}}}},
            "neither JPEGImages/clip nor|AttributeError",
        ),
        ({"videos": []}, "expected an object with 'videos'"),
        ([], "AttributeError"),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=problem):
            read_referring(root)
    root = set_folders.ref_youtube_vos(tmp_path / "ytvos")
    (root / "valid" / "Annotations" / "clip" / "00002.png").unlink()
    with pytest.raises(DataError, match=r"00002\.png: this mask cannot be read"):
        read_referring(root)[0].read_masks()


@pytest.mark.parametrize("dialect", ["messages", "conversations"])
def test_a_set_becomes_training_records_of_either_dialect(dialect, tmp_path):
    items = read_referring(set_folders.mevis(tmp_path / "set"))
    path = tmp_path / "records" / "tracks.jsonl"
    assert write_track_records(items, path, every=1, dialect=dialect) == 2
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record, objects in zip(records, [[0], [0, 1]], strict=True):
        conversation = read_conversation(record, path.parent, "x")
        assert (conversation.kind, conversation.videos) == ("video", 1)
        assert len(VideoFrames(conversation.media()[0], fps=None)) == set_folders.FRAMES
        tracks = parse_tracks(conversation.messages[1]["content"][0]["text"], strict=True)
        for point in tracks.points:
            column, row = round(point.x * set_folders.SIZE[1]), round(point.y * set_folders.SIZE[0])
            assert set_folders.masks()[objects[point.object_id], round(point.seconds * 6), row, column]
        assert len(tracks.points) == sum(set_folders.masks()[k].any((1, 2)).sum() for k in objects)


@pytest.mark.parametrize("task", ["points", "boxes"])
def test_a_set_becomes_records_of_single_pictures(task, tmp_path):
    items = read_referring(set_folders.mevis(tmp_path / "set"))
    path = tmp_path / "records" / f"{task}.jsonl"
    assert write_picture_records(items, path, task, every=3) == 4  # 2 pictures, 2 expressions
    records = [json.loads(line) for line in path.read_text().splitlines()]
    masks, size = set_folders.masks(), set_folders.SIZE
    shown = [(0, [0]), (3, [0]), (0, [0, 1]), (3, [0])]  # the second object hides in the last picture
    for record, (number, objects) in zip(records, shown, strict=True):
        conversation = read_conversation(record, path.parent, "x")
        assert (conversation.kind, conversation.images) == ("image", 1)
        picture = np.asarray(Image.open(conversation.media()[0])).astype(int)
        assert np.abs(picture - set_folders.pictures()[number]).mean() < 6  # of a JPEG
        text = conversation.messages[1]["content"][0]["text"]
        if task == "points":
            found = parse_points(text, strict=True).points
            places = [(round(p.y * size[0]), round(p.x * size[1])) for p in found]
            assert all(masks[k, number, row, column] for k, (row, column) in zip(objects, places, strict=True))
            continue
        for k, box in zip(objects, parse_boxes(text, strict=True).boxes, strict=True):
            left, top, right, bottom = (round(v * s) for v, s in zip(box.corners, (size[1], size[0]) * 2, strict=True))
            inside = np.zeros(size, dtype=bool)
            inside[top:bottom, left:right] = True
            assert (inside == masks[k, number]).all()  # the objects are rectangles
    with pytest.raises(OptionError, match="known: points, boxes"):
        write_picture_records(items, path, "masks")


def test_expressions_of_one_id_are_refused_and_of_none_numbered(tmp_path):
    facts = {"video": "clip", "fps": 6, "mask_ids": ["0"], "height": 24, "width": 32, "n_frames": 4}
    documents = [{**facts, "id": name, "expression": name} for name in ("the red one", "the blue one")]
    (tmp_path / "videos").mkdir()
    shutil.copyfile(SAMPLE, tmp_path / "videos" / "clip.mp4")
    root, path = tmp_path, tmp_path / "annotations.json"
    path.write_text(json.dumps([{name: v for name, v in document.items() if name != "id"} for document in documents]))
    items = read_referring(root)
    assert len({item.id for item in items}) == len(items) == len(documents)
    digest = digest_of(items)
    path.write_text(json.dumps([document | {"id": "same"} for document in documents]))
    with pytest.raises(DataError, match="two expressions have the id 'same'"):
        read_referring(root)
    path.write_text(json.dumps(documents))
    assert digest_of(read_referring(root)) != digest
