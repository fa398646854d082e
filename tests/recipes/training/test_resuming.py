"""A checkpoint that is named anywhere counts, and is only gone on with as what it was."""

import json
from pathlib import Path

import pytest
import torch
from torch.distributed import checkpoint as distributed_checkpoint

from ov2kit.cli import run
from ov2kit.recipes import LitLlavaOneVision2
from ov2kit.recipes.commands.train import RecipeCLI
from ov2kit.recipes.commands.train_help import CONFIGS
from ov2kit.recipes.prompt.text_tokenizer import load_tokenizer
from tests.paths import SAMPLE
from tests.runs import FLAT, Runs, curve, last

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def runs(tmp_path, cache):
    return Runs(tmp_path, cache)


@pytest.fixture(scope="module")
def resampled(tmp_path_factory, cache):
    """A run with another connector than the default, two steps long, and its folder of three more."""
    runs = Runs(tmp_path_factory.mktemp("resampled"), cache)
    options = ["--model.connector", "resampler", "--model.visibility", "canvas", *FLAT]
    return runs.fit("a", *options), curve(runs.fit("whole", *options, "--trainer.max_steps", "4"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory, cache):
    return Runs(tmp_path_factory.mktemp("plain"), cache).fit("a")


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def asked(cache, tmp_path):
    return [
        "--data.sources.path", "sample.jsonl", "--data.tokens.budget_canvases", "4", "--data.tokens.max_pixels", "4000",
        "--data.loading.cache", str(cache), "--trainer.accelerator", "cpu", "--model.answer_tokens", "2",
        "--out", str(tmp_path / "out"),
    ]  # fmt: skip


# -- a checkpoint in a config


def test_a_checkpoint_in_a_config_counts_like_the_flag(resampled, runs, tmp_path):
    folder, whole = resampled
    config = written(tmp_path / "mine.yaml", f"ckpt_path: {last(folder)}\ntrainer:\n  max_steps: 4\n")
    both = ["--config", config]
    cli = RecipeCLI("fit", ["--config", "debug.yaml", "--data.tokens.max_pixels", "4000", *both], run=False)
    assert type(cli.model.model.connector).__name__ == "PerceiverResampler"
    assert cli.model.visibility == "canvas"
    rest = runs.fit("b", *both)
    assert curve(rest) == {step: whole[step] for step in (2, 3)}


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_checkpoint_in_a_config_is_what_is_asked(command, resampled, cache, tmp_path, capsys):
    """The same numbers and answers as with the flag."""
    path = str(last(resampled[0]))
    config = written(tmp_path / "mine.yaml", f"ckpt_path: {path}\n")
    found = []
    for number, named in enumerate((["--config", config], ["--ckpt_path", path])):
        target = tmp_path / f"{number}.jsonl"
        more = ["--predictions", str(target)] if command == "predict" else ["--data.sources.val_path", "sample.jsonl"]
        assert run([command, *named, *more, *asked(cache, tmp_path)]) == 0
        out = capsys.readouterr().out
        found.append(target.read_text(encoding="utf-8") if command == "predict" else json.loads(out))
    assert found[0] == found[1]
    assert found[0]


def test_a_flag_overrules_the_checkpoint_of_a_config(resampled, plain, tmp_path):
    config = written(tmp_path / "mine.yaml", f"ckpt_path: {last(resampled[0])}\n")
    both = ["--config", config, "--ckpt_path", str(last(plain))]
    cli = RecipeCLI("fit", ["--config", "debug.yaml", "--data.tokens.max_pixels", "4000", *both], run=False)
    assert type(cli.model.model.connector).__name__ == "PatchMerger"


@pytest.mark.parametrize("command", ["fit", "predict"])
@pytest.mark.parametrize("where", ["flag", "config"])
def test_another_connector_is_one_error_that_names_both(command, where, resampled, cache, tmp_path, capsys):
    path = str(last(resampled[0]))
    config = written(tmp_path / "mine.yaml", f"ckpt_path: {path}\nmodel:\n  connector: mlp\n")
    named = ["--config", config] if where == "config" else ["--ckpt_path", path, "--model.connector", "mlp"]
    assert run([command, *named, *asked(cache, tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"error: {path} holds another model than the settings make (connector 'resampler' -> 'mlp'" in error


def test_another_size_is_one_error_that_names_both(plain, cache, tmp_path, capsys):
    arguments = ["--ckpt_path", str(last(plain)), "--model.size", "small", *asked(cache, tmp_path)]
    assert run(["validate", *arguments, "--data.sources.val_path", "sample.jsonl"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "holds another model" in error
    assert "vision_config." in error


@pytest.mark.parametrize("format", ["ov2kit.checkpoint.1", None])
def test_shards_of_an_older_format_are_started_from_and_not_resumed(format, plain, cache, tmp_path, capsys):
    """Their tensors are named by parts; a process that resumes asks the shards for its own names."""
    content = torch.load(last(plain), weights_only=True)
    state = content.pop("state_dict")
    net = RecipeCLI("fit", ["--ckpt_path", str(last(plain)), *asked(cache, tmp_path)], run=False).model
    older = {f"model.{net.model.part_name(name.removeprefix('model.'))}": tensor for name, tensor in state.items()}
    assert not older.keys() & state.keys()
    content["ov2kit"].pop("format")
    content["ov2kit"] |= {"format": format} if format else {}
    folder = tmp_path / "older"
    distributed_checkpoint.save({"state_dict": older}, checkpoint_id=folder, no_dist=True)
    torch.save(content, folder / "meta.pt")
    assert run(["fit", "--config", "debug.yaml", *asked(cache, tmp_path), "--ckpt_path", str(folder)]) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.endswith(
        f"{folder}: shards of an older format, whose tensors have other names, cannot be resumed; start a new run from "
        f"them with --model.start {folder}, or make a model directory with 'ov2kit convert {folder} my-model'"
    )
    started = LitLlavaOneVision2(start=str(folder)).model.state_dict()
    assert all(torch.equal(tensor, state[f"model.{name}"]) for name, tensor in started.items())
    assert run(["convert", str(folder), str(tmp_path / "my-model")]) == 0


# -- random weights


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_random_weights_are_not_asked(command, cache, tmp_path, capsys):
    assert run([command, *asked(cache, tmp_path), "--data.sources.val_path", "sample.jsonl"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"error: {command} needs a trained model" in error
    assert not (tmp_path / "out").exists()


def test_a_start_whose_connector_is_replaced_is_not_asked(plain, cache, tmp_path, capsys):
    arguments = ["predict", "--model.start", str(last(plain)), *asked(cache, tmp_path)]
    assert run(arguments) == 0
    assert run([*arguments, "--model.connector", "mlp"]) == 2
    assert "the connector would be replaced by one of random weights" in capsys.readouterr().err


# -- settings that changed


CHANGES = {
    "data.tokens.budget_canvases": ("8", "data.tokens.budget_canvases 4 -> 8"),
    "data.tokens.max_pixels": ("8000", "data.tokens.max_pixels 4000 -> 8000"),
    "data.tokens.grouping": ("fixed", "data.tokens.grouping 'bitcost' -> 'fixed'"),
    "data.tokens.saliency": ("residual", "data.tokens.saliency 'motion+residual' -> 'residual'"),
    "data.tokens.preset": ("release", "data.tokens.preset 'paper' -> 'release'"),
    "data.tokens.rank_damping": ("0.7", "data.tokens.rank_damping 0.35 -> 0.7"),
    "data.tokens.decimals": ("2", "data.tokens.decimals 1 -> 2"),
    "data.tokens.source": ("frames", "data.tokens.source 'codec' -> 'frames'"),
    "model.visibility": ("full", "model.visibility 'group' -> 'full'"),
    "model.positions": ("none", "model.positions 'release' -> 'none'"),
    "model.train.encoder": ("0.1", "model.train.encoder 0.001 -> 0.1"),
    "model.min_lr": ("0.1", "model.min_lr 1e-06 -> 0.1"),
    "trainer.accumulate_grad_batches": ("2", "trainer.accumulate_grad_batches 1 -> 2"),
}


@pytest.mark.parametrize("flag", CHANGES)
def test_going_on_as_another_run_is_refused(flag, plain, cache):
    value, message = CHANGES[flag]
    fixed = ["--config", "debug.yaml", "--data.tokens.max_pixels", "4000", "--ckpt_path", str(last(plain))]
    with pytest.raises(ValueError, match="was trained with other settings") as refused:
        RecipeCLI("fit", [*fixed, f"--{flag}", value], run=False)
    assert message in str(refused.value)
    allowed = RecipeCLI("fit", [*fixed, f"--{flag}", value, "--allow_changed_settings", "true"], run=False)
    assert allowed.command == "fit"


def test_all_changes_are_listed_and_can_be_allowed(plain, runs, tmp_path, capsys):
    changed = ["--ckpt_path", str(last(plain)), "--data.tokens.budget_canvases", "8", "--model.visibility", "full",
               "--trainer.max_steps", "3"]  # fmt: skip
    folder = runs.fit("b", *changed, status=2)
    assert not folder.exists()
    listed = "model.visibility 'group' -> 'full'; data.tokens.budget_canvases 4 -> 8"
    assert listed in capsys.readouterr().err
    folder = runs.fit("c", *changed, "--allow_changed_settings", "true")
    assert f"going on with changed settings: {listed}" in capsys.readouterr().err
    assert sorted(curve(folder)) == [2]


def test_another_tokenizer_is_a_change(plain, tmp_path):
    """Of the same size, so that the weights would fit."""
    folder = tmp_path / "tokenizer"
    tokenizer = load_tokenizer(None)
    tokenizer.save_pretrained(folder)
    fixed = ["--config", "debug.yaml", "--data.tokens.max_pixels", "4000", "--ckpt_path", str(last(plain))]
    RecipeCLI("fit", [*fixed, "--data.tokens.tokenizer", str(folder)], run=False)  # the same one, from another place
    path = folder / "tokenizer.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = facts["model"]["vocab"]
    a, b = [token for token in vocabulary if len(token) == 1][:2]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    path.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(ValueError, match=r"data\.tokens\.tokenizer"):
        RecipeCLI("fit", [*fixed, "--data.tokens.tokenizer", str(folder)], run=False)


def test_what_changes_nothing_may_change(plain, tmp_path):
    fixed = ["--config", "debug.yaml", "--data.tokens.max_pixels", "4000", "--ckpt_path", str(last(plain))]
    more = ["--data.loading.cache", str(tmp_path), "--data.loading.num_workers", "1", "--model.answer_tokens", "9",
            "--model.recompute", "true", "--trainer.max_steps", "9", "--data.tokens.grouping", "bitcost",
            "--model.window", "2"]  # fmt: skip
    RecipeCLI("fit", [*fixed, *more], run=False)


def test_other_settings_than_in_training_are_said_where_answers_are_asked_for(plain, cache, tmp_path, capsys):
    path = tmp_path / "one.jsonl"
    record = json.loads((CONFIGS / "sample.jsonl").read_text(encoding="utf-8").split("\n")[0])
    path.write_text(json.dumps(record | {"videos": [str(SAMPLE)]}) + "\n", encoding="utf-8")
    arguments = ["predict", "--ckpt_path", str(last(plain)), *asked(cache, tmp_path), "--data.sources.path", str(path)]
    assert run(arguments) == 0
    assert "not as the checkpoint was trained" not in capsys.readouterr().err
    assert run([*arguments, "--data.tokens.budget_canvases", "3"]) == 0
    assert "not as the checkpoint was trained: data.tokens.budget_canvases 4 -> 3" in capsys.readouterr().err
