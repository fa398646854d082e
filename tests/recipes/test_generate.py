"""Generating from a model directory: alone, in mixed batches, streamed, and from the command line."""

import json
import shutil
import sys

import pytest
import torch
from transformers import TextStreamer

from ov2kit.cli import run
from ov2kit.codec import CodecTokenizer
from ov2kit.connectors import MLPConnector
from ov2kit.errors import CheckpointError
from ov2kit.recipes import LlavaOneVision2, Processor
from ov2kit.recipes.architecture.sizes import release_config
from ov2kit.recipes.generate import answer, answerer, load, visual_inputs
from ov2kit.recipes.model.build import build
from ov2kit.recipes.prompt.sample import collate
from ov2kit.recipes.prompt.text_tokenizer import small_tokenizer
from tests.clips import encode
from tests.paths import SAMPLE


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A model of random weights; sharp ones, so that its greedy answers differ from input to input."""
    tokenizer = small_tokenizer()
    torch.manual_seed(3)
    model = build(release_config("tiny", tokenizer=tokenizer, text={"tie_word_embeddings": False}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    model.save_pretrained(folder, tokenizer)
    Processor(tokenizer, codec=CodecTokenizer(4, max_pixels=16_000)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(directory):
    return load(directory, device="cpu")


def ask(processor, *parts, question="What happens?"):
    return processor([{"role": "user", "content": [*parts, {"type": "text", "text": question}]}], generate=True)


def test_a_mixed_batch_answers_as_each_alone(loaded):
    model, processor = loaded
    video = {"type": "video", "video": str(SAMPLE)}
    picture = processor.frames(str(SAMPLE)).images[0]
    prompts = [
        ask(processor, question="Hello?"),
        ask(processor, video),
        ask(processor, {**video, "source": "frames"}, question="And where?"),
        ask(processor, {"type": "image", "image": picture}),
        ask(processor, {"type": "image", "image": picture}, video),
    ]
    together = answer(model, processor, prompts, max_new_tokens=12)
    alone = [answer(model, processor, [prompt], max_new_tokens=12)[0] for prompt in prompts]
    assert together == alone
    assert len(set(alone)) == len(prompts), "the model must look at its inputs for this to be a test"


def test_visibility_reaches_the_encoder(loaded):
    model, processor = loaded
    assert processor.frames.group == 4
    batch = collate([ask(processor, {"type": "video", "video": str(SAMPLE), "source": "frames"})], processor.pad_id)
    found = {}
    for visibility in ("group", "canvas"):
        inputs = visual_inputs(batch, visibility)
        with torch.no_grad():
            found[visibility] = model.visual_tokens(
                inputs["pixel_values"], inputs["patch_positions"], inputs["segments"], grid_thw=inputs["image_grid_thw"]
            )
    assert not torch.allclose(found["group"], found["canvas"])


def test_a_stream_says_what_the_answer_says(loaded, capsys):
    model, processor = loaded
    prompt = ask(processor, {"type": "video", "video": str(SAMPLE)})
    streamer = TextStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    text = answer(model, processor, [prompt], max_new_tokens=16, streamer=streamer)[0]
    assert capsys.readouterr().out.strip() == text


def test_answerer_reads_video_and_question(directory, loaded):
    model, processor = loaded
    ask_model = answerer(directory, budget_canvases=4, max_new_tokens=8, device="cpu", decimals=1)
    video = {"type": "video", "video": str(SAMPLE)}
    # several: weights are drawn differently by each torch, and one question may get the answer of another
    questions = ["What happens?", "Why?", "Hello?", "When does the rabbit look at the tree?"]
    prompts = [ask(processor, video, question=question) for question in questions]
    wanted = [answer(model, processor, [prompt], max_new_tokens=8)[0] for prompt in prompts]
    assert [ask_model(SAMPLE, question) for question in questions] == wanted
    assert ask_model(str(SAMPLE), questions[0]) == wanted[0]
    assert len(set(wanted)) > 1, "the model must read the question for this to be a test"


def test_command_line_streams_and_tells_json(directory, loaded, capsys):
    model, processor = loaded
    wanted = answer(model, processor, [ask(processor, {"type": "video", "video": str(SAMPLE)})], max_new_tokens=8)[0]
    common = ["generate", "--model", str(directory), "--video", str(SAMPLE), "--max_new_tokens", "8", "--device", "cpu"]
    assert run([*common, "--prompt", "What happens?"]) == 0
    assert capsys.readouterr().out.strip() == wanted
    assert run([*common, "--prompt", "What happens?", "--json", "--codec.budget_canvases", "2"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["input"]["canvases"] == 2
    assert facts["answer"] != wanted


def test_the_prompt_can_come_from_standard_input(directory, loaded, capsys, monkeypatch, tmp_path):
    model, processor = loaded
    wanted = answer(model, processor, [ask(processor, question="Hello?")], max_new_tokens=8)[0]
    question = tmp_path / "question.txt"
    question.write_text("Hello?")
    with question.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert run(["generate", "--model", str(directory), "--prompt", "-", "--max_new_tokens", "8"]) == 0
    assert capsys.readouterr().out.strip() == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{tmp}/none"], "{tmp}/none"),
        (["--model", "{tmp}/some.ckpt"], "'ov2kit convert'"),
        (["--model", "{model}", "--video", "{tmp}/none.mp4"], "{tmp}/none.mp4: no such file"),
        (["--model", "{model}", "--video", "{tmp}/some.ckpt"], "{tmp}/some.ckpt"),
        (["--model", "{model}", "--subtitles", "a.srt"], "--subtitles needs exactly one --video, got 0"),
        (["--model", "{model}", "--codec.block", "0"], "block must be at least 1, got 0"),
        (["--model", "{model}", "--source", "both"], "--source"),
        (["--model", "{tmp}/none", "--device", "cuda:99"], "device 'cuda:99' cannot be used"),
        (["--model", "{tmp}/none", "--max_new_tokens", "0"], "--max_new_tokens must be at least 1, got 0"),
        (["--model", "{tmp}/none", "--temperature", "-1"], "--temperature must be 0 or more, and finite, got -1.0"),
        (["--model", "{tmp}/none", "--top_p", "0"], "--top_p must be above 0 and at most 1, got 0.0"),
        (["--model", "{tmp}/none", "--seed", "-1"], "--seed must be from 0"),
        (["--model", "{tmp}/none", "--decimals", "-1"], "--decimals must be from 0 to 9, got -1"),
        (["--model", "{tmp}/none", "--image", "{tmp}/none.png"], "{tmp}/none.png: no such file"),
        (["--model", "{model}", "--modl", "x"], "--modl"),
    ],
)
def test_bad_input_is_one_line(directory, tmp_path, capsys, arguments, message):
    (tmp_path / "some.ckpt").write_bytes(b"not a model")
    places = {"tmp": tmp_path, "model": directory}
    assert run(["generate", "--prompt", "x", *(argument.format(**places) for argument in arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert message.format(**places) in printed.err
    assert not printed.out


def test_drawing_leaves_the_random_numbers_of_others_alone(directory, capsys):
    common = ["generate", "--model", str(directory), "--prompt", "Hello?", "--max_new_tokens", "8", "--device", "cpu"]
    before = torch.get_rng_state()
    said = []
    for seed in ("5", "5", "6"):
        assert run([*common, "--temperature", "2", "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    first, again, other = said
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True])
def test_an_answer_without_tokens_is_refused(directory, loaded, wrong):
    with pytest.raises(ValueError, match="max_new_tokens must be"):
        answer(*loaded, [ask(loaded[1], question="Hello?")], max_new_tokens=wrong)
    with pytest.raises(ValueError, match="max_new_tokens must be"):
        answerer(directory, max_new_tokens=wrong)


def test_an_evaluation_asks_the_model_itself(directory, tmp_path, capsys):
    folder = tmp_path / "jumps"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "a.mp4")
    rows = [{"id": "a", "video": "a.mp4", "question": "When does it jump?", "answer": "[1.0]"}]
    (folder / "annotations.json").write_text(json.dumps(rows))
    options = ["--budget_canvases", "4", "--max_new_tokens", "6", "--device", "cpu", "--quiet"]
    evaluate = ["evaluate", "--model", str(directory), "--data", str(folder), "--out", str(tmp_path / "out"), *options]
    assert run(evaluate) == 0
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text())
    ask_model = answerer(directory, budget_canvases=4, max_new_tokens=6, device="cpu")
    assert line["prediction"] == ask_model(SAMPLE, "When does it jump?")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (scores["scored"], scores["errors"]) == (1, 0)
    assert "1 questions" in capsys.readouterr().out


def test_commands_route_by_the_question(directory, tmp_path, capsys):
    """As the source that is taken answers, with the plan beside the answer."""
    encode(tmp_path / "a.mp4", frames=20)
    says = "What is written on the sign?"
    common = ["--model", str(directory), "--max_new_tokens", "4", "--device", "cpu"]
    generate = [
        "generate",
        *common,
        "--video",
        str(tmp_path / "a.mp4"),
        "--prompt",
        says,
        "--codec.budget_canvases",
        "3",
    ]
    found = {}
    for source in ("route", "frames"):
        assert run([*generate, "--json", "--source", source]) == 0
        found[source] = json.loads(capsys.readouterr().out)
    (plan,) = found["route"].pop("plans")
    assert (plan["source"], plan["question"], plan["canvases"]) == ("frames", says, 3)
    assert [found["route"][name] for name in ("answer", "input")] == [
        found["frames"][name] for name in ("answer", "input")
    ]
    assert run([*generate, "--source", "route"]) == 0
    assert capsys.readouterr().err.strip() == plan["why"]
    (tmp_path / "annotations.json").write_text(json.dumps([{"video": "a.mp4", "question": says, "answer": "[1.0]"}]))
    options = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--budget_canvases", "3", "--quiet"]
    assert run(["evaluate", *common, *options, "--source", "route"]) == 0
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text())
    assert line["plans"] == [plan]
    assert (
        run(
            [
                "track",
                "--out",
                str(tmp_path / "t"),
                "--video",
                str(tmp_path / "a.mp4"),
                "--prompt",
                "x",
                "--source",
                "route",
            ]
        )
        == 2
    )
    assert "'route'" in capsys.readouterr().err


def test_a_connector_of_one_token_per_patch_gets_as_many_pads(loaded):
    model, processor = loaded
    width = model.language_model.config.hidden_size
    finer = LlavaOneVision2(
        model.config, model.encoder, MLPConnector(model.encoder.width, width, merge=1), model.language_model
    )
    wide = Processor(
        processor.tokenizer, codec=processor.codec, frames=processor.frames, image=processor.image,
        tokens_out=finer.tokens_out,
    )  # fmt: skip
    prompt = ask(wide, {"type": "video", "video": str(SAMPLE)})
    assert prompt.stats["visual_tokens"] == int((prompt.positions[:, 0] >= 0).sum())
    answer(finer, wide, [prompt], max_new_tokens=2)  # refuses another number of pads


def test_a_file_in_the_place_of_a_model_is_refused(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="'ov2kit convert' makes one of a checkpoint"):
        load(tmp_path / "last.ckpt")
