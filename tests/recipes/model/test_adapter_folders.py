"""Adapters of PEFT on our model: every one learns and counts, folders come and go, merged is adapted."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ov2kit.cli import run
from ov2kit.errors import CheckpointError
from ov2kit.recipes import LitLlavaOneVision2, LlavaOneVision2, build, release_config
from ov2kit.recipes.model.adapter_folders import merge_adapters, write_adapters
from tests.release_files import write_release
from tests.tiny_models import golden_files

peft = pytest.importorskip("peft", reason="needs peft: pip install 'ov2kit[peft]'")
pytestmark = pytest.mark.usefixtures("one_thread")


def inputs():
    cases = golden_files()[2]
    return {
        "input_ids": cases["single.input_ids"][None],
        "pixel_values": cases["single.pixel_values"],
        "patch_positions": cases["single.patch_positions"],
        "image_grid_thw": cases["single.image_grid_thw"],
    }


def adapted(folder, **options):
    """PEFT's own class around the model, with adapters that are not zero."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **options)
    model = peft.get_peft_model(LlavaOneVision2.from_pretrained(folder), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.05)
    return model


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("adapters") / "m")


def test_all_linear_reaches_every_part_and_every_adapter_learns_and_counts(released):
    model = adapted(released)
    labels = golden_files()[2]["single.labels"][None]
    model(**inputs(), labels=labels).loss.backward()
    base = model.get_base_model()
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    linear = {n for n, m in base.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    parts = {base.part_name(name).split(".")[0] for name in linear}
    assert parts == {"encoder", "connector", "language_model"}
    assert len(found) == 2 * len(linear)
    assert all(p.grad is not None and p.grad.any() for p in found.values())
    with torch.no_grad():
        want = model(**inputs()).logits
        for name, parameter in found.items():
            if ".lora_B." in name:
                kept = parameter.clone()
                parameter.zero_()
                assert not torch.equal(model(**inputs()).logits, want), name
                parameter.copy_(kept)


@torch.no_grad()
def test_folders_are_read_back_merged_and_converted(released, tmp_path, capsys):
    model = adapted(released, modules_to_save=["embed_tokens"]).eval()
    model.get_input_embeddings().weight[7] += 0.5  # the copy that is saved
    want = model(**inputs()).logits
    model.save_pretrained(tmp_path / "adapters")
    base = LlavaOneVision2.from_pretrained(released)
    plain = base(**inputs()).logits
    assert not torch.allclose(want, plain, atol=1e-3)
    again = peft.PeftModel.from_pretrained(base, tmp_path / "adapters").eval()
    assert torch.equal(again(**inputs()).logits, want)
    assert again.generate(**inputs(), max_new_tokens=3, do_sample=False).shape[1] == inputs()["input_ids"].shape[1] + 3
    assert run(["convert", str(released), str(tmp_path / "merged"), "--adapter", str(tmp_path / "adapters")]) == 0
    assert "adapters merged" in capsys.readouterr().out
    merged = LlavaOneVision2.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(merged(**inputs()).logits, want, atol=1e-4, rtol=1e-4)
    assert load_file(tmp_path / "merged" / "model.safetensors").keys() == golden_files()[1].keys()


@torch.no_grad()
def test_a_run_of_ours_becomes_a_folder_of_peft(tmp_path):
    torch.manual_seed(0)
    module = LitLlavaOneVision2(
        size=release_config("tiny"),
        lora={"r": 4, "alpha": 12},
        train=dict.fromkeys(("encoder", "connector", "language_model"), 1e-3),
    ).eval()
    for name, parameter in module.model.named_parameters():
        if ".lora_B." in name:
            parameter.normal_(std=0.05)
    checkpoint = {
        "state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "epoch": 0, "global_step": 1,
        "pytorch-lightning_version": "2.6.0",
    }  # fmt: skip
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    base = build("tiny")
    base.load_state_dict(
        {name.replace(".base_layer.", "."): t for name, t in module.model.state_dict().items() if ".lora_" not in name}
    )
    ids = torch.tensor([[5, 6, 7, 8]])
    plain, want = base.eval()(ids).logits, module.model(ids).logits
    assert run(["convert", str(tmp_path / "last.ckpt"), str(tmp_path / "adapters"), "--adapters_only"]) == 0
    config = json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 12)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapters").eval()
    assert torch.equal(theirs(ids).logits, want)
    assert not torch.allclose(plain, want, atol=1e-3)
    with pytest.raises(CheckpointError, match="exists already"):
        write_adapters(tmp_path / "last.ckpt", tmp_path / "adapters")
    checkpoint["hyper_parameters"]["lora"] = None
    torch.save(checkpoint, tmp_path / "plain.ckpt")
    with pytest.raises(CheckpointError, match="no adapters"):
        write_adapters(tmp_path / "plain.ckpt", tmp_path / "other")


def test_what_are_no_adapters_of_the_model_is_refused(released, tmp_path):
    def base():
        return LlavaOneVision2.from_pretrained(released)

    with pytest.raises(CheckpointError, match=r"adapter_config\.json is missing"):
        merge_adapters(base(), released)
    adapted(released).save_pretrained(tmp_path / "a")
    file = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file(tensors | {name.replace("layers.0", "layers.9"): tensors[name].clone()}, file)
    with pytest.raises(CheckpointError, match="belong to no layer"):
        merge_adapters(base(), tmp_path / "a")
    save_file(tensors | {name: torch.zeros(4, 9)}, file)
    with pytest.raises(CheckpointError, match="do not fit the model") as caught:
        merge_adapters(base(), tmp_path / "a")
    assert "\n" not in str(caught.value)
    file.rename(tmp_path / "a" / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is missing"):
        merge_adapters(base(), tmp_path / "a")
