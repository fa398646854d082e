"""Training: what learns, how losses are averaged, stopping and going on, checkpoints, answers."""

import csv
import functools
import io
import json
import os
import pickle
import signal

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from ov2kit.cli import run
from ov2kit.codec import CodecTokenizer
from ov2kit.errors import CheckpointError
from ov2kit.recipes import LitLlavaOneVision2, LlavaOneVision2, Processor, collate, load_tokenizer, pack
from ov2kit.recipes.commands.train import RecipeCLI
from ov2kit.recipes.commands.train_help import CONFIGS
from ov2kit.recipes.model.flops import step_operations
from ov2kit.recipes.model.starting import read_checkpoint
from ov2kit.recipes.prompt.sample import IGNORE, SAMPLE_KINDS
from ov2kit.recipes.prompt.turns import last_answers, prompts
from ov2kit.recipes.prompt.visual_inputs import visual_inputs
from tests.paths import SAMPLE

pytestmark = pytest.mark.usefixtures("one_thread")


RATES = {"encoder": 1e-3, "connector": 1e-3, "language_model": 1e-3}


@pytest.fixture(scope="module")
def processor():
    return Processor(load_tokenizer(None), codec=CodecTokenizer(budget_canvases=4, max_pixels=4000))


@pytest.fixture(scope="module")
def samples(processor):
    """A video with a short answer, text with a long one, and two turns about the video."""
    canvases = processor.codec(str(SAMPLE))
    video = {"type": "video", "video": canvases}

    def turn(role, *content):
        return {"role": role, "content": list(content)}

    def text(words):
        return {"type": "text", "text": words}

    who = [turn("user", video, text("Who?")), turn("assistant", text("A rabbit."))]
    plain = [turn("user", text("Count.")), turn("assistant", text("one two three four five six"))]
    two = [*who, turn("user", text("Where?")), turn("assistant", text("Outside."))]
    made = [processor(messages, name=name) for name, messages in (("who", who), ("plain", plain), ("two", two))]
    made[0].stats["codec"] = made[2].stats["codec"] = made[1].stats["text"] = 1.0
    return made


def lit(**options):
    torch.manual_seed(0)
    return LitLlavaOneVision2(**({"train": RATES, "warmup_share": 0.0, "eps": 1e-3} | options))


def trained(module, batches, folder, **options):
    """The module after one pass over the batches, and the losses of its steps."""
    logger = pl.loggers.CSVLogger(folder, name="", flush_logs_every_n_steps=1)
    settings = {"accelerator": "cpu", "max_epochs": 1, "log_every_n_steps": 1, "logger": logger}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(**settings, **quiet, **options)
    trainer.fit(module, DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch))
    return module, curve(logger.log_dir)


def curve(folder, column="loss"):
    """Step -> value."""
    with open(os.path.join(folder, "metrics.csv"), encoding="utf-8") as file:
        return {int(row["step"]): float(row[column]) for row in csv.DictReader(file) if row.get(column)}


def parameters(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def apart(a, b):
    return max((a[name] - b[name]).abs().max().item() for name in a)


# -- the loss


def test_loss_is_the_mean_over_supervised_tokens_and_packing_keeps_it(samples, processor):
    module = lit().eval()
    singles = []
    for sample in samples:
        batch = collate([sample], processor.pad_id)
        logits = module.model(batch.input_ids, **visual_inputs(batch)).logits[0].float()
        logp = F.log_softmax(logits, -1)  # by hand: token t is predicted at t - 1
        wanted = [(t, i) for t, i in enumerate(sample.labels.tolist()) if i != IGNORE]
        singles.append(-sum(logp[t - 1, i] for t, i in wanted).item())
    for batch in (collate(samples, processor.pad_id), pack(samples, processor.pad_id, length=1024)):
        loss, parts = module(batch)
        assert loss.item() == pytest.approx(sum(singles), rel=1e-5)
        by_kind = dict(zip(SAMPLE_KINDS, parts[0].tolist(), strict=True))
        assert by_kind == pytest.approx(
            {"codec": singles[0] + singles[2], "frames": 0, "hybrid": 0, "image": 0, "text": singles[1]}, rel=1e-5
        )
        assert parts[1].sum() == sum((sample.labels != IGNORE).sum() for sample in samples)


def test_nothing_supervised_is_a_step_without_gradient(samples, processor):
    batch = collate(samples[:1], processor.pad_id)
    batch.labels.fill_(IGNORE)
    module = lit()
    loss = module.training_step(batch, 0)
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in module.parameters())


def test_accumulated_batches_give_the_step_of_the_whole(samples, processor, tmp_path):
    """The halves have 4 and 12 supervised tokens: a mean of means would be another step."""
    counts = [(sample.labels != IGNORE).sum().item() for sample in samples[:2]]
    assert counts[1] > 1.5 * counts[0]
    whole, losses = trained(lit(), [collate(samples[:2], processor.pad_id)], tmp_path / "a")
    halves = [collate([sample], processor.pad_id) for sample in samples[:2]]
    parts, same = trained(lit(), halves, tmp_path / "b", accumulate_grad_batches=2)
    assert list(losses.values()) == pytest.approx(list(same.values()), rel=1e-5)
    assert apart(parameters(whole), parameters(parts)) < 2e-6
    assert apart(parameters(whole), parameters(lit())) > 1e-4


def test_clipping_is_of_the_mean_gradient(samples, processor, tmp_path):
    batch = collate(samples, processor.pad_id)
    module = lit()
    loss, parts = module(batch)
    (loss / parts[1].sum()).backward()
    norm = torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm().item()
    assert norm > 0.02
    trained(lit(), [batch], tmp_path / "free", gradient_clip_val=None)
    assert curve(tmp_path / "free" / "version_0", "gradient_norm")[0] == pytest.approx(norm, rel=1e-4)
    free, _ = trained(lit(eps=1.0), [batch], tmp_path / "a")
    clipped, _ = trained(lit(eps=1.0), [batch], tmp_path / "b", gradient_clip_val=norm / 100)
    start = parameters(lit())  # with eps 1 a step of AdamW grows with its gradient
    assert apart(parameters(clipped), start) < apart(parameters(free), start) / 5


# -- what learns


@pytest.mark.parametrize("switch", ["recompute", "compile"])
def test_recomputing_and_compiling_change_no_number(switch, samples, processor, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    batch = [collate(samples, processor.pad_id)]
    plain, losses = trained(lit(), batch, tmp_path / "a")
    other, same = trained(lit(**{switch: True}), batch, tmp_path / "b")
    assert list(same.values()) == pytest.approx(list(losses.values()), rel=1e-5)
    assert apart(parameters(plain), parameters(other)) < 1e-5
    layers = other.model.language_model.model.layers
    if switch == "compile":
        assert all(layer._compiled_call_impl is not None for layer in layers)
        assert plain.state_dict().keys() == other.state_dict().keys()
    else:
        assert layers[0].gradient_checkpointing
        assert other.model.encoder.gradient_checkpointing


@pytest.mark.parametrize("train", [RATES, {"connector": 1e-3}], ids=["all", "connector"])
def test_operations_are_those_that_torch_counts(train, samples, processor):
    module = lit(train=train)
    sample = samples[0]
    batch = collate([sample], processor.pad_id)

    def attention_on_a_cpu(query, key, value, *_, **__):
        """torch 2.10 has the formula, but not for this kernel and not for query heads that share keys."""
        return sdpa_flop_count(query, (*query[:2], *key[2:]), (*query[:2], *value[2:]))

    attends = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_on_a_cpu}
    with FlopCounterMode(display=False, depth=2, custom_mapping=attends) as forward:
        loss, _ = module(batch)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    runs = batch.layout.segments("group").lengths
    rows = (sample.labels != IGNORE).sum().item()
    products, attention = step_operations(module.model, runs, int(sample.stats["visual_tokens"]), [len(sample)], rows)
    counted = [counter.get_flop_counts()["Global"] for counter in (forward, backward)]
    with_weights = sum(n for table in counted for op, n in table.items() if "mm" in str(op))
    assert products == pytest.approx(with_weights, rel=0.03)  # the pixels and what is frozen before need no gradient

    def seen(part):
        table = forward.get_flop_counts()[type(part).__name__]
        return sum(n for op, n in table.items() if "attention" in str(op))

    # torch counts the masked half of causal attention too, and scores once more in the backward pass
    tower, language = seen(module.model.encoder), seen(module.model.language_model)
    assert attention == (3 if "encoder" in train else 1) * tower + 3 * language / 2


# -- prompts and answers


def test_prompts_end_before_the_last_answer(samples, processor):
    batch = collate(samples, processor.pad_id)
    asked, wanted = prompts(batch, processor.pad_id), last_answers(batch)
    decode = processor.tokenizer.decode
    assert [decode(ids) for ids in wanted] == [
        "A rabbit.<|im_end|>", "one two three four five six<|im_end|>", "Outside.<|im_end|>",
    ]  # fmt: skip
    for sample, ids, mask in zip(samples, asked.input_ids, asked.attention_mask, strict=True):
        kept = ids[mask.bool()]
        assert torch.equal(kept, sample.input_ids[: len(kept)])
        assert decode(kept).endswith("<|im_start|>assistant\n")
        assert mask.tolist() == sorted(mask.tolist())  # padded on the left
    assert decode(asked.input_ids[2][asked.attention_mask[2].bool()]).count("A rabbit.") == 1
    with pytest.raises(ValueError, match="packed"):
        prompts(pack(samples, processor.pad_id), processor.pad_id)


# -- runs from the command line


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def fit(tmp_path, cache):
    def go(name, *arguments):
        """The exit status, the folder of the run, and its losses."""
        out = tmp_path / name
        fixed = ["--config", "debug.yaml", "--data.tokens.max_pixels", "4000", "--trainer.limit_val_batches", "0"]
        status = run(["fit", *fixed, "--data.loading.cache", cache, "--out", str(out), *arguments])
        folder = out / "version_0"
        return status, folder, curve(folder) if status != 2 else {}

    return go


class Signals:
    """Sends this process signals when it is in given training steps."""

    def __init__(self, monkeypatch, at):
        self.at, step = dict(at), LitLlavaOneVision2.training_step

        def training_step(module, batch, batch_idx):
            if module.global_step in self.at:
                os.kill(os.getpid(), self.at.pop(module.global_step))
            return step(module, batch, batch_idx)

        monkeypatch.setattr(LitLlavaOneVision2, "training_step", training_step)


FEEDS = {
    "batches": ["--data.order.group_by_length", "true"],
    "accumulated": ["--data.order.batch_size", "1", "--trainer.accumulate_grad_batches", "2"],
    "workers": ["--data.loading.num_workers", "1"],
    "packed": ["--data.order.pack", "stream", "--data.order.pack_length", "700", "--data.order.batch_size", "1",
               "--data.order.rows_per_epoch", "3"],
}  # fmt: skip


@pytest.mark.parametrize("feed", FEEDS)
def test_interrupted_and_resumed_is_as_uninterrupted(feed, fit, monkeypatch, capsys):
    """Stopped in the middle of an epoch by Ctrl-C, then of another one by SIGTERM."""
    steps = ["--trainer.max_steps", "8", *FEEDS[feed]]
    _, _, whole = fit("whole", *steps)
    assert len(whole) == 8
    Signals(monkeypatch, {3: signal.SIGINT, 6: signal.SIGTERM})
    status, first, losses = fit("first", *steps)
    checkpoint = first / "checkpoints" / "last.ckpt"
    assert status == 130
    assert capsys.readouterr().err.strip().endswith(f"go on with --ckpt_path {checkpoint}")
    assert max(losses) == 3
    status, second, more = fit("second", *steps, "--ckpt_path", str(checkpoint))
    assert status == 143
    assert (min(more), max(more)) == (4, 6)
    status, _, rest = fit("third", *steps, "--ckpt_path", str(second / "checkpoints" / "last.ckpt"))
    assert status == 0
    assert {**losses, **more, **rest} == whole
    assert not list(first.rglob("*.part"))


def test_a_regular_checkpoint_resumes_too(fit, tmp_path):
    steps = ["--trainer.max_steps", "7", "--checkpoint.every_n_train_steps", "4", "--checkpoint.save_top_k", "-1"]
    _, folder, whole = fit("whole", *steps)
    kept = next(path for path in (folder / "checkpoints").iterdir() if "step=4" in path.name)
    _, _, rest = fit("rest", *steps, "--ckpt_path", str(kept))
    assert rest == {step: loss for step, loss in whole.items() if step >= 4}


def test_second_ctrl_c_stops_at_once(fit, monkeypatch):
    step = LitLlavaOneVision2.training_step

    def training_step(module, batch, batch_idx):
        if module.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(LitLlavaOneVision2, "training_step", training_step)
    before = signal.getsignal(signal.SIGINT)
    status, folder, _ = fit("a", "--trainer.max_steps", "9", "--checkpoint.every_n_train_steps", "1")
    signal.signal(signal.SIGINT, before)
    assert status == 130
    kept = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert kept["global_step"] == 2


def test_data_options_that_changed_are_named(fit, capsys):
    _, folder, _ = fit("a")
    last = str(folder / "checkpoints" / "last.ckpt")
    assert fit("b", "--ckpt_path", last, "--trainer.max_steps", "4", "--data.order.batch_size", "3")[0] == 2
    assert "batch_size was 2 and is 3" in capsys.readouterr().err


def test_checkpoint_loads_without_config(fit, samples, processor):
    _, folder, _ = fit("a", "--model.connector", "resampler", "--model.connector_options.tokens", "5",
                       "--model.visibility", "canvas", "--model.positions", "exact")  # fmt: skip
    path = folder / "checkpoints" / "last.ckpt"
    module = LitLlavaOneVision2.load_from_checkpoint(path)
    assert type(module.model.connector).__name__ == "PerceiverResampler"
    assert module.tokens_out(64) == 5
    assert (module.visibility, module.train_parts) == ("canvas", RATES)
    stored = torch.load(path, weights_only=True)["state_dict"]
    assert stored.keys() == module.state_dict().keys()
    assert apart(stored, module.state_dict()) == 0


def test_checkpoint_holds_the_release_config_and_plain_values(fit):
    _, folder, _ = fit("a")
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    config = checkpoint["ov2kit"]["config"]
    assert config["model_type"] == "llava_onevision2"
    assert config == checkpoint["hyper_parameters"]["size"]
    json.dumps(checkpoint["hyper_parameters"])  # plain


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("how", ["load", "resume", "start"])
def test_no_checkpoint_runs_code(how, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"state_dict": {}, "hyper_parameters": {"size": Evil()}}, buffer)
    (tmp_path / "bad.ckpt").write_bytes(buffer.getvalue())
    if how == "load":
        with pytest.raises(pickle.UnpicklingError):
            LitLlavaOneVision2.load_from_checkpoint("bad.ckpt")
        with pytest.raises(ValueError, match="weights_only"):
            LitLlavaOneVision2.load_from_checkpoint("bad.ckpt", weights_only=False)
    else:
        flag = {"resume": "--ckpt_path", "start": "--model.start"}[how]
        assert run(["fit", "--config", "debug.yaml", flag, "bad.ckpt"]) == 2
        assert "bad.ckpt: holds something other than tensors and plain data" in capsys.readouterr().err
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "text", "other"])
def test_broken_checkpoints_are_named(content, tmp_path):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content) if content is not None else torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"x\.ckpt"):
        read_checkpoint(path)


def test_start_from_a_checkpoint_keeps_weights_and_swaps_parts(fit):
    _, folder, _ = fit("a")
    path = str(folder / "checkpoints" / "last.ckpt")
    old = LitLlavaOneVision2.load_from_checkpoint(path)
    same = LitLlavaOneVision2(start=path, train=RATES)
    assert apart(old.state_dict(), same.state_dict()) == 0
    swapped = LitLlavaOneVision2(start=path, train=RATES, connector="mlp", positions="exact")
    assert type(swapped.model.connector).__name__ == "MLPConnector"
    assert swapped.model.encoder.position.pairing == "interleaved"
    kept = {k: v for k, v in swapped.state_dict().items() if ".connector." not in k}
    assert apart(kept, old.state_dict()) == 0
    assert swapped.hparams["size"]["ov2kit"] == {"positions": "exact", "connector": {"name": "mlp"}}


def test_start_from_a_released_directory_takes_its_tokenizer(fit, tmp_path):
    _, folder, _ = fit("a")
    old = LitLlavaOneVision2.load_from_checkpoint(folder / "checkpoints" / "last.ckpt")
    old.model.save_pretrained(tmp_path / "model", load_tokenizer(None))
    cli = RecipeCLI("fit", ["--config", "debug.yaml", "--model.start", str(tmp_path / "model")], run=False)
    assert apart(cli.model.state_dict(), old.state_dict()) == 0
    assert cli.datamodule.tokens.tokenizer == str(tmp_path / "model")
    assert isinstance(cli.model.model, LlavaOneVision2)


def test_own_connector_by_class_path(samples, processor):
    path = "ov2kit.connectors.token_merger.TokenMerger"
    with pytest.raises(ValueError, match="cannot be made"):
        lit(connector=path, connector_options={"nonsense": 1})
    with pytest.raises(ValueError, match="not a connector"):
        lit(connector="torch.nn.Linear")
    module = lit(connector="ov2kit.connectors.mlp.MLPConnector", connector_options={"merge": 2})
    loss, _ = module(collate(samples, processor.pad_id))
    assert loss > 0


# -- validate, test, predict


def test_validate_test_and_predict_from_a_checkpoint_alone(fit, cache, tmp_path, capsys):
    questions = [json.loads(line) for line in (CONFIGS / "sample.jsonl").read_text().splitlines()[:3]]
    path = tmp_path / "three.jsonl"
    path.write_text("".join(json.dumps({**record, "videos": [str(SAMPLE)]}) + "\n" for record in questions))
    data = ["--data.sources.path", str(path), "--data.sources.val_path", str(path), "--model.answer_tokens", "24"]
    status, folder, losses = fit("a", "--trainer.max_steps", "45", "--model.min_lr", "1e-3",
                                 "--model.train.language_model", "3e-3",
                                 "--data.order.batch_size", "3", *data)  # fmt: skip
    assert status == 0
    assert losses[44] < 0.3
    last = ["--ckpt_path", str(folder / "checkpoints" / "last.ckpt")]
    data += ["--data.tokens.budget_canvases", "4"]
    data += ["--data.tokens.max_pixels", "4000", "--data.loading.cache", cache, "--trainer.accelerator", "cpu"]
    capsys.readouterr()
    for command, name in (("validate", "val"), ("test", "test")):
        assert run([command, *last, *data, "--out", str(tmp_path / command), "--data.order.batch_size", "2"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found[f"{name}/loss"] < 0.3
        written = lines(tmp_path / command / "version_0" / "answers.jsonl")
        assert len(written) == 3
        assert found[f"{name}/exact"] == pytest.approx(sum(line["exact"] for line in written) / 3)
        assert found[f"{name}/exact"] >= 0.3
    target = tmp_path / "out" / "answers.jsonl"
    assert run(["predict", *last, *data, "--out", str(tmp_path / "p"), "--predictions", str(target)]) == 0
    said = {line["name"]: line["answer"] for line in lines(target)}
    assert said == {line["name"]: line["answer"] for line in written}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_flags_overrule_the_settings_of_a_checkpoint(fit, tmp_path):
    _, folder, _ = fit("a", "--model.visibility", "full", "--model.window", "3")
    last = ["--ckpt_path", str(folder / "checkpoints" / "last.ckpt"), "--data.sources.path", "sample.jsonl"]
    cli = RecipeCLI("validate", [*last, "--model.window", "2"], run=False)
    assert (cli.model.visibility, cli.model.window) == ("full", 2)


def test_what_is_logged(fit):
    _, folder, _ = fit("a", "--trainer.max_steps", "4")
    with (folder / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    last = {name: float(value) for name, value in table[-1].items() if value}
    assert last["loss"] == pytest.approx(last["loss/codec"])
    assert last["visual/canvases"] == 4
    assert last["visual/p_canvases"] == 3
    assert last["visual/canvases_per_group"] == 4
    speed = {name.removeprefix("throughput/"): v for name, v in last.items() if name.startswith("throughput/")}
    assert speed["samples_per_second"] * speed["seconds_per_step"] == pytest.approx(2)
    assert speed["tokens_per_second"] / speed["samples_per_second"] == pytest.approx(last["visual/tokens"], rel=1e-3)
    assert speed["visual_tokens_per_second"] > 0
    assert 0 <= speed["data_wait_share"] < 1
    assert {"lr/encoder", "lr/connector", "lr/language_model", "gradient_norm", "supervised_tokens"} <= last.keys()
