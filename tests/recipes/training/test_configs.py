"""Every shipped config is built and takes steps; every axis of the ablations is one flag; wrong keys are refused."""

import csv
import dataclasses
import json
import re

import pytest
import yaml
from jsonargparse import ArgumentError
from PIL import Image

from ov2kit.cli import run
from ov2kit.positional import NoPositions
from ov2kit.recipes.commands.fit import parser as fit_parser
from ov2kit.recipes.commands.train import RecipeCLI
from ov2kit.recipes.commands.train_help import CONFIGS
from ov2kit.recipes.data.options import Loading, Order, Sources, Tokens
from ov2kit.recipes.data.sections import SECTION_OF
from ov2kit.recipes.training.lit import LitLlavaOneVision2
from tests.fresh import python
from tests.paths import SAMPLE

pytestmark = pytest.mark.usefixtures("one_thread")


CONFIG_FILES = sorted(CONFIGS.rglob("*.yaml"))
STAGES = [path for path in CONFIG_FILES if path.name.startswith("stage")]
# what a config names that only its user has, made small enough for any machine
SMALL = {
    "model.size": "tiny", "model.start": "null", "model.quantization": "null", "data.tokens.max_pixels": "4000",
    "data.loading.num_workers": "0", "trainer.accelerator": "cpu", "trainer.devices": "1", "trainer.strategy": "auto",
}  # fmt: skip


def flags(options):
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The bundled clip is tokenized once for all tests of this file."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The shipped conversations about a clip, and as many about a picture."""
    folder = tmp_path_factory.mktemp("records")
    Image.effect_noise((96, 64), 60).convert("RGB").save(folder / "noise.png")
    lines = [json.loads(line) for line in (CONFIGS / "sample.jsonl").read_text().splitlines()]
    for line in lines:
        line["videos"] = [str(SAMPLE)]
    for number in range(6):
        turns = [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": f"Noise {number}."}]
        lines.append({"id": f"noise{number}", "messages": turns, "images": ["noise.png"]})
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def fit(tmp_path, cache, *arguments):
    assert run(["fit", *arguments, "--out", str(tmp_path), "--data.loading.cache", cache]) == 0
    return rows(tmp_path / "version_0")


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def leaves(settings, above=""):
    """Every value of a config by its flag."""
    if not isinstance(settings, dict):
        return {above: settings}
    parts = [leaves(value, f"{above}.{name}" if above else name) for name, value in settings.items()]
    return {flag: value for part in parts for flag, value in part.items()}


def curve(table):
    return [float(row["loss"]) for row in table if row["loss"]]


def test_there_are_configs():
    names = {path.name for path in CONFIG_FILES}
    assert {"tiny.yaml", "debug.yaml"} <= names
    assert [path.name[:6] for path in STAGES] == ["stage1", "stage1", "stage2", "stage3", "stage4"]


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_header_says_what_how_and_on_what(path):
    header = re.match(r"(#.*\n)+", path.read_text())[0]
    assert f"ov2kit fit --config {path.name}" in header
    assert "--" in header.replace(f"--config {path.name}", "", 1)  # one override at least
    if path in STAGES:
        assert "Hardware" in header
        assert "not proven" in header
    assert "/home" not in path.read_text()


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_config_takes_steps(path, tmp_path, cache, records):
    settings = yaml.safe_load(path.read_text())
    options = {"trainer.max_steps": 2, "trainer.log_every_n_steps": 1}
    if path in STAGES or path.stem == "one_gpu_lora":
        count = len(settings["data"]["sources"].get("shares") or [0])
        options |= SMALL | {"data.sources.path": records if count == 1 else json.dumps([records] * count)}
        options["trainer.accumulate_grad_batches"] = 1
        if "pack:" in path.read_text():
            options |= {
                "data.order.pack_length": 1024,
                "data.tokens.budget_canvases": 4,
                "data.order.rows_per_epoch": 2,
            }
    table = fit(tmp_path, cache, "--config", path.name, *flags(options))
    losses = curve(table)
    assert len(losses) == 2
    assert all(4 < loss < 8 for loss in losses)  # about ln(vocabulary) before anything is learned
    written = yaml.safe_load((tmp_path / "version_0" / "config.yaml").read_text())
    shown = {name: value for name, value in leaves(settings).items() if not name.startswith(tuple(options))}
    kept = {name for name in shown if name.rpartition(".")[2] not in ("out", "path", "val_path", "cache")}
    assert len(kept) > 5
    assert {name: leaves(written).get(name) for name in kept} == {name: shown[name] for name in kept}


def test_stages_have_the_shares_and_rates_of_the_recipe():
    read = {path.stem: yaml.safe_load(path.read_text()) for path in STAGES}
    assert read["stage1_align"]["model"]["train"] == {"connector": 1e-4}
    files = read["stage4_codec"]["data"]["sources"]["shares"]  # the last one is of pictures
    mix = Tokens(source="mix", mix=read["stage4_codec"]["data"]["tokens"]["mix"]).shares
    assert {name: share * sum(files[:-1]) for name, share in mix.items()} == {"codec": 0.5, "frames": 0.375}
    assert files[-1] == 0.125
    for name, settings in read.items():
        model = settings["model"]
        assert model["betas"] == ([0.9, 0.99] if name.startswith("stage1") else [0.9, 0.95])
        assert model["weight_decay"] == (0.0 if name.startswith("stage1") else 0.01)
        assert (model["min_lr"], model["warmup_share"], model["recompute"]) == (1e-6, 0.002, True)
        assert settings["trainer"]["gradient_clip_val"] == 1.0
        assert settings["trainer"]["precision"] == "bf16-mixed"
        assert settings["data"]["order"].get("pack_length", 32768) == 32768


def saliency(cli):
    return repr(cli.datamodule.codec.scorer.saliency)


AXES = {  # flag -> (value, where it must have arrived, what is there)
    "model.visibility": ("full", lambda c: c.model.visibility, "full"),
    "model.window": ("2", lambda c: c.model.window, 2),
    "model.positions": ("none", lambda c: type(c.model.model.encoder.position), NoPositions),
    "model.connector": ("resampler", lambda c: type(c.model.model.connector).__name__, "PerceiverResampler"),
    "model.train.encoder": ("0", lambda c: any(p.requires_grad for p in c.model.model.encoder.parameters()), False),
    "data.tokens.source": ("frames", lambda c: c.datamodule.tokens.shares, {"frames": 1.0}),
    "data.tokens.grouping": ("fixed", lambda c: c.datamodule.codec.options()["grouping"], "fixed"),
    "data.tokens.saliency": ("random", lambda c: "Random" in saliency(c), True),
    "data.tokens.rank_damping": ("0.7", lambda c: c.datamodule.codec.options()["rank_damping"], 0.7),
    "data.tokens.peak_weight": ("0.1", lambda c: c.datamodule.codec.options()["peak_weight"], 0.1),
    "data.tokens.block": ("2", lambda c: c.datamodule.codec.options()["block"], 2),
    "data.tokens.budget_canvases": ("16", lambda c: c.datamodule.codec.options()["budget_canvases"], 16),
}


@pytest.mark.parametrize("flag", AXES)
def test_every_axis_is_one_flag(flag):
    value, look, wanted = AXES[flag]
    plain = RecipeCLI("fit", ["--config", "tiny.yaml"], run=False)
    changed = RecipeCLI("fit", ["--config", "tiny.yaml", f"--{flag}", value], run=False)
    assert look(changed) == wanted
    assert look(plain) != wanted


@pytest.mark.parametrize(
    ("flag", "values"),
    {
        "model.visibility": ["group", "window", "canvas", "full"],
        "model.positions": ["release", "exact", "2d", "none"],
        "model.connector": ["merger", "mlp", "resampler", "query", "pool", "average"],
        "data.tokens.source": ["codec", "frames", "hybrid", "mix"],
        "data.tokens.grouping": ["bitcost", "readiness", "fixed", "container"],
        "data.tokens.saliency": ["motion+residual", "motion", "residual", "luma", "event", "random"],
        "data.tokens.preset": ["paper", "release", "event"],
    }.items(),
)
def test_every_value_of_an_axis_builds(flag, values):
    seen = [RecipeCLI("fit", ["--config", "tiny.yaml", f"--{flag}", value], run=False) for value in values]
    assert [cli.config.fit[flag] for cli in seen] == values


@pytest.mark.parametrize(
    "axis",
    [
        ("model.visibility", "canvas"), ("model.positions", "2d"), ("model.connector", "resampler"),
        ("data.tokens.source", "frames"), ("data.tokens.block", "2"), ("data.tokens.saliency", "luma"),
    ],
    ids=".".join,
)  # fmt: skip
def test_an_axis_changes_what_is_computed(axis, tmp_path, cache):
    small = ["--config", "debug.yaml", "--trainer.limit_val_batches", "0", "--data.tokens.budget_canvases", "8"]
    plain = curve(fit(tmp_path / "plain", cache, *small))
    changed = curve(fit(tmp_path / "changed", cache, *small, f"--{axis[0]}", axis[1]))
    assert len(plain) == len(changed) == 2
    assert plain != changed


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_loses_little(precision, tmp_path, cache):
    small = ["--config", "debug.yaml", "--trainer.limit_val_batches", "0"]
    full = curve(fit(tmp_path / "full", cache, *small))
    half = curve(fit(tmp_path / "half", cache, *small, "--trainer.precision", precision))
    assert half == pytest.approx(full, rel=5e-3)
    assert half != full


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.visibilty", "full"], "'model.visibilty'; did you mean 'model.visibility'"),
        (["--data.groupng", "fixed"], "'data.groupng'; did you mean 'data.tokens.grouping'"),
        (["--trainer.max_stepz", "3"], "did you mean 'trainer.max_steps'"),
        (["--model.visibility", "ful"], "'group', 'window', 'canvas', 'full'"),
        (["--model.connector", "mergr"], "unknown connector 'mergr'; known: merger"),
        (["--model.train.conector", "1e-3"], "'conector'"),
        (["--model.size", "huge"], "unknown size 'huge'"),
        (["--model.start", "nowhere"], "nowhere: no such file or directory"),
        (["--data.sources.path", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt: no such file"),
        (["--config", "tny.yaml"], "did you mean tiny.yaml"),
        (["--data.tokens.patch", "16"], "set --data.tokens.patch 14"),
        (["--model.min_lr", "much"], "model.min_lr"),
        (
            ["--model.train.connector", "nan"],
            "--model.train.connector: not a value that --model.train may",
        ),
        (["--data.loading.cache", __file__], "test_configs.py: expected a folder to keep canvases in"),
    ],
    ids=lambda value: value[0][2:] if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(arguments, message, tmp_path, capsys):
    assert run(["fit", "--config", "debug.yaml", "--out", str(tmp_path), *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert message in lines[-1]
    assert not list(tmp_path.iterdir())


def test_misspelt_key_of_a_file_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model:\n  sise: tiny\n")
    with pytest.raises(ArgumentError, match=r"'model\.sise'; did you mean 'model\.size'"):
        RecipeCLI("fit", ["--config", str(path)], run=False)


def test_saved_config_runs_again(tmp_path, cache):
    first = fit(tmp_path / "a", cache, "--config", "debug.yaml", "--model.visibility", "full", "--seed_everything", "7")
    saved = tmp_path / "a" / "version_0" / "config.yaml"
    assert run(["fit", "--config", str(saved)]) == 0  # nothing else: the folder too is in it
    again = rows(tmp_path / "a" / "version_1")
    assert curve(again) == curve(first)
    other = fit(tmp_path / "b", cache, "--config", "debug.yaml", "--model.visibility", "full")
    assert curve(other) != curve(first)


def test_help_is_quick_to_print_and_names_every_argument(capsys):
    assert run(["fit", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.strip() == fit_parser().format_help().strip()
    for path in CONFIG_FILES:
        assert path.name in shown
    names = LitLlavaOneVision2.__init__.__annotations__.keys() - {"return"}
    flags = [f"model.{name}" for name in names] + [f"data.{section}.{name}" for name, section in SECTION_OF.items()]
    assert all(re.search(rf"--{flag}\s+[^\s-]", shown) for flag in flags)
    assert all(f"--{flag}" in shown for flag in AXES if not flag.startswith("model.train"))
    said = " ".join(shown.split())
    for section, options in (("sources", Sources), ("tokens", Tokens), ("order", Order), ("loading", Loading)):
        for field in dataclasses.fields(options):
            if not isinstance(field.default, type(None) | type(dataclasses.MISSING)):  # a value, not the name of one
                entry = said.partition(f"--data.{section}.{field.name} ")[2].partition(" --")[0]
                assert f"({field.default!r})" in entry
    code = (
        "import sys, ov2kit.cli as c; c.run(['fit', '--help']); "
        "sys.exit(bool({'lightning', 'transformers'} & set(sys.modules)))"
    )
    assert python(code).returncode == 0


def test_all_options_are_in_the_long_help(capsys):
    assert run(["validate", "--help.all"]) == 0
    shown = capsys.readouterr().out
    assert "--trainer.precision" in shown
    assert "--model.visibility" in shown


def test_commands_are_in_the_main_help(capsys):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("fit", "validate", "test", "predict"))


def test_noise_is_kept_down(tmp_path, cache, capfd):
    fit(tmp_path, cache, "--config", "debug.yaml")
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 5, lines  # the run, two steps, validation, the end
    assert "Tip" not in err
    assert "Warning" not in err
    assert json.loads((tmp_path / "version_0" / "answers.jsonl").read_text().splitlines()[0])["step"] == 2
