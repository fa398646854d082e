"""What transformers does with a model directory beyond reading it: places, dtypes, attention, quantization, hubs."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ov2kit.errors import CheckpointError, OptionError
from ov2kit.recipes import LlavaOneVision2, build, release_config
from tests.release_files import golden_config, write_release

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")
pytest.importorskip("accelerate", reason="needs accelerate: pip install 'ov2kit[peft]'")

IDS = torch.tensor([[1, 508, 508, 4, 5]])
GRID = torch.tensor([[1, 2, 4]])


def auto(folder, **options):
    return transformers.AutoModelForImageTextToText.from_pretrained(folder, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("placing") / "m"
    build(release_config("tiny", text={"tie_word_embeddings": False})).save_pretrained(place)
    return place


@torch.no_grad()
def logits(model):
    rng = torch.Generator().manual_seed(0)
    pixels, positions = torch.randn(8, 588, generator=rng), torch.randint(0, 9, (8, 3), generator=rng)
    return model(IDS, pixel_values=pixels, patch_positions=positions, image_grid_thw=GRID).logits


@pytest.mark.parametrize(
    "device_map",
    [
        "cpu",
        "auto",
        {"model.visual": "cpu", "model.language_model": "disk", "lm_head": "cpu"},
        {"model.visual": "disk", "model.language_model": "cpu", "lm_head": "disk"},
    ],
    ids=["cpu", "auto", "text on disk", "tower on disk"],
)
def test_a_model_in_parts_says_the_same(folder, tmp_path, device_map):
    want = LlavaOneVision2.from_pretrained(folder)
    model = auto(folder, device_map=device_map, offload_folder=tmp_path / "off")
    on_disk = "disk" in (device_map.values() if isinstance(device_map, dict) else ())
    assert any(p.is_meta for p in model.parameters()) is on_disk
    torch.testing.assert_close(logits(model), logits(want), atol=1e-6, rtol=1e-6)
    said = [m.generate(IDS[:, :1], max_new_tokens=4, do_sample=False).tolist() for m in (model, want)]
    assert said[0] == said[1]
    model.save_pretrained(tmp_path / "again")
    first, again = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "again"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("name", ["bfloat16", torch.bfloat16, "auto", None])
def test_dtypes_by_name(folder, name):
    model = auto(folder, dtype=name)
    want = torch.bfloat16 if name not in ("auto", None) else torch.float32
    assert {p.dtype for p in model.parameters()} == {want}
    with pytest.raises(OptionError, match="dtype must be"):
        LlavaOneVision2.from_pretrained(folder, "brain")


def test_attention_implementations(folder):
    sdpa, eager = auto(folder, attn_implementation="sdpa"), auto(folder, attn_implementation="eager")
    assert [m.language_model.config._attn_implementation for m in (sdpa, eager)] == ["sdpa", "eager"]
    torch.testing.assert_close(logits(sdpa), logits(eager), atol=1e-6, rtol=1e-5)
    if not transformers.utils.is_flash_attn_2_available():
        with pytest.raises(ImportError, match="FlashAttention2"):
            auto(folder, attn_implementation="flash_attention_2")


def torchao():
    quantization = pytest.importorskip("torchao.quantization", reason="needs torchao: pip install torchao")
    return transformers.TorchAoConfig(quantization.Int8WeightOnlyConfig(version=2))


def bits_and_bytes():
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    return transformers.BitsAndBytesConfig(load_in_8bit=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantized", [torchao, bits_and_bytes])
def test_eight_bit_weights_on_a_cpu(folder, tmp_path, quantized):
    want = logits(LlavaOneVision2.from_pretrained(folder))
    model = auto(folder, quantization_config=quantized(), device_map="cpu")
    found = logits(model)
    # a step of 8 bits is 1/127 of a row's largest weight; four layers add up to a few hundredths of the spread
    error = ((found - want).norm() / want.norm()).item()
    assert 0 < error < 0.05
    layers = (model.model.visual.encoder["layers"][0].mlp.fc1, model.model.language_model.layers[0].mlp.up_proj)
    assert {torch.int8} == {getattr(layer.weight, "qdata", layer.weight).dtype for layer in layers}
    model.save_pretrained(tmp_path / "q")
    assert json.loads((tmp_path / "q" / "config.json").read_text())["architectures"] == [
        "LlavaOnevision2ForConditionalGeneration"
    ]
    assert (tmp_path / "q" / "README.md").is_file()
    assert torch.equal(logits(auto(tmp_path / "q")), found)


def test_a_config_that_was_changed_is_the_one_that_counts(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    config.text_config.rope_parameters["rope_theta"] = 10.0
    changed, plain = auto(folder, config=config), auto(folder)
    assert not torch.equal(logits(changed), logits(plain))
    config.vision_config.num_hidden_layers = 3
    with pytest.raises(CheckpointError, match=r"missing: model\.visual\.encoder\.layers\.2"):
        auto(folder, config=config)


def test_the_card_says_what_is_there(tmp_path):
    config = release_config("tiny", text={"tie_word_embeddings": False}) | {"license": "apache-2.0"}
    model = build(config, connector="resampler", positions="exact")
    model.save_pretrained(tmp_path / "m")
    text = (tmp_path / "m" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert (front["license"], front["library_name"]) == ("apache-2.0", "transformers")
    for fact in (f"{sum(p.numel() for p in model.parameters()):,}", "2 layers of width 64", "resampler", "exact"):
        assert fact in text
    assert "2 layers of width 96, 512 tokens" in text
    (tmp_path / "m" / "README.md").write_text("mine")
    model.save_pretrained(tmp_path / "m")
    LlavaOneVision2.from_pretrained(tmp_path / "m").save_pretrained(tmp_path / "other")
    assert {(tmp_path / name / "README.md").read_text() for name in ("m", "other")} == {"mine"}
    build("tiny").save_pretrained(tmp_path / "plain")
    assert "license" not in yaml.safe_load((tmp_path / "plain" / "README.md").read_text().split("---")[1])


class Hub:
    """A hub that takes repositories and says their name."""

    repo_id = "a/b"

    def create_repo(self, *_, **__):
        return self

    def save(self, path):
        """As a model card, which transformers takes from the repository."""


def test_what_goes_to_a_hub_is_a_whole_directory(tmp_path, monkeypatch):
    model = LlavaOneVision2.from_pretrained(write_release(tmp_path / "m", golden_config()))
    sent = {}

    def upload(self, folder, repo, **_):
        sent.update({file.name: file.read_bytes() for file in Path(folder).iterdir()}, repo=repo)

    monkeypatch.setattr("transformers.utils.hub.hf_api", Hub, raising=False)
    monkeypatch.setattr("transformers.utils.hub.create_repo", Hub().create_repo, raising=False)  # until 5.20
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: Hub())
    monkeypatch.setattr(type(model), "_upload_modified_files", upload)
    model.push_to_hub("a/b")
    assert {"config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "README.md"} <= sent.keys()
    assert json.loads(sent["config.json"])["something_new"] == golden_config()["something_new"]
    assert sent["repo"] == "a/b"
