"""Folders of questions as tasks for lmms-eval, and their scores; lmms-eval itself is not needed for these."""

import json

import pytest
import torch

pytest.importorskip("torchmetrics", reason="needs torchmetrics: pip install 'ov2kit[recipes]'")

from ov2kit.errors import DataError, OutputError
from ov2kit.recipes.clients import lmms_eval_scores as scores
from ov2kit.recipes.clients.lmms_eval_tasks import main, write_task
from ov2kit.recipes.evaluation.evaluate import evaluate_jumpscore
from ov2kit.recipes.metrics import TemporalIoU

ROWS = [
    {"id": "a", "video": "a.mp4", "question": "When?", "answer": "[1.0, 2.0]"},
    {"id": 7, "video": "b.mp4", "question": "When? ", "answer": [0.5], "confidence": [1, 0.5]},
    {"video": "a.mp4", "question": "And then?", "answer": "[]"},
    {"video": "b.mp4", "question": "And then?", "answer": "soon"},
]
SAID = ["1.0s, 2.25s", "at 0.75s, at 0.5s", "never", "1.5s"]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    (root / "videos").mkdir(parents=True)
    (root / "a.mp4").write_bytes(b"a")
    (root / "videos" / "b.mp4").write_bytes(b"b")
    (root / "annotations.json").write_text(json.dumps(ROWS))
    return root


def rows_of(place):
    return [json.loads(line) for line in (place / "rows.jsonl").read_text().split("\n")[:-1]]


def test_rows_have_one_form_and_name_their_videos_in_full(folder, tmp_path):
    written = write_task("jumpscore", folder, tmp_path / "task")
    rows = rows_of(written.parent)
    assert [row["id"] for row in rows] == ["a", "7", "row-3", "row-4"]
    assert [row["video"] for row in rows] == [str(folder / "a.mp4"), str(folder / "videos" / "b.mp4")] * 2
    assert [row["question"] for row in rows] == [row["question"] for row in ROWS]
    assert [row["answer"] for row in rows] == ["[1.0, 2.0]", "[0.5]", "[]", "soon"]
    assert [row.get("confidence") for row in rows] == [None, [1.0, 0.5], None, None]
    text = written.read_text()
    assert text.startswith("# When does it jump?")
    assert text.endswith("dataset_kwargs: {data_files: {test: rows.jsonl}}\n")


def test_means_are_those_of_our_own_evaluation(folder, tmp_path):
    """To the last digit, rows without an AP included."""
    said = iter(SAID)
    want = evaluate_jumpscore(lambda video, question: next(said), folder, tmp_path / "out")
    write_task("jumpscore", folder, tmp_path / "task")
    found = [scores.score_jumpscore(row, [text]) for row, text in zip(rows_of(tmp_path / "task"), SAID, strict=True)]
    means = {"map": "map", "ap@0.1": "ap_01", "ap@0.2": "ap_02", "ap@0.3": "ap_03"}
    for name, function in means.items():
        mean = getattr(scores, f"jumpscore_{function}")([row[name] for row in found])
        assert mean == want[name]
    # by hand: two of the first row are in time at 0.3 s, one before; of the second row 0.5 counts, and goes after 0.75
    assert want["map"] == pytest.approx(((0.5 + 0.5 + 1) / 3 + (0.5 + 0.5 + 1) / 3 + 1 + 0) / 4)
    assert want["ap@0.1"] == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_grounding_scores_are_those_of_the_metric():
    answers = ["2 to 6", "[[0, 2], [10, 12]]", "1 - 2"]
    said = ["from 0 to 4 seconds", "[8, 12]", "no idea"]
    found = [scores.score_grounding({"answer": a}, [s]) for a, s in zip(answers, said, strict=True)]
    metric = TemporalIoU()
    metric.update(said, answers)
    want = metric.compute()
    for name, mean in (("miou", scores.grounding_miou), ("r1@0.3", scores.grounding_r1_03),
                       ("r1@0.5", scores.grounding_r1_05), ("r1@0.7", scores.grounding_r1_07)):  # fmt: skip
        assert mean([row[name] for row in found]) == want[name].item()
    assert torch.allclose(want["miou"], torch.tensor((1 / 3 + 0.5 + 0) / 3, dtype=torch.float64))


def test_what_cannot_be_a_task_is_refused_and_nothing_is_written(folder, tmp_path, capsys):
    with pytest.raises(DataError, match=r"question '7': no time span in the answer '\[0\.5\]'"):
        write_task("grounding", folder, tmp_path / "task")
    (folder / "a.mp4").unlink()
    with pytest.raises(DataError, match=r"video 'a\.mp4' is neither in the folder"):
        write_task("jumpscore", folder, tmp_path / "task")
    assert main(["--task", "jumpscore", "--data", str(folder), "--out", str(tmp_path / "task")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "task").exists()


def test_a_task_may_not_go_over_its_questions(folder):
    (folder / "annotations.json").rename(folder / "rows.jsonl")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with pytest.raises(OutputError, match=r"rows\.jsonl: is read by this command"):
        write_task("jumpscore", folder, folder, split="rows")
