"""Files of answers: every record has one, whatever it is called, and every line is one line to every reader."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ov2kit
from ov2kit.cli import run
from ov2kit.recipes.data.faults import Fault, FaultLog
from ov2kit.recipes.inputs.json_lines import json_line
from ov2kit.recipes.training.answers import Answers
from tests.runs import Runs, last

ROOT = Path(ov2kit.__file__).parent
#: what `str.splitlines` takes for the end of a line and JSON does not escape, and half a character
RISKY = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g\ud800h"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_json_lines_hold_for_every_reader():
    line = json_line({"name": RISKY, "text": "Größe 大"})
    assert line.splitlines(keepends=True) == [line]
    assert "Größe 大" in line  # and stays readable
    assert json.loads(line.encode("utf-8")) == {"name": RISKY, "text": "Größe 大"}


class Trainer:
    """What `Answers` needs of one of several processes."""

    def __init__(self, folder, rank, world_size=2):
        self.global_rank, self.world_size, self.is_global_zero = rank, world_size, rank == 0
        self.log_dir = self.default_root_dir = str(folder)

    class strategy:  # noqa: N801
        barrier = staticmethod(lambda name: None)


def said(record, text="x", name="same"):
    return {"name": name, "record": record, "answer": text}


def test_answers_of_records_with_equal_ids_are_all_kept(tmp_path):
    parts = {0: [[said(0), said(2, RISKY)], [said(4)]], 1: [[said(1), said(3)], [said(4)]]}  # one fills up
    writers = {rank: (Answers(), Trainer(tmp_path, rank)) for rank in parts}
    for rank, (answers, trainer) in writers.items():
        answers.on_predict_start(trainer, None)
        for number, batch in enumerate(parts[rank]):
            answers.on_predict_batch_end(trainer, None, batch, None, number)
    for answers, trainer in reversed(writers.values()):
        answers.on_predict_end(trainer, None)
    assert lines(tmp_path / "predictions.jsonl") == [said(0), said(1), said(2, RISKY), said(3), said(4)]
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.jsonl"]


def test_a_record_in_the_place_of_another_is_answered_once(tmp_path):
    answers, trainer = Answers(), Trainer(tmp_path, 0, world_size=1)
    answers.on_predict_start(trainer, None)
    for batch in ([said(0), said(1)], [said(1)], [said(-1), said(-1)]):  # -1: not from a record, nothing is known
        answers.on_predict_batch_end(trainer, None, batch, None, 0)
    assert [line["record"] for line in lines(tmp_path / "predictions.jsonl")] == [0, 1, -1, -1]


def test_two_processes_answer_what_one_does(tmp_path):
    """Records of one id and one text, and one whose id holds what is no end of a line."""
    records = [{"id": "same", "messages": [{"role": "user", "content": "What?"}]} for _ in range(4)]
    records += [{"id": RISKY, "messages": [{"role": "user", "content": "Who?\u2028And why?"}]}]
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    trained = last(Runs(tmp_path / "runs", tmp_path / "cache").fit("a"))
    found = []
    for processes in ("1", "2"):
        target = tmp_path / f"{processes}.jsonl"
        arguments = [
            "predict", "--ckpt_path", str(trained), "--data.sources.path", str(path),
            "--data.tokens.budget_canvases", "4", "--data.tokens.max_pixels", "4000",
            "--model.answer_tokens", "2", "--trainer.accelerator", "cpu",
            "--trainer.devices", processes, "--predictions", str(target), "--out", str(tmp_path / "out"),
        ]  # fmt: skip
        if processes == "1":
            assert run(arguments) == 0
        else:
            command = [sys.executable, "-m", "ov2kit", *arguments, "--trainer.strategy", "ddp"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "LC_ALL": "C"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-2000:]
        found.append(lines(target))
    assert found[0] == found[1]
    assert [line["record"] for line in found[0]] == [0, 1, 2, 3, 4]
    assert [line["name"] for line in found[0]] == [*["same"] * 4, RISKY]


def test_faults_of_odd_names_are_written_and_known_again(tmp_path):
    path = tmp_path / "faults.jsonl"
    for _ in range(2):
        log = FaultLog(10, 0.5, path)
        log.good()
        log.add([Fault(f"a{RISKY}:1", RISKY, RISKY)])
    assert lines(path) == [{"place": f"a{RISKY}:1", "name": RISKY, "reason": RISKY, "action": "skipped"}]


def test_every_text_file_names_its_encoding():
    """Or a file means another text on another system."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            modes = [text for text in texts if re.fullmatch("[rwax+t]+", text)]
            has_newline = any(keyword.arg == "newline" for keyword in node.keywords)
            is_text = isinstance(node.func, ast.Attribute) and name in ("read_text", "write_text")
            opens_text = name == "open" and (modes or has_newline) and not ast.unparse(node.func).startswith("av.")
            if is_text or opens_text:
                pytest.fail(f"{path}:{node.lineno}: say encoding=")


def test_only_newlines_end_lines_of_what_is_read():
    """`splitlines` splits at characters that records, subtitles and lists may hold."""
    allowed = {"docstring", "error", "log", "stderr"}  # texts of programs, not of users
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "splitlines":
                names = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
                assert names & allowed, f"{path}:{node.lineno}: split at newlines only"
