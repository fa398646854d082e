"""lmms-eval itself asks our models and scores their answers. Runs where it is installed, see `make clients`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.patience import PATIENCE

pytest.importorskip("lmms_eval", reason="needs lmms-eval: make clients")

from lmms_eval import evaluator
from lmms_eval.api.model import lmms
from lmms_eval.models import get_model
from lmms_eval.tasks import TaskManager

from ov2kit.codec import CodecTokenizer
from ov2kit.errors import CheckpointError, DataError, OptionError, VideoError
from ov2kit.recipes import Processor, build, release_config, small_tokenizer
from ov2kit.recipes.clients.lmms_eval_model import Ov2kit, drawing, read_chat
from ov2kit.recipes.clients.lmms_eval_tasks import write_task
from ov2kit.recipes.evaluation.evaluate import evaluate_jumpscore
from ov2kit.recipes.generate import answerer
from ov2kit.recipes.metrics import TemporalIoU
from tests.clips import encode
from tests.paths import ROOT

QUESTIONS = ["When?", "When does it jump?", "And then?", "How often?"]
JUMPS = ["[1.0, 2.0]", "[0.5]", "[]", "soon"]
SAID = ["1.0s, 2.25s", "at 0.75s and 0.5s", "never", "1.5s"]
SPANS = ["2 to 6", "[[0, 2], [10, 12]]", "1 - 2", "0:03 to 0:06.5"]
NAMED = ["from 0 to 4 seconds", "[8, 12]", "no idea", "between 3.1 and 6.7"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for number, name in enumerate(("a.mp4", "b.mp4")):
        encode(folder / name, frames=20 + 10 * number)
    return folder


def questions(folder, answers):
    rows = [
        {"video": "ab"[number % 2] + ".mp4", "question": question, "answer": answer}
        for number, (question, answer) in enumerate(zip(QUESTIONS, answers, strict=True))
    ]
    (folder / "annotations.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Sharp random weights, so that greedy answers differ from question to question."""
    tokenizer = small_tokenizer()
    torch.manual_seed(3)
    model = build(release_config("tiny", tokenizer=tokenizer, text={"tie_word_embeddings": False}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    model.save_pretrained(folder, Processor(tokenizer, codec=CodecTokenizer(4, max_pixels=16_000)))
    return folder


class Canned(lmms):
    """Gives each question its answer."""

    is_simple = False

    def __init__(self, said):
        super().__init__()
        self.said = dict(zip(QUESTIONS, said, strict=True))

    def generate_until(self, requests):
        rows = [self.task_dict[task][split][n] for _, _, _, n, task, split in (request.args for request in requests)]
        return [self.said[row["question"]] for row in rows]

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def scored(model, task, place):
    manager = TaskManager(include_path=str(place), include_defaults=False)
    found = evaluator.simple_evaluate(model=model, tasks=[f"ov2kit_{task}"], task_manager=manager, batch_size=1)
    return {name.removesuffix(",none"): value for name, value in found["results"][f"ov2kit_{task}"].items()}


def test_the_same_answers_get_the_same_jumpscore_to_the_last_digit(videos, tmp_path, offline):
    folder = questions(videos, JUMPS)
    write_task("jumpscore", folder, tmp_path / "task")
    theirs = scored(Canned(SAID), "jumpscore", tmp_path / "task")
    said = dict(zip(QUESTIONS, SAID, strict=True))
    ours = evaluate_jumpscore(lambda video, question: said[question], folder, tmp_path / "out")
    names = ["map", "ap@0.1", "ap@0.2", "ap@0.3"]
    assert [theirs[name] for name in names] == [ours[name] for name in names]
    assert 0.1 < ours["map"] < 0.9


def test_and_that_of_the_public_task(videos, tmp_path, offline):
    from lmms_eval.tasks.jumpscore.utils import jumpscore_aggregate_results, jumpscore_process_results

    write_task("jumpscore", questions(videos, JUMPS), tmp_path / "task")
    rows = [
        jumpscore_process_results({"id": n, "answer": answer}, [text])["jumpscore_map"]
        for n, (answer, text) in enumerate(zip(JUMPS, SAID, strict=True))
    ]
    assert scored(Canned(SAID), "jumpscore", tmp_path / "task")["map"] == jumpscore_aggregate_results(rows)


def test_the_same_answers_get_the_same_grounding_scores(videos, tmp_path, offline):
    write_task("grounding", questions(videos, SPANS), tmp_path / "task")
    theirs = scored(Canned(NAMED), "grounding", tmp_path / "task")
    metric = TemporalIoU()
    metric.update(NAMED, SPANS)
    for name, value in metric.compute().items():
        assert theirs[name] == value.item(), name
    assert 0.1 < theirs["miou"] < 0.9


def test_its_command_asks_a_model_what_our_command_asks(videos, directory, tmp_path):
    """Through the entry point, offline: the same texts, and so the same scores."""
    folder = questions(videos, JUMPS)
    write_task("jumpscore", folder, tmp_path / "task")
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "lmms-eval"), "--model", "ov2kit",
            "--model_args", f"pretrained={directory},budget_canvases=3,decimals=1,device=cpu",
            "--include_path", str(tmp_path / "task"), "--tasks", "ov2kit_jumpscore",
            "--gen_kwargs", "max_new_tokens=12", "--output_path", str(tmp_path / "said"), "--log_samples",
        ],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = (tmp_path / "said").rglob("*samples_ov2kit_jumpscore.jsonl")
    said = [json.loads(line)["filtered_resps"] for line in samples.read_text().split("\n") if line]
    theirs = [text[0] if isinstance(text, list) else text for text in said]
    answer = answerer(directory, budget_canvases=3, decimals=1, max_new_tokens=12, device="cpu")
    ours = evaluate_jumpscore(answer, folder, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().split("\n") if line]
    assert theirs == [line["prediction"] for line in lines]
    assert len(set(theirs)) > 2
    (results,) = (tmp_path / "said").rglob("*results.json")
    assert json.loads(results.read_text())["results"]["ov2kit_jumpscore"]["map,none"] == ours["map"]


def test_its_registry_finds_the_class():
    assert get_model("ov2kit") is Ov2kit


@pytest.fixture(scope="module")
def model(directory):
    return Ov2kit(str(directory), budget_canvases="2", device="cpu", max_new_tokens="4", errors="empty")


class TestModel:
    def ask(self, model, *chats, **options):
        model.task_dict = {"t": {"test": chats}}
        requests = [SimpleNamespace(args=("", lambda chat: chat, options, n, "t", "test")) for n in range(len(chats))]
        return model.generate_until(requests)

    def chat(self, video, text="When?"):
        content = [{"type": "video", "url": str(video)}, {"type": "text", "text": text}]
        return [{"role": "user", "content": content}]

    def test_answers_come_in_the_order_of_the_questions(self, model, videos):
        chats = [self.chat(videos / name, text) for name in ("a.mp4", "b.mp4") for text in ("When?", "Where?")]
        together = self.ask(model, *chats)
        assert together == [self.ask(model, chat)[0] for chat in chats]
        assert len(set(together)) > 1

    def test_an_answer_ends_before_a_stop_word(self, model, videos):
        (whole,) = self.ask(model, self.chat(videos / "a.mp4"), max_new_tokens=12)
        (cut,) = self.ask(model, self.chat(videos / "a.mp4"), max_new_tokens=12, until=[whole[3:5]])
        assert cut == whole[: whole.index(whole[3:5])]

    def test_a_broken_video_ends_the_run_or_is_answered_with_nothing(self, model, videos, tmp_path, capsys):
        (tmp_path / "broken.mp4").write_bytes(b"no video")
        found = self.ask(model, self.chat(tmp_path / "broken.mp4"), self.chat(videos / "a.mp4"))
        assert found[0] == ""
        assert found[1]
        assert capsys.readouterr().out.count("\n") == 1
        model.errors = "raise"
        try:
            with pytest.raises(VideoError):
                self.ask(model, self.chat(tmp_path / "broken.mp4"))
        finally:
            model.errors = "empty"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"batch_size": "4"}, "batch_size must be 1"),
            ({"decimals": "ten"}, "decimals must be a whole number, got 'ten'"),
            ({"decimals": 10}, "decimals"),
            ({"budget_canvases": 0}, "budget_canvases"),
            ({"source": "codecs"}, "source"),
        ],
    )
    def test_impossible_options_are_refused(self, directory, options, message):
        with pytest.raises(OptionError, match=message):
            Ov2kit(str(directory), **options)

    def test_a_place_without_a_model_is_refused(self, tmp_path):
        with pytest.raises(CheckpointError):
            Ov2kit(str(tmp_path / "nothing"))


def test_chats_are_read_as_ours():
    chat = [{"role": "user", "content": [{"type": "image", "url": "a.png"}, {"type": "text", "text": "What?"}]}]
    image, text = read_chat(chat)[0]["content"]
    assert (image, text) == ({"type": "image", "image": "a.png"}, chat[0]["content"][1])
    with pytest.raises(DataError, match="a stretch of a video"):
        read_chat([{"role": "user", "content": [{"type": "video", "url": "a.mp4", "start_time": 1.0}]}])


def test_tasks_answer_greedily_unless_they_say_otherwise():
    assert drawing({"max_new_tokens": 9, "temperature": 0, "top_p": 1.0, "num_beams": 1, "do_sample": False}) == {}
    assert drawing({"temperature": 0.7, "do_sample": True}) == {"do_sample": True, "temperature": 0.7}
    assert drawing({"temperature": 0.7, "do_sample": False, "num_beams": 3}) == {"num_beams": 3}
    with pytest.raises(OptionError, match="generation_kwargs hold penalty"):
        drawing({"penalty": 2})
