"""A folder of questions, an answerer, and what is left on the disk after every kind of end."""

import errno
import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
import types

import pytest
import torch

from ov2kit import __version__
from ov2kit.cli import run
from ov2kit.errors import CheckpointError, DataError, VideoError
from ov2kit.recipes.evaluation.evaluate import evaluate_jumpscore, score_line
from ov2kit.recipes.evaluation.jumpscore_folder import read_jumpscore_folder
from ov2kit.recipes.metrics import JumpScoreMAP
from tests.patience import PATIENCE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROWS = [
    {"id": "a", "video": "a.mp4", "question": "When?", "answer": "[1.0, 2.0]"},
    {"id": "b", "video": "b.mp4", "question": "When does it jump?", "answer": [0.5]},
    {"video": "sub/c.mp4", "question": "When?", "answer": "[]"},
    {"id": 4, "video": "a.mp4", "question": "And then?", "answer": "[3.0]"},
]
SAID = {
    "a.mp4 When?": "1.0s, 2.0s",
    "b.mp4 When does it jump?": "at 0.75s",
    "c.mp4 When?": "never",
    "a.mp4 And then?": "[9]",
}
IDS = ["a", "b", "row-3", "4"]
MAPS = [1.0, 1 / 3, 1.0, 0.0]  # 0.75 against 0.5 is a hit at 0.3 only


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    (root / "videos" / "sub").mkdir(parents=True)
    (root / "a.mp4").write_bytes(b"a")
    (root / "videos" / "b.mp4").write_bytes(b"b")
    (root / "videos" / "sub" / "c.mp4").write_bytes(b"c")
    (root / "annotations.json").write_text(json.dumps(ROWS))
    return root


class Model:
    """Gives the answers it was made with, and notes what it was asked."""

    def __init__(self, said=SAID, fail=None):
        self.said, self.fail, self.asked = said, fail or {}, []

    def __call__(self, video, question):
        assert video.is_file()
        key = f"{video.name} {question}"
        self.asked.append(key)
        if key in self.fail:
            raise self.fail[key]
        return self.said[key]


def lines_of(out, name="predictions.jsonl"):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def test_predictions_and_scores(folder, tmp_path):
    model, out, seen = Model(), tmp_path / "out", []
    scores = evaluate_jumpscore(model, folder, out, settings={"model": "m"}, progress=lambda *done: seen.append(done))
    lines = lines_of(out)
    assert [line["id"] for line in lines] == IDS
    assert list(lines[0]) == ["id", "video", "question", "answer", "prediction", "seconds", "tokens", "error"]
    assert [line["prediction"] for line in lines] == list(SAID.values())
    assert lines[1]["answer"] == [0.5]
    assert {line["error"] for line in lines} == {line["tokens"] for line in lines} == {None}
    assert all(line["seconds"] >= 0 for line in lines)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads((out / "scores.json").read_text()) == scores
    assert {path.stat().st_mode & 0o777 for path in (out / "scores.json", out / "settings.json")} == {0o644}
    assert scores["map"] == pytest.approx(sum(MAPS) / 4)
    metric = JumpScoreMAP()
    metric.update(list(SAID.values()), [row["answer"] for row in ROWS])
    for name, value in metric.compute().items():
        assert scores[name] == pytest.approx(value.item(), abs=1e-12)
    assert (scores["questions"], scores["scored"], scores["errors"], scores["bad_rows"]) == (4, 4, 0, [])
    assert scores["settings"]["model"] == "m"


def test_tokens_and_confidence_are_kept(folder, tmp_path):
    rows = [{"id": "a", "video": "a.mp4", "question": "When?", "answer": "[2.0]", "confidence": [0.1, 0.9]}]
    (folder / "annotations.json").write_text(json.dumps(rows))
    scores = evaluate_jumpscore(lambda video, question: ("[1.0, 2.0]", 640), folder, tmp_path / "out")
    assert scores["map"] == 1.0  # without the confidence the miss would come first: 1/2
    assert scores["tokens_per_question"] == 640
    assert lines_of(tmp_path / "out")[0]["tokens"] == 640
    assert lines_of(tmp_path / "out")[0]["confidence"] == [0.1, 0.9]


class TestGoingOn:
    def test_what_is_answered_is_not_asked_again(self, folder, tmp_path):
        out = tmp_path / "out"
        assert evaluate_jumpscore(Model(), folder, out, limit=2)["questions"] == 2
        model = Model()
        scores = evaluate_jumpscore(model, folder, out)
        assert model.asked == list(SAID)[2:]
        assert scores["map"] == pytest.approx(sum(MAPS) / 4)
        nobody = Model(said={})
        assert evaluate_jumpscore(nobody, folder, out)["map"] == scores["map"]
        assert nobody.asked == []

    @pytest.mark.parametrize("stop", [KeyboardInterrupt(), TypeError("a bug")])
    def test_an_end_in_the_middle_keeps_all_answers(self, folder, tmp_path, stop):
        out = tmp_path / "out"
        with pytest.raises(type(stop)):
            evaluate_jumpscore(Model(fail={list(SAID)[2]: stop}), folder, out)
        assert [line["id"] for line in lines_of(out)] == IDS[:2]
        assert not (out / "scores.json").exists()
        model = Model()
        assert evaluate_jumpscore(model, folder, out)["map"] == pytest.approx(sum(MAPS) / 4)
        assert model.asked == list(SAID)[2:]

    @pytest.mark.parametrize("keep", [1, 30, -1])
    def test_a_line_that_was_cut_off_is_asked_again(self, folder, tmp_path, keep):
        out = tmp_path / "out"
        evaluate_jumpscore(Model(), folder, out)
        whole = (out / "predictions.jsonl").read_bytes()
        *first, last = whole.splitlines(keepends=True)
        (out / "predictions.jsonl").write_bytes(b"".join(first) + last[:keep])
        model = Model()
        evaluate_jumpscore(model, folder, out)
        assert model.asked == list(SAID)[3:]
        assert [line["id"] for line in lines_of(out)] == IDS

    def test_a_broken_line_in_the_middle_is_refused(self, folder, tmp_path):
        out = tmp_path / "out"
        evaluate_jumpscore(Model(), folder, out)
        text = (out / "predictions.jsonl").read_text()
        (out / "predictions.jsonl").write_text("{oops\n" + text)
        with pytest.raises(DataError, match=r"predictions\.jsonl, line 1: not JSON"):
            evaluate_jumpscore(Model(), folder, out)
        assert (out / "predictions.jsonl").read_text() == "{oops\n" + text

    def test_other_settings_are_refused(self, folder, tmp_path):
        out = tmp_path / "out"
        evaluate_jumpscore(Model(), folder, out, settings={"budget": 8, "model": "m"})
        before = (out / "predictions.jsonl").read_bytes()
        with pytest.raises(DataError, match=r"were made with budget 8 \(now 16\); use another folder"):
            evaluate_jumpscore(Model(), folder, out, settings={"budget": 16, "model": "m"})
        with pytest.raises(DataError, match=r"made with budget 8 \(now None\)"):
            evaluate_jumpscore(Model(), folder, out, settings={"model": "m"})
        (folder / "annotations.json").write_text(json.dumps(ROWS[:3]))
        with pytest.raises(DataError, match="annotations_sha256"):
            evaluate_jumpscore(Model(), folder, out, settings={"budget": 8, "model": "m"})
        assert (out / "predictions.jsonl").read_bytes() == before
        model = Model()
        scores = evaluate_jumpscore(model, folder, out, settings={"budget": 16}, overwrite=True)
        assert (len(model.asked), scores["questions"]) == (3, 3)

    def test_predictions_of_unknown_settings_are_refused(self, folder, tmp_path):
        (tmp_path / "predictions.jsonl").write_text("")
        with pytest.raises(DataError, match=r"without settings\.json"):
            evaluate_jumpscore(Model(), folder, tmp_path)

    def test_two_runs_at_once_are_refused(self, folder, tmp_path):
        out, inside, leave = tmp_path / "out", threading.Event(), threading.Event()

        def slow(video, question):
            inside.set()
            leave.wait(PATIENCE)
            return "never"

        first = threading.Thread(target=evaluate_jumpscore, args=(slow, folder, out))
        first.start()
        assert inside.wait(PATIENCE)
        with pytest.raises(DataError, match="another run is writing it"):
            evaluate_jumpscore(Model(), folder, out)
        leave.set()
        first.join()
        assert len(lines_of(out)) == 4

    def test_a_killed_process_leaves_whole_lines(self, folder, tmp_path):
        code = f"""
            import time
            from ov2kit.recipes.evaluation.evaluate import evaluate_jumpscore

            def answer(video, question):
                if "then" in question:
                    print("asked", flush=True)
                    time.sleep(3600)
                return "1.0s"

            evaluate_jumpscore(answer, {str(folder)!r}, {str(tmp_path / "out")!r})
        """
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"asked\n"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        model = Model()
        evaluate_jumpscore(model, folder, tmp_path / "out")
        assert model.asked == list(SAID)[3:]
        assert [line["prediction"] for line in lines_of(tmp_path / "out")] == ["1.0s"] * 3 + ["[9]"]


class TestErrors:
    def test_an_error_scores_nothing_and_is_asked_again(self, folder, tmp_path):
        (folder / "videos" / "sub" / "c.mp4").unlink()  # its answer is "nothing happens": silence must not win
        fail = {"b.mp4 When does it jump?": VideoError("b.mp4: cannot be\nopened")}
        out = tmp_path / "out"
        scores = evaluate_jumpscore(Model(fail=fail), folder, out)
        assert (scores["errors"], scores["scored"]) == (2, 4)
        assert scores["map"] == pytest.approx(1 / 4)
        assert scores["ap@0.3"] == pytest.approx(1 / 4)
        lines = lines_of(out)
        assert lines[1]["error"] == "b.mp4: cannot be opened"
        assert lines[1]["prediction"] is None
        assert "'sub/c.mp4' is neither in the folder nor in its videos/" in lines[2]["error"]
        skipped = evaluate_jumpscore(Model(fail=fail), folder, out, errors="skip")
        assert (skipped["errors"], skipped["scored"], skipped["map"]) == (2, 2, pytest.approx(1 / 2))

        (folder / "c.mp4").write_bytes(b"c")
        (folder / "sub").mkdir()
        (folder / "c.mp4").rename(folder / "sub" / "c.mp4")
        model = Model()
        scores = evaluate_jumpscore(model, folder, out)
        assert model.asked == list(SAID)[1:3]
        assert (scores["errors"], scores["map"]) == (0, pytest.approx(sum(MAPS) / 4))
        assert [line["id"] for line in lines_of(out)] == IDS
        assert {line["error"] for line in lines_of(out)} == {None}

    def test_a_line_with_an_error_has_an_ap_of_zero(self):
        row = score_line({"answer": "[]", "prediction": None, "error": "x"})
        assert (row.map, set(row.ap.values())) == (0.0, {0.0})
        assert score_line({"answer": "[]", "prediction": None, "error": "x"}, "skip") is None

    def test_a_model_that_always_fails_is_stopped(self, folder, tmp_path):
        fail = dict.fromkeys(SAID, VideoError("no picture"))
        with pytest.raises(DataError, match="after 3 questions in a row failed; the last: no picture"):
            evaluate_jumpscore(Model(fail=fail), folder, tmp_path / "out", max_failures=3)
        assert not (tmp_path / "out" / "scores.json").exists()

    @pytest.mark.parametrize("errors", ["zero", "skip"])
    def test_there_are_no_scores_of_no_answers(self, folder, tmp_path, errors):
        fail = dict.fromkeys(SAID, VideoError("no picture"))
        with pytest.raises(DataError, match=r"none of 4 questions could be answered.*the first: no picture"):
            evaluate_jumpscore(Model(fail=fail), folder, tmp_path / "out", errors=errors)
        assert [line["error"] for line in lines_of(tmp_path / "out")] == ["no picture"] * 4
        assert not (tmp_path / "out" / "scores.json").exists()
        assert evaluate_jumpscore(Model(), folder, tmp_path / "out")["map"] == pytest.approx(sum(MAPS) / 4)

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory"),
            RuntimeError("shapes do not fit"),
            ValueError("max_new_tokens must be at least 1"),
            CheckpointError("model.safetensors: cut short"),
            OSError(errno.ENOSPC, "No space left on device"),
            OSError(errno.ENOSPC, "No space left on device", "elsewhere.tmp"),
            KeyError("x"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_is_not_the_fault_of_the_video_comes_through(self, folder, tmp_path, error):
        with pytest.raises(type(error)) as caught:
            evaluate_jumpscore(Model(fail={list(SAID)[2]: error}), folder, tmp_path / "out")
        assert caught.value is error
        assert [line["id"] for line in lines_of(tmp_path / "out")] == IDS[:2]
        assert not (tmp_path / "out" / "scores.json").exists()

    def test_errors_of_the_system_about_the_video_are_its_own(self, folder, tmp_path):
        one, two = list(SAID)[:2]
        fail = {
            one: PermissionError(errno.EACCES, "Permission denied", str(folder / "a.mp4")),
            two: FileNotFoundError(errno.ENOENT, "No such file", str(folder / "videos" / "b.mp4" / "group.jpg")),
        }
        scores = evaluate_jumpscore(Model(fail=fail), folder, tmp_path / "out")
        assert (scores["errors"], scores["map"]) == (2, pytest.approx(sum(MAPS[2:]) / 4))

    def test_a_model_that_cannot_be_loaded_leaves_everything_as_it_was(self, folder, tmp_path):
        def load():
            raise VideoError("an error of any class")

        with pytest.raises(VideoError, match="any class"):
            evaluate_jumpscore(Model(), folder, tmp_path / "out", before_first=load)
        assert not (tmp_path / "out").exists()
        evaluate_jumpscore(Model(), folder, tmp_path / "out")
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        evaluate_jumpscore(Model(), folder, tmp_path / "out", before_first=load)  # nothing is left to ask
        with pytest.raises(VideoError, match="any class"):
            evaluate_jumpscore(Model(), folder, tmp_path / "out", before_first=load, overwrite=True)
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before

    def test_an_answer_that_is_no_text_is_a_bug(self, folder, tmp_path):
        with pytest.raises(TypeError, match="got int"):
            evaluate_jumpscore(lambda video, question: 3, folder, tmp_path / "out")


class TestSeveralProcesses:
    def test_the_last_one_merges(self, folder, tmp_path):
        out, first, second = tmp_path / "out", Model(), Model()
        assert evaluate_jumpscore(first, folder, out, rank=1, world_size=2) is None
        assert not (out / "scores.json").exists()
        scores = evaluate_jumpscore(second, folder, out, rank=0, world_size=2)
        assert (first.asked, second.asked) == (list(SAID)[1::2], list(SAID)[::2])
        assert scores["map"] == pytest.approx(sum(MAPS) / 4)
        assert [line["id"] for line in lines_of(out)] == IDS
        alone = evaluate_jumpscore(Model(), folder, tmp_path / "alone")
        same = set(alone) - {"seconds_per_question"}
        assert {name: alone[name] for name in same} == {name: scores[name] for name in same}

    def test_another_number_of_processes_goes_on(self, folder, tmp_path):
        out = tmp_path / "out"
        evaluate_jumpscore(Model(), folder, out, rank=2, world_size=3)
        model = Model()
        assert evaluate_jumpscore(model, folder, out)["map"] == pytest.approx(sum(MAPS) / 4)
        assert model.asked == [key for k, key in enumerate(SAID) if k != 2]

    def test_at_the_same_time(self, folder, tmp_path):
        rows = [{"id": str(k), "video": "a.mp4", "question": str(k), "answer": f"[{k}.0]"} for k in range(40)]
        (folder / "annotations.json").write_text(json.dumps(rows))
        found = []

        def work(rank):
            said = lambda video, question: f"{question}.0s"  # noqa: E731
            found.append(evaluate_jumpscore(said, folder, tmp_path / "out", rank=rank, world_size=4))

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 4
        assert {scores["map"] for scores in found if scores is not None} == {1.0}
        assert [line["id"] for line in lines_of(tmp_path / "out")] == [row["id"] for row in rows]

    def test_more_processes_than_questions(self, folder, tmp_path):
        found = [evaluate_jumpscore(Model(), folder, tmp_path / "out", rank=r, world_size=6) for r in range(6)]
        assert [scores is None for scores in found] == [True] * 3 + [False] * 3

    def test_refusals(self, folder, tmp_path):
        with pytest.raises(ValueError, match="rank must be at least 0 and below 2, got 2"):
            evaluate_jumpscore(Model(), folder, tmp_path / "out", rank=2, world_size=2)
        with pytest.raises(ValueError, match="remove the folder first"):
            evaluate_jumpscore(Model(), folder, tmp_path / "out", world_size=2, overwrite=True)


class TestFolder:
    @pytest.mark.parametrize(
        ("row", "problem"),
        [
            (5, "expected an object, got int"),
            ({"video": "", "question": "q", "answer": "[]"}, "'video' must be text, got ''"),
            ({"video": "a.mp4", "answer": "[]"}, "'question' must be text, got None"),
            ({"video": "a.mp4", "question": "q"}, "'answer' must be text or a list of seconds, got None"),
            ({"video": "a.mp4", "question": "q", "answer": [True]}, r"list of seconds, got \[True\]"),
            ({"video": "a.mp4", "question": "q", "answer": "", "confidence": "0.5"}, "'confidence' must be a list"),
            ({"video": "/etc/a.mp4", "question": "q", "answer": ""}, "inside the folder, got '/etc/a.mp4'"),
            ({"video": "../a.mp4", "question": "q", "answer": ""}, r"inside the folder, got '\.\./a\.mp4'"),
            ({"id": 1.5, "video": "a.mp4", "question": "q", "answer": ""}, "'id' must be .* got 1.5"),
            ({"id": "a", "video": "a.mp4", "question": "q", "answer": ""}, "id 'a' stands in an earlier row"),
        ],
    )
    def test_bad_rows_are_named_and_left_out(self, folder, tmp_path, row, problem):
        (folder / "annotations.json").write_text(json.dumps([*ROWS, row]))
        data = read_jumpscore_folder(folder)
        assert [item.id for item in data.items] == IDS
        assert len(data.bad_rows) == 1
        assert data.bad_rows[0].startswith("annotations.json, row 5: ")
        assert re.search(problem, data.bad_rows[0])
        scores = evaluate_jumpscore(Model(), folder, tmp_path / "out")
        assert scores["bad_rows"] == list(data.bad_rows)
        assert scores["map"] == pytest.approx(sum(MAPS) / 4)

    def test_lines_and_splits(self, folder):
        text = "\n".join(json.dumps(row) for row in ROWS)
        (folder / "test.jsonl").write_text("\ufeff" + text.replace("\n", "\n\n{broken\n", 1))
        data = read_jumpscore_folder(folder, "test")
        assert [item.id for item in data.items] == ["a", "b", "row-5", "4"]
        assert data.bad_rows[0].startswith("test.jsonl, row 3: not JSON")

    @pytest.mark.parametrize(
        ("name", "text", "problem"),
        [
            ("annotations.json", "[{", "not readable as JSON"),
            ("annotations.json", "{}", "expected a list of rows, got dict"),
            ("annotations.json", "[]", "the list is empty"),
            ("annotations.json", "[1]", "no row can be used; the first: annotations.json, row 1"),
            ("test.json", "[]", r"neither annotations.json nor annotations.jsonl; pass split as one of \['test'\]"),
        ],
    )
    def test_files_that_are_no_annotations(self, tmp_path, name, text, problem):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=problem):
            read_jumpscore_folder(tmp_path)

    def test_two_files_of_one_name(self, folder):
        (folder / "annotations.jsonl").write_text("")
        with pytest.raises(DataError, match=r"both annotations\.json and annotations\.jsonl"):
            read_jumpscore_folder(folder)


class TestCommand:
    @pytest.fixture
    def ov2kit(self, capfd, tmp_path, monkeypatch):
        """The command with an answerer that stands in for the model."""
        made = []

        def answerer(model, *, device, seen, **choices):
            made.append((model, device, choices))
            return Model()

        stub = types.ModuleType("ov2kit.recipes.generate")
        stub.answerer = answerer
        monkeypatch.setitem(sys.modules, "ov2kit.recipes.generate", stub)
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "model.safetensors").write_bytes(bytes(200_000))

        def run_command(*arguments, status=0):
            base = ["--model", tmp_path / "model", "--out", tmp_path / "out"]
            code = run([str(a) for a in ["evaluate", *base, *arguments]])
            printed = capfd.readouterr()
            assert code == status, printed.err
            return printed

        run_command.made = made
        return run_command

    def test_a_run_and_the_next_one(self, ov2kit, folder, tmp_path):
        done = ov2kit("--data", folder, "--budget_canvases", 16, "--source", "frames", "--quiet")
        assert f"map {sum(MAPS) / 4:.4f}, ap@0.1" in done.out
        choices = {"source": "frames", "budget_canvases": 16, "max_new_tokens": 256, "decimals": 2}
        choices |= {"visibility": "group", "dtype": "float32" if DEVICE == "cpu" else "auto"}
        assert ov2kit.made == [(str(tmp_path / "model"), DEVICE, choices)]
        settings = json.loads((tmp_path / "out" / "settings.json").read_text())
        assert settings.items() >= choices.items()
        assert settings["ov2kit"] == __version__
        again = ov2kit("--data", folder, "--budget_canvases", 16, "--source", "frames", "--json")
        assert json.loads(again.out)["map"] == pytest.approx(sum(MAPS) / 4)
        assert len(ov2kit.made) == 1  # no model is loaded when nothing is left to ask
        other = ov2kit("--data", folder, "--budget_canvases", 32, "--source", "frames", status=2)
        assert other.err.strip().splitlines()[-1].startswith("error: ")
        assert "budget_canvases 16 (now 32)" in other.err

    @pytest.mark.parametrize(
        ("option", "value"),
        [("source", "frames"), ("budget_canvases", 16), ("max_new_tokens", 9), ("decimals", 1),
         ("visibility", "canvas"), ("dtype", "bfloat16")],
    )  # fmt: skip
    def test_going_on_with_another_option_is_refused(self, ov2kit, folder, tmp_path, option, value):
        ov2kit("--data", folder, "--quiet")
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        assert f"{option} " in ov2kit("--data", folder, "--quiet", f"--{option}", value, status=2).err
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before

    @pytest.mark.parametrize(
        ("option", "value", "told"),
        [
            ("device", "cuda:99", "device 'cuda:99' cannot be used"),
            ("device", "gpu", "device 'gpu' cannot be used"),
            ("budget_canvases", 0, "--budget_canvases must be at least 1, got 0"),
            ("max_new_tokens", 0, "--max_new_tokens must be at least 1, got 0"),
            ("max_new_tokens", -1, "--max_new_tokens must be at least 1, got -1"),
            ("limit", 0, "--limit must be at least 1, got 0"),
            ("decimals", 10, "--decimals must be from 0 to 9, got 10"),
            ("rank", 3, "rank must be"),
        ],
    )
    def test_options_are_checked_before_anything_is_read_or_written(
        self, ov2kit, folder, tmp_path, option, value, told
    ):
        done = ov2kit("--data", folder, "--overwrite", f"--{option}", value, status=2)
        assert done.err.startswith("error: ")
        assert done.err.splitlines()[0].count(told) == 1
        assert ov2kit.made == []
        assert not (tmp_path / "out").exists()

    def test_no_answer_at_all_is_not_a_success(self, ov2kit, folder, tmp_path):
        for video in folder.rglob("*.mp4"):
            video.unlink()
        done = ov2kit("--data", folder, "--quiet", status=2)
        assert "none of 4 questions could be answered" in done.err
        assert not (tmp_path / "out" / "scores.json").exists()

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json", "merges.txt", "chat_template.jinja"])
    def test_every_file_that_decides_is_sampled(self, ov2kit, folder, tmp_path, name):
        (tmp_path / "model" / name).write_text("one")
        ov2kit("--data", folder, "--quiet")
        (tmp_path / "model" / name).write_text("two")
        assert "model_sample" in ov2kit("--data", folder, "--quiet", status=2).err

    def test_other_weights_at_the_same_place_are_refused(self, ov2kit, folder, tmp_path):
        ov2kit("--data", folder, "--quiet")
        weights = bytearray(200_000)
        weights[100_000] = 1
        (tmp_path / "model" / "model.safetensors").write_bytes(weights)
        assert "model_sample" in ov2kit("--data", folder, "--quiet", status=2).err

    def test_processes_of_the_environment(self, ov2kit, folder, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        assert "others still have questions" in ov2kit("--data", folder, "--quiet").out
        assert "map" in ov2kit("--data", folder, "--quiet", "--rank", 0, "--world_size", 2).out

    def test_bad_input_is_one_line(self, ov2kit, folder, tmp_path):
        assert ov2kit("--data", tmp_path / "no", status=2).err.startswith(
            f"error: {tmp_path / 'no'}: expected a folder"
        )
        (tmp_path / "out").write_text("")
        assert "got a file" in ov2kit("--data", folder, "--quiet", status=2).err
        done = ov2kit("--data", folder, "--source", "radio", status=2)
        assert done.err.startswith("error: ")
        assert "--source" in done.err
        assert done.err.count("\n") == 1

    def test_bad_rows_are_warnings(self, ov2kit, folder):
        (folder / "annotations.json").write_text(json.dumps([*ROWS, 5]))
        done = ov2kit("--data", folder, "--quiet")
        assert done.err == "warning: annotations.json, row 5: expected an object, got int\n"
        assert "1 bad rows" in done.out

    def test_ctrl_c(self, folder, tmp_path):
        code = f"""
            import sys, time, types
            stub = types.ModuleType("ov2kit.recipes.generate")

            def answer(video, question):
                if "then" in question:
                    print("asked", flush=True)
                    time.sleep(3600)
                return "1.0s"

            stub.answerer = lambda model, **options: answer
            sys.modules["ov2kit.recipes.generate"] = stub
            from ov2kit.cli import run

            sys.exit(run(["evaluate", "--model", {str(folder)!r}, "--data", {str(folder)!r}, "--out",
                          {str(tmp_path / "out")!r}]))
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert "Traceback" not in err
        assert [line["id"] for line in lines_of(tmp_path / "out")] == IDS[:3]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["predictions.jsonl", "settings.json"]
