"""Adapters beside weights in 8 or 4 bits: what learns, what a checkpoint holds and needs, and what merging gives."""

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from ov2kit.cli import run as run_command
from ov2kit.codec import CodecTokenizer
from ov2kit.errors import CheckpointError, OptionError
from ov2kit.recipes import LitLlavaOneVision2, LlavaOneVision2, Processor, build, load_tokenizer, release_config
from ov2kit.recipes.model.adapter_folders import write_adapters
from ov2kit.recipes.model.convert import convert
from ov2kit.recipes.model.flops import matrix_parameters
from ov2kit.recipes.model.quantized import NAMED, check_quantization, numel
from ov2kit.recipes.model.starting import started_model
from ov2kit.recipes.release.lightning_files import read_lightning
from tests.recipes.training.test_lit import trained
from tests.recipes.training.test_lora import PARTS, adapters, batch
from tests.runs import curve, last

__all__ = ["batch"]

peft = pytest.importorskip("peft", reason="needs peft: pip install 'ov2kit[peft]'")
pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install 'ov2kit[quantization]'")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


def torchao():
    quantization = pytest.importorskip("torchao.quantization", reason="needs torchao: pip install torchao")
    from transformers import TorchAoConfig

    return TorchAoConfig(quantization.Int8WeightOnlyConfig(version=2)).to_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A directory in bfloat16, as models are released."""
    tokenizer = load_tokenizer(None)
    processor = Processor(tokenizer, codec=CodecTokenizer(budget_canvases=4, max_pixels=4000))
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("quantized") / "m"
    build(release_config("tiny", tokenizer=tokenizer)).to(torch.bfloat16).save_pretrained(place, processor)
    return place


def lit(folder, quantization, **options):
    torch.manual_seed(0)
    settings = {"train": dict.fromkeys(PARTS, 1e-2), "warmup_share": 0.0, "lora": {"r": 4}, "start": str(folder)}
    return LitLlavaOneVision2(**(settings | {"quantization": quantization} | options))


@pytest.fixture(scope="module", params=["int8", "nf4", torchao], ids=["int8", "nf4", "torchao"])
def run(request, folder, batch, tmp_path_factory):
    """A module after three steps with recomputation, its losses, the weights it began with, and its checkpoint."""
    place = tmp_path_factory.mktemp("run")
    module = lit(folder, request.param if isinstance(request.param, str) else request.param(), recompute=True)
    module.eval()
    with torch.no_grad():  # what a validation leaves behind must not stop gradients
        module(batch)
    module.train()
    start = {name: copy.deepcopy(p.detach()) for name, p in module.model.named_parameters()}
    module, losses = trained(module, [batch] * 3, place)
    module.trainer.save_checkpoint(place / "last.ckpt")
    return module.eval(), losses, start, place / "last.ckpt"


def stored(tensor):
    """The integers of a quantized weight, or what a tensor holds."""
    return getattr(tensor, "qdata", tensor)


def test_every_adapter_learns_beside_weights_that_stay(run, folder):
    module, losses, start, _ = run
    layers = {n for n, m in lit(folder, None, lora=None).model.named_modules() if isinstance(m, nn.Linear)}
    layers.discard("lm_head")
    now = dict(module.model.named_parameters())
    assert {name.partition(".lora_")[0] for name in adapters(module.model)} == layers
    for name, before in start.items():
        assert torch.equal(stored(now[name]), stored(before)) != (".lora_" in name), name
    for layer in layers:
        assert stored(now[f"{layer}.base_layer.weight"]).dtype in (torch.int8, torch.uint8), layer
    assert {p.dtype for p in module.model.parameters() if p.requires_grad} == {torch.float32}
    steps = list(losses.values())
    assert steps[2] < steps[1] < steps[0]


@torch.no_grad()
def test_a_checkpoint_holds_adapters_says_whose_and_is_read(run, folder, batch, tmp_path):
    module, _, _, file = run
    state, rest = read_lightning(file)
    assert state.keys() == adapters(module.model).keys()
    assert rest["ov2kit"]["base"]["path"] == str(folder)
    want = module(batch)[0]
    again = LitLlavaOneVision2.load_from_checkpoint(file).eval()
    assert torch.equal(again(batch)[0], want)
    assert again.hparams["quantization"] == module.hparams["quantization"]
    write_adapters(file, tmp_path / "adapters")
    theirs = peft.PeftModel.from_pretrained(LlavaOneVision2.from_pretrained(folder), tmp_path / "adapters")
    assert theirs.peft_config["default"].base_model_name_or_path == str(folder)
    plain = lit(folder, None, lora=None).eval()
    plain.model = theirs.get_base_model().eval()
    convert(file, tmp_path / "merged")
    merged = lit(tmp_path / "merged", None, lora=None).eval()
    # merging rounds to bfloat16, whose step is 2^-8 of a weight
    torch.testing.assert_close(merged(batch)[0], plain(batch)[0], atol=0, rtol=2e-3)
    started = lit(file, None, lora=None).eval()
    assert torch.equal(started(batch)[0], merged(batch)[0])
    # and the base that it is merged with never was quantized: 8 bits are 1/127 of a row's largest weight, 4 bits 1/7
    torch.testing.assert_close(merged(batch)[0], want, atol=0, rtol=1e-2)
    assert {t.dtype for t in LlavaOneVision2.from_pretrained(tmp_path / "merged").state_dict().values()} == {
        torch.bfloat16
    }


@torch.no_grad()
def test_autocast_reaches_the_quantized_layers(run):
    """As it reaches plain ones: on a GPU norms come in float32, and the layers after them should not."""
    module, *_ = run
    layer = module.model.encoder.blocks[0].mlp.fc1
    x = torch.randn(3, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("quantization", [*NAMED, torchao], ids=[*NAMED, "torchao"])
def test_recomputation_drops_what_quantized_layers_were_given(folder, batch, quantization):
    module = lit(folder, quantization if isinstance(quantization, str) else quantization(), recompute=True)
    module.configure_model()
    inputs = {}

    def note(name):
        def hook(_, given):
            inputs.setdefault(name, StorageWeakRef(given[0].untyped_storage()))

        return hook

    for name, layer in module.model.named_modules():
        if name.endswith("mlp.fc2.base_layer") or name.endswith("down_proj.base_layer"):
            layer.register_forward_pre_hook(note(name))
    loss, _ = module(batch)
    assert len(inputs) == 4
    assert [name for name, storage in inputs.items() if not storage.expired()] == []
    loss.backward()
    assert all(p.grad is not None for p in adapters(module.model).values())


@pytest.mark.parametrize("training", [True, False], ids=["product of a CPU", "product of a GPU"])
def test_an_8_bit_product_does_not_keep_its_input(folder, training):
    """bitsandbytes has two of them; in eval mode a CPU takes that of a GPU as well."""
    layer = lit(folder, "int8").model.encoder.blocks[0].mlp.fc1.base_layer.train(training)
    x = torch.randn(5, 64, requires_grad=True)
    given = x * 1.0
    storage = StorageWeakRef(given.untyped_storage())
    out = layer(given)
    assert type(out.grad_fn).__name__ == f"MatMul8bit{'Fp' if training else 'Lt'}Backward"
    del given
    assert storage.expired()
    out.sum().backward()
    weight = layer.state.CB.float() * layer.state.SCB[:, None] / 127
    torch.testing.assert_close(x.grad, weight.sum(0).expand(5, -1), atol=1e-4, rtol=1e-3)


def test_sizes_are_those_of_the_weights_that_were_packed(folder):
    whole, packed = (
        lit(folder, quantization, lora=None if quantization is None else {"r": 4}) for quantization in (None, "nf4")
    )
    added = sum(p.numel() for p in adapters(packed.model).values())
    assert sum(map(numel, packed.model.parameters())) == sum(p.numel() for p in whole.model.parameters()) + added
    assert matrix_parameters(packed.model) == matrix_parameters(whole.model) + added
    frozen = [p for p in packed.model.parameters() if not p.requires_grad]
    assert {p.dtype for p in frozen} == {torch.bfloat16, torch.uint8}  # as the directory has it
    assert {p.quant_state.dtype for p in frozen if p.dtype == torch.uint8} == {torch.bfloat16}


def test_the_base_may_move_but_not_change(folder, tmp_path, batch):
    module, _ = trained(lit(folder, "int8"), [batch], tmp_path)
    first = shutil.copytree(folder, tmp_path / "first")
    module.base = str(first)
    module.trainer.save_checkpoint(tmp_path / "last.ckpt")
    first.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="which are not there; name the place"):
        started_model(str(tmp_path / "last.ckpt"))
    assert run_command(["convert", str(tmp_path / "last.ckpt"), str(tmp_path / "a"), "--base", str(folder)]) == 0
    other = LlavaOneVision2.from_pretrained(folder)
    with torch.no_grad():
        other.model.language_model.layers[1].mlp.up_proj.weight[0, 0] += 1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"adapters for the weights of .*first; those of .*other differ"):
        convert(tmp_path / "last.ckpt", tmp_path / "b", base=tmp_path / "other")
    with pytest.raises(CheckpointError, match="differ"):
        LitLlavaOneVision2.load_from_checkpoint(tmp_path / "last.ckpt", start=str(tmp_path / "other"))
    assert not (tmp_path / "b").exists()


def test_a_run_is_stopped_resumed_and_converted(folder, tmp_path, capsys):
    def fit(out, *more, status=0):
        flags = {
            "data.sources.path": "sample.jsonl", "data.tokens.max_pixels": 4000, "data.tokens.budget_canvases": 4,
            "data.loading.num_workers": 0, "data.loading.cache": tmp_path / "cache", "trainer.accelerator": "cpu",
            "trainer.accumulate_grad_batches": 1, "trainer.log_every_n_steps": 1, "model.start": folder,
            "model.warmup_share": 0, "model.min_lr": 1e-4, "out": tmp_path / out,
        }  # fmt: skip
        given = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        assert run_command(["fit", "--config", "one_gpu_lora.yaml", *given, *more]) == status
        return tmp_path / out / "version_0"

    whole, half = (fit(name, "--trainer.max_steps", steps) for name, steps in (("whole", "3"), ("half", "2")))
    rest = fit("rest", "--trainer.max_steps", "3", "--ckpt_path", str(last(half)))
    assert curve(rest) == {step: loss for step, loss in curve(whole).items() if step == 2}
    first, second = (read_lightning(last(place))[0] for place in (whole, rest))
    assert all(torch.equal(first[name], second[name]) for name in first)
    capsys.readouterr()
    fit("other", "--ckpt_path", str(last(half)), "--model.quantization", "int8", status=2)
    assert "quantization" in capsys.readouterr().err
    assert run_command(["convert", str(last(rest)), str(tmp_path / "merged")]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantization": "int4"}, "unknown quantization .*int8, nf4"),
        ({"quantization": {"quant_method": "gptq"}}, "quant_method must be"),
        ({"quantization": {**NAMED["int8"], "load_in_8bits": True}}, "unknown key 'load_in_8bits'.*load_in_8bit"),
        ({"quantization": {**NAMED["int8"], "load_in_4bit": True}}, "one of load_in_8bit and load_in_4bit"),
        ({"quantization": 8}, "quantization must be a name"),
        ({"quantization": {"quant_method": "torchao", "quant_type": "nonsense"}}, "cannot be quantized"),
        ({"lora": None}, "set lora as well"),
        ({"start": None}, "set start"),
        ({"connector": "resampler"}, "connector cannot be changed"),
        ({"positions": "exact"}, "positions cannot be changed"),
    ],
)
def test_what_does_not_go_together(folder, options, said):
    with pytest.raises(OptionError, match=said):
        lit(folder, **({"quantization": "int8"} | options))


def test_a_start_that_cannot_be_quantized(folder, tmp_path):
    with pytest.raises(CheckpointError, match="found nothing"):
        lit(tmp_path / "nowhere", "int8")
    LlavaOneVision2.from_pretrained(folder, quantization_config=dict(NAMED["int8"]), device_map="cpu").save_pretrained(
        tmp_path / "q"
    )
    with pytest.raises(OptionError, match="quantized already"):
        lit(tmp_path / "q", "int8")
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(OptionError, match="ov2kit convert"):
        lit(tmp_path / "last.ckpt", "int8")


def test_weights_that_would_move_or_be_split_are_refused(folder):
    for mesh, device, said in ((None, "meta", "are on cpu and the trainer runs on meta"), ("mesh", "cpu", "not split")):
        module = lit(folder, "int8")
        module._device_mesh = mesh
        module._trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
        with pytest.raises(OptionError, match=said):
            module.configure_model()


def test_names_stand_for_configs_of_transformers():
    from transformers import BitsAndBytesConfig

    assert check_quantization(None) is None
    for name, (method, bits) in {"int8": ("llm_int8", 8), "nf4": ("nf4", 4)}.items():
        config = BitsAndBytesConfig.from_dict(check_quantization(name))
        assert config.quantization_method() == method
        assert getattr(config, f"load_in_{bits}bit")
