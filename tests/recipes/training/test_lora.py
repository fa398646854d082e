"""LoRA in training: what learns, what a checkpoint holds, and that the merged model computes the same."""

import pytest
import torch

from ov2kit.cli import run as run_command
from ov2kit.codec import CodecTokenizer
from ov2kit.errors import OptionError
from ov2kit.recipes import (
    LitLlavaOneVision2,
    LlavaOneVision2,
    Processor,
    build,
    collate,
    load_tokenizer,
    release_config,
)
from ov2kit.recipes.model.adapters import check_lora, merged
from ov2kit.recipes.model.convert import convert
from ov2kit.recipes.model.starting import started_model
from ov2kit.recipes.release.lightning_files import read_lightning
from tests.paths import SAMPLE
from tests.recipes.training.test_lit import trained

pytest.importorskip("peft", reason="needs peft: pip install 'ov2kit[peft]'")
pytestmark = pytest.mark.usefixtures("one_thread")
PARTS = {"encoder", "connector", "language_model"}


@pytest.fixture(scope="module")
def batch():
    processor = Processor(load_tokenizer(None), codec=CodecTokenizer(budget_canvases=4, max_pixels=4000))
    chat = [
        {"role": "user", "content": [{"type": "video", "video": str(SAMPLE)}, {"type": "text", "text": "Who?"}]},
        {"role": "assistant", "content": "A rabbit."},
    ]
    return collate([processor(chat)], processor.pad_id)


def lit(lora, **options):
    torch.manual_seed(0)
    rates = dict.fromkeys(PARTS, 1e-2)
    return LitLlavaOneVision2(**({"train": rates, "warmup_share": 0.0, "lora": lora} | options))


def adapters(model):
    return {name: p for name, p in model.named_parameters() if ".lora_" in name}


@pytest.fixture(scope="module")
def run(batch, tmp_path_factory):
    """A module after three steps, its losses, and its checkpoint."""
    folder = tmp_path_factory.mktemp("lora")
    module = lit({"r": 4})
    start = {name: p.detach().clone() for name, p in module.model.named_parameters()}
    module, losses = trained(module, [batch] * 3, folder)
    module.trainer.save_checkpoint(folder / "last.ckpt")
    return module.eval(), losses, start, folder / "last.ckpt"


def test_every_adapter_learns_and_nothing_else(run):
    module, losses, start, _ = run
    now = dict(module.model.named_parameters())
    for name, before in start.items():
        assert torch.equal(now[name], before) != (".lora_" in name), name
    linear = {n for n, m in lit(None).model.named_modules() if isinstance(m, torch.nn.Linear) and "lm_head" not in n}
    assert {name.partition(".lora_")[0] for name in adapters(module.model)} == linear
    assert {module.model.part_name(name).split(".")[0] for name in linear} == PARTS
    steps = list(losses.values())
    assert steps[-1] < steps[0]


@torch.no_grad()
def test_every_adapter_changes_what_the_model_says(run, batch):
    module, *_ = run
    want, _ = module(batch)
    for name, parameter in adapters(module.model).items():
        if ".lora_B." in name:
            kept = parameter.clone()
            parameter.zero_()
            assert not torch.equal(module(batch)[0], want), name
            parameter.copy_(kept)
    assert torch.equal(module(batch)[0], want)


@torch.no_grad()
def test_a_checkpoint_is_read_merged_and_converted(run, batch, tmp_path):
    module, _, _, file = run
    want, _ = module(batch)
    again = LitLlavaOneVision2.load_from_checkpoint(file).eval()
    assert torch.equal(again(batch)[0], want)
    convert(file, tmp_path / "m")
    plain = lit(None).eval()
    for model in (LlavaOneVision2.from_pretrained(tmp_path / "m"), started_model(str(file))):
        plain.model = model.eval()
        assert not adapters(model)
        torch.testing.assert_close(plain(batch)[0], want, atol=1e-4, rtol=1e-5)
    state = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
    peft_said = _merged_by_peft(module.model)
    ours = merged(state, module.hparams["lora"])
    assert ours.keys() == peft_said.keys()
    for name, tensor in peft_said.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-6, rtol=1e-6)


def _merged_by_peft(model):
    """PEFT's own merging, as a second derivation."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    found = {}
    for name, tensor in model.state_dict().items():
        if ".lora_" not in name:
            found[name.replace(".base_layer.", ".")] = tensor.clone()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.unmerge()
    return found


@pytest.mark.filterwarnings("ignore")
def test_the_recipe_for_one_gpu_learns_beside_bfloat16_weights(tmp_path, capsys):
    tokenizer = load_tokenizer(None)
    processor = Processor(tokenizer, codec=CodecTokenizer(budget_canvases=4, max_pixels=4000))
    build(release_config("tiny", tokenizer=tokenizer)).to(torch.bfloat16).save_pretrained(tmp_path / "m", processor)
    options = {
        "model.start": tmp_path / "m", "model.quantization": "null",
        "data.sources.path": "sample.jsonl", "data.tokens.max_pixels": 4000,
        "data.loading.num_workers": 0, "trainer.accelerator": "cpu", "trainer.max_steps": 2, "out": tmp_path / "run",
        "trainer.accumulate_grad_batches": 1, "trainer.log_every_n_steps": 1,
    }  # fmt: skip
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    assert run_command(["fit", "--config", "one_gpu_lora.yaml", *flags]) == 0, capsys.readouterr().err
    state, rest = read_lightning(tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt")
    assert rest["global_step"] == 2
    start = LlavaOneVision2.from_pretrained(tmp_path / "m").state_dict()
    for name, tensor in state.items():
        if ".lora_" in name:
            assert tensor.dtype == torch.float32
            assert tensor.any(), name
        else:
            assert torch.equal(tensor, start[name.replace(".base_layer.", ".")])
            assert tensor.dtype == torch.bfloat16


def test_parts_and_layers_can_be_chosen():
    module = lit({"r": 2, "target": ["q_proj", "qkv"]}, train={"encoder": 1e-3, "language_model": 1e-3})
    assert {name.partition(".lora_")[0].rpartition(".")[2] for name in adapters(module.model)} == {"q_proj", "qkv"}
    module = lit({"r": 2}, train={"connector": 1e-3})
    assert {module.model.part_name(name).split(".")[0] for name in adapters(module.model)} == {"connector"}
    with pytest.raises(OptionError, match="no linear layer that learns"):
        lit({"target": ["qkv"]}, train={"connector": 1e-3})


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"rank": 4}, "rank"),
        ({"r": 0}, r"lora\.r"),
        ({"dropout": 1.0}, r"lora\.dropout"),
        ({"target": "qkv"}, r"lora\.target"),
        ({"alpha": -1}, r"lora\.alpha"),
    ],
)
def test_options_out_of_range(lora, said):
    with pytest.raises(OptionError, match=said):
        check_lora(lora)


def test_defaults():
    assert check_lora({}) == {"r": 16, "alpha": 32, "dropout": 0.0, "target": "all-linear"}
    assert check_lora(None) is None
