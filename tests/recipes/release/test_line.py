"""Other checkpoints of the line: what differs in their configs, beside a second derivation of the released arithmetic.

The derivation is plain tensors out of the file, no module of ov2kit; the golden model holds it to the release.
"""

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import layer_norm, rms_norm

from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import CheckpointError
from ov2kit.recipes import LlavaOneVision2, build, release_config, small_tokenizer
from ov2kit.recipes.model.convert import convert
from tests.paths import SAMPLE
from tests.release_files import golden_config, write_release
from tests.tiny_models import golden_files

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")

#: of each checkpoint: its model type, and the fields of its vision config that differ
LINE = {
    "moe": ("llava_onevision2_moe", {}),
    "ov2.1": ("llava_onevision2", {"hidden_act": "gelu_pytorch_tanh", "spatial_merge_size": 3}),
    "mage": ("mage_vl", {"patch_size": 16}),
    "all": ("mage_vl", {"patch_size": 16, "spatial_merge_size": 3, "hidden_act": "gelu_pytorch_tanh"}),
}
TOLERANCE = 1e-5
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"layer_norm_eps": 1e-5, "frame_windows_size": 2}


def line_config(name, tokenizer=None):
    kind, vision = LINE[name]
    return release_config("tiny", vision=SIZES | vision, tokenizer=tokenizer) | {"model_type": kind}


def write_tiny(folder, name, drop=()):
    """A directory whose tensors and config are written here: sharp random weights, norms and biases drawn too."""
    torch.manual_seed(5)
    config = line_config(name) | {"dtype": "float32"}
    tensors = {}
    for key, tensor in build(config).state_dict().items():
        spread = 0.3 if tensor.ndim == 1 else 4 * float(tensor.std())
        spread *= 8 if key.endswith("mlp.fc2.weight") else 1  # so that the perceptrons weigh
        tensors[key] = torch.randn(tensor.shape) * spread + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
    tensors.pop("lm_head.weight", None)  # tied
    for field in drop:
        del config["vision_config"][field]
    return write_release(folder, config, tensors)


def gelu(x, kind):
    """By its formulas."""
    if kind == "gelu_pytorch_tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def angles(positions, half, theta):
    """(N, half): time, row and column in 4, 6 and 6 sixteenths."""
    sizes = (half * 4 // 16, half * 6 // 16, half * 6 // 16)
    axes = [positions[:, axis, None].float() * theta ** -(torch.arange(size) / size) for axis, size in enumerate(sizes)]
    return torch.cat(axes, 1)


def rotate(x, table):
    """The release's: angles of halves, partners beside each other."""
    full = torch.cat([table, table], 1)[:, None]
    partner = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * full.cos() + partner * full.sin()


def derived_tokens(tensors, vision, pixels, positions, grid):
    """Visual tokens of packed patches, from the tensors of a file."""
    w = {key.removeprefix("model.visual."): tensor for key, tensor in tensors.items() if "model.visual." in key}
    width, heads, eps = vision["hidden_size"], vision["num_attention_heads"], vision["layer_norm_eps"]
    act = vision.get("hidden_act", "gelu")

    def norm(x, name):
        bias = w.get(f"{name}.bias")
        if bias is None:
            return rms_norm(x, (width,), w[f"{name}.weight"], eps)
        return layer_norm(x, (width,), w[f"{name}.weight"], bias, eps)

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    window = vision["frame_windows_size"]
    ends, windows = 0, []
    for t, height, across in grid.tolist():
        for start in range(0, t, window):
            count = (min(t, start + window) - start) * height * across
            windows.append(slice(ends, ends + count))
            ends += count
    table = angles(positions, width // heads // 2, vision.get("rope_theta", 1e4))
    x = norm(pixels @ w["embeddings.patch_embedding.weight"].flatten(1).T, "layernorm_pre")
    for i in range(vision["num_hidden_layers"]):
        at = f"encoder.layers.{i}"
        q, k, v = dense(norm(x, f"{at}.layer_norm1"), f"{at}.self_attn.qkv").view(len(x), 3, heads, -1).unbind(1)
        q, k = rotate(q, table), rotate(k, table)
        seen = [
            torch.einsum(
                "hnm,mhd->nhd", (torch.einsum("nhd,mhd->hnm", q[s], k[s]) * q.shape[-1] ** -0.5).softmax(-1), v[s]
            )
            for s in windows
        ]
        x = x + dense(torch.cat(seen).flatten(1), f"{at}.self_attn.proj")
        hidden = gelu(dense(norm(x, f"{at}.layer_norm2"), f"{at}.mlp.fc1"), act)
        x = x + dense(hidden, f"{at}.mlp.fc2")
    merged = norm(x, "merger.ln_q").reshape(-1, width * vision["spatial_merge_size"] ** 2)
    return dense(gelu(dense(merged, "merger.mlp.0"), "gelu"), "merger.mlp.2")


def derived_logits(tensors, config, ids, tokens):
    """Logits of transformers' own language model, with the tokens in the place of the image pads."""
    text = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**config["text_config"])).eval()
    inside = {key.replace("model.language_model.", "model."): t for key, t in tensors.items() if ".visual." not in key}
    text.load_state_dict(inside, strict=False)
    embeds = text.get_input_embeddings()(ids)
    embeds[ids == config["image_token_id"]] = tokens
    return text(inputs_embeds=embeds[None]).logits[0]


def made_input(config, seed=0):
    """(ids, pixels, positions, grid) of one clip of three canvases and a picture."""
    vision, rng = config["vision_config"], torch.Generator().manual_seed(seed)
    merge, patch = vision["spatial_merge_size"], vision["patch_size"]
    grid = torch.tensor([[3, 2 * merge, merge], [1, merge, 3 * merge]])
    n = int(grid.prod(1).sum())
    pads = n // merge**2
    ids = torch.randint(0, 400, (pads + 12,), generator=rng)
    ids[4 : 4 + pads] = config["image_token_id"]
    pixels = torch.randn(n, 3 * patch**2, generator=rng)
    return ids, pixels, torch.randint(0, 40, (n, 3), generator=rng), grid


@torch.no_grad()
def test_the_derivation_is_the_release():
    facts, weights, cases = golden_files()
    pixels, positions = cases["single.pixel_values"], cases["single.patch_positions"]
    tokens = derived_tokens(weights, facts["vision_config"], pixels, positions, cases["single.image_grid_thw"])
    torch.testing.assert_close(tokens, cases["single.image_features"], atol=1e-5, rtol=1e-5)
    logits = derived_logits(weights, golden_config(), cases["single.input_ids"], tokens)
    torch.testing.assert_close(logits, cases["single.logits"], atol=5e-5, rtol=1e-5)


@pytest.fixture(scope="module", params=LINE)
def directory(request, tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("line") / "m", request.param)


@torch.no_grad()
def test_logits_are_those_of_the_derivation(directory):
    config, tensors = json.loads((directory / "config.json").read_text()), load_file(directory / "model.safetensors")
    ids, pixels, positions, grid = made_input(config)
    tokens = derived_tokens(tensors, config["vision_config"], pixels, positions, grid)
    want = derived_logits(tensors, config, ids, tokens)
    assert want.std() > 0.1
    for load in (LlavaOneVision2, transformers.AutoModelForImageTextToText):
        model = load.from_pretrained(directory)
        assert model.config.model_type == config["model_type"]
        visual = model.model.see(pixels, positions, grid_thw=grid)
        torch.testing.assert_close(visual, tokens, atol=TOLERANCE, rtol=TOLERANCE)
        got = model(ids[None], pixel_values=pixels, patch_positions=positions, image_grid_thw=grid).logits[0]
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)
    exact = config["vision_config"] | {"hidden_act": "gelu"}
    if exact != config["vision_config"]:  # the activations are far enough apart for this test to tell them
        other = derived_tokens(tensors, exact, pixels, positions, grid)
        assert (other - tokens).abs().max() > 10 * TOLERANCE * (1 + tokens.abs().max())


def test_saved_again_they_are_the_same_to_the_byte(directory, tmp_path):
    first = {file.name: file.read_bytes() for file in directory.iterdir()}
    LlavaOneVision2.from_pretrained(directory).save_pretrained(tmp_path / "second")
    assert json.loads((tmp_path / "second" / "config.json").read_text()) == json.loads(first["config.json"])
    LlavaOneVision2.from_pretrained(tmp_path / "second").save_pretrained(tmp_path / "third")
    names = {file.name for file in (tmp_path / "second").iterdir()}
    assert names == first.keys() | {"README.md"}
    for name in names:
        assert (tmp_path / "third" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    for name in names - {"README.md", "config.json"}:
        assert (tmp_path / "second" / name).read_bytes() == first[name], name


def test_a_config_that_transformers_wrote_is_the_same(directory, tmp_path):
    """It leaves out what is a default."""
    config = transformers.AutoConfig.from_pretrained(directory)
    config.save_pretrained(tmp_path)
    again = transformers.AutoConfig.from_pretrained(tmp_path)
    assert type(again) is type(config)
    assert again.to_dict() | {"_name_or_path": str(directory)} == config.to_dict()
    shapes = [
        {name: tensor.shape for name, tensor in build(c.release_config()).state_dict().items()} for c in (config, again)
    ]
    assert shapes[0] == shapes[1]


def test_converted_to_a_checkpoint_and_back(directory, tmp_path):
    convert(directory, tmp_path / "start.ckpt")
    convert(tmp_path / "start.ckpt", tmp_path / "back")
    assert json.loads((tmp_path / "back" / "config.json").read_text()) == json.loads(
        (directory / "config.json").read_text()
    )
    want, got = load_file(directory / "model.safetensors"), load_file(tmp_path / "back" / "model.safetensors")
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_a_missing_tensor_is_named(directory, tmp_path):
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.visual.merger.ln_q.bias"]
    broken = write_release(tmp_path / "m", json.loads((directory / "config.json").read_text()), tensors)
    with pytest.raises(CheckpointError, match=r"1 missing: model\.visual\.merger\.ln_q\.bias"):
        LlavaOneVision2.from_pretrained(broken)


@pytest.mark.parametrize(("name", "field"), [("ov2.1", "spatial_merge_size"), ("mage", "patch_size")])
def test_a_field_that_a_config_leaves_out_has_the_default_of_its_type(tmp_path, name, field):
    """As configs are that hold only what differs from the defaults."""
    folder = write_tiny(tmp_path / "m", name, drop=[field])
    model = LlavaOneVision2.from_pretrained(folder)
    assert field not in model.release_config["vision_config"]
    assert getattr(model.config.vision_config, field) == LINE[name][1][field]
    model.save_pretrained(tmp_path / "again")
    config = (tmp_path / "again" / "config.json").read_text()
    assert json.loads(config) == json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", LINE)
@torch.no_grad()
def test_a_clip_is_cut_as_the_config_says_and_answered(tmp_path, name):
    tokenizer = small_tokenizer()
    config = line_config(name, tokenizer)
    patch, merge = config["vision_config"]["patch_size"], config["vision_config"]["spatial_merge_size"]
    build(config).save_pretrained(tmp_path / "m", tokenizer)
    cut = {"patch_size": patch, "merge_size": merge, "codec": {"target_canvas": 4, "max_pixels": 40_000}}
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(cut))
    again = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "m")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "m")
    chat = [{"role": "user", "content": [{"type": "video", "path": str(SAMPLE)}, {"type": "text", "text": "What?"}]}]
    inputs = processor.apply_chat_template(chat, tokenize=True, add_generation_prompt=True)
    assert inputs["pixel_values"].shape[1] == 3 * patch**2
    pads = int((inputs["input_ids"] == config["image_token_id"]).sum())
    assert pads * merge**2 == int(inputs["image_grid_thw"].prod(1).sum()) > 0
    # the first canvas is a whole frame: blocks of merge x merge patches, row by row
    rows, columns = (int(side) for side in inputs["image_grid_thw"][0, 1:])
    places = [
        (r, c)
        for top in range(0, rows, merge)
        for left in range(0, columns, merge)
        for r in range(top, top + merge)
        for c in range(left, left + merge)
    ]
    assert inputs["patch_positions"][: rows * columns, 1:].tolist() == [list(place) for place in places]
    said = again.generate(**inputs, max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert said.shape[1] == inputs["input_ids"].shape[1] + 3


def test_the_activation_is_a_config_field_of_the_encoder():
    config = OneVisionEncoder(64, 1, 2, 96).config()
    assert config["hidden_act"] == "gelu"
    tanh = OneVisionEncoder.from_config(config | {"hidden_act": "gelu_pytorch_tanh"})
    assert tanh.config() == config | {"hidden_act": "gelu_pytorch_tanh"}
    x = torch.linspace(-3, 3, 101)
    torch.testing.assert_close(tanh.blocks[0].mlp.act(x), gelu(x, "gelu_pytorch_tanh"), atol=1e-6, rtol=0)
    assert (gelu(x, "gelu_pytorch_tanh") - gelu(x, "gelu")).abs().max() > 1e-4


def test_a_model_put_together_by_hand_says_its_activation(tmp_path):
    """No config described it; what is written must load to the same."""
    made = build(line_config("ov2.1"))
    by_hand = LlavaOneVision2(
        {"image_token_id": made.image_token_id}, made.encoder, made.connector, made.language_model
    )
    by_hand.save_pretrained(tmp_path / "m")
    written = json.loads((tmp_path / "m" / "config.json").read_text())["vision_config"]
    assert (written["hidden_act"], written["spatial_merge_size"]) == ("gelu_pytorch_tanh", 3)
    again = LlavaOneVision2.from_pretrained(tmp_path / "m")
    assert str(again.encoder) == str(made.encoder)


def test_a_processor_under_the_name_of_mage_vl(tmp_path):
    """As published: the name in preprocessor_config.json, fields that shape nothing, a list of ends, nested RoPE."""
    config = line_config("mage") | {"architectures": ["MageVLForConditionalGeneration"], "eos_token_id": [1, 2]}
    text = config["text_config"]
    text["rope_parameters"] = {"rope_theta": text.pop("rope_theta", 5e6), "rope_type": "default"}
    config["vision_config"] |= {
        "model_type": "mage_vl_vision",
        "text_hidden_size": text["hidden_size"],
        "image_size": 448,
    }
    tensors = {k: v for k, v in build(line_config("mage")).state_dict().items() if k != "lm_head.weight"}
    folder = write_release(tmp_path / "m", config, tensors)
    small_tokenizer().save_pretrained(folder)
    (folder / "processor_config.json").unlink(missing_ok=True)
    said = {"patch_size": 16, "merge_size": 2, "processor_class": "MageVLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    processor = transformers.AutoProcessor.from_pretrained(folder)
    assert type(processor).__name__ == "MageVLProcessor"
    assert processor(
        text="<|vision_start|><|image_pad|><|vision_end|>?", images=[torch.zeros(3, 64, 64, dtype=torch.uint8)]
    )["pixel_values"].shape == (16, 3 * 16 * 16)
    again = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    assert again.config.text_config.rope_parameters["rope_theta"] == text["rope_parameters"]["rope_theta"]
