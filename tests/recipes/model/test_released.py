"""The class that transformers' own loaders, `generate` and savers see: the same model, the released names."""

import json

import pytest
import torch
from safetensors.torch import load_file

import ov2kit.recipes
from ov2kit.errors import CheckpointError
from ov2kit.recipes import LlavaOneVision2, build, release_config
from tests.fresh import python
from tests.release_files import golden_config, write_release
from tests.tiny_models import golden_files

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")


def auto(folder, **options):
    return transformers.AutoModelForImageTextToText.from_pretrained(folder, **options)


def case(name, **more):
    """A golden case under the keyword names of clients."""
    _, _, cases = golden_files()
    ids = cases[f"{name}.input_ids"]
    return {
        "input_ids": ids if ids.ndim == 2 else ids[None],
        "pixel_values": cases[f"{name}.pixel_values"],
        "patch_positions": cases[f"{name}.patch_positions"],
        "image_grid_thw": cases[f"{name}.image_grid_thw"],
    } | more


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("released") / "m")


@torch.no_grad()
def test_golden_logits_and_loss(released):
    model, (_, _, cases) = auto(released), golden_files()
    close = {"atol": 5e-5, "rtol": 1e-5}
    torch.testing.assert_close(model(**case("single")).logits[0], cases["single.logits"], **close)
    batch = case("batch", attention_mask=cases["batch.attention_mask"], labels=cases["batch.labels"])
    found = model(**batch)
    real = cases["batch.attention_mask"].bool()
    torch.testing.assert_close(found.logits[real], cases["batch.logits"][real], **close)
    torch.testing.assert_close(found.loss, cases["batch.loss"], **close)
    ids = cases["text.input_ids"]
    torch.testing.assert_close(model(ids[None]).logits[0], cases["text.logits"], **close)


@torch.no_grad()
def test_what_is_under_model_gives_the_hidden_states_of_the_logits(released):
    model, one = auto(released), case("single")
    hidden = model.base_model(**one, use_cache=False).last_hidden_state
    torch.testing.assert_close(model.lm_head(hidden)[0], golden_files()[2]["single.logits"], atol=5e-5, rtol=1e-5)


def test_generate_gives_the_golden_tokens_with_and_without_a_cache(released):
    model, (_, _, cases) = auto(released), golden_files()
    prompt = case("single", input_ids=cases["generate.prompt_ids"][None])
    want = cases["generate.new_ids"]
    for use_cache in (True, False):
        said = model.generate(
            **prompt, max_new_tokens=len(want), do_sample=False, eos_token_id=None, use_cache=use_cache
        )
        assert said[0, : prompt["input_ids"].shape[1]].tolist() == prompt["input_ids"][0].tolist()
        assert said[0, prompt["input_ids"].shape[1] :].tolist() == want.tolist()


def test_padding_on_the_left_changes_no_answer(released):
    model, one = auto(released), case("single")
    alone = model.generate(**one, max_new_tokens=6, do_sample=False, eos_token_id=None)[0, -6:]
    ids = torch.cat([torch.full((1, 5), 9), one["input_ids"]], 1)
    mask = (torch.arange(ids.shape[1]) >= 5).long()[None]
    padded = model.generate(
        **(one | {"input_ids": ids}), attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=None
    )
    assert padded[0, -6:].tolist() == alone.tolist()


def test_saved_files_keep_names_values_and_unknown_fields(released, tmp_path):
    auto(released).save_pretrained(tmp_path / "again")
    want = golden_files()[1]
    got = load_file(tmp_path / "again" / "model.safetensors")
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["something_new"] == golden_config()["something_new"]
    auto(tmp_path / "again").save_pretrained(tmp_path / "third")
    for file in ("config.json", "model.safetensors", "generation_config.json"):
        assert (tmp_path / "third" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    with torch.no_grad():
        ours = LlavaOneVision2.from_pretrained(tmp_path / "again")  # and our own reader takes what transformers wrote
        one = case("single")
        logits = ours(
            one["input_ids"], one["pixel_values"], one["patch_positions"], image_grid_thw=one["image_grid_thw"]
        ).logits
        assert torch.equal(logits, auto(tmp_path / "third")(**one).logits)


@pytest.mark.parametrize(
    ("connector", "text"),
    [
        ("resampler", {}),
        ("mlp", {"tie_word_embeddings": False}),
        (
            "merger",
            {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
        ),
    ],
)
@torch.no_grad()
def test_swapped_parts_load_and_give_our_logits(tmp_path, connector, text):
    torch.manual_seed(0)
    ours = build(release_config("tiny", text=text), connector=connector).eval()
    ours.save_pretrained(tmp_path / "m")
    theirs = auto(tmp_path / "m")
    grid = torch.tensor([[2, 4, 4], [1, 4, 8]])
    pixels = torch.randn(64, 588)
    positions = torch.randint(0, 9, (64, 3), dtype=torch.int32)
    tokens = ours.tokens_out(32) * 2 if ours.tokens_out else 16
    ids = torch.tensor([[1, 2, *[ours.image_token_id] * tokens, 3, 4]])
    want = ours(ids, pixels, positions, image_grid_thw=grid).logits
    got = theirs(ids, pixel_values=pixels, patch_positions=positions, image_grid_thw=grid).logits
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)
    theirs.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    first = load_file(tmp_path / "m" / "model.safetensors")
    assert again.keys() == first.keys()
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_recomputation_gives_the_same_gradients(released):
    grads = []
    for recompute in (False, True):
        model = auto(released).train()
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**case("single", labels=golden_files()[2]["single.labels"][None])).loss.backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    assert all(grad is not None for grad in grads[0].values())
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)


def test_missing_and_strange_tensors_are_refused(tmp_path):
    weights = golden_files()[1]
    del weights["model.visual.merger.ln_q.bias"]
    folder = write_release(tmp_path / "m", tensors=weights | {"model.extra": torch.zeros(2)})
    with pytest.raises(CheckpointError) as caught:
        auto(folder)
    for part in (str(folder), "1 missing: model.visual.merger.ln_q.bias", "1 unexpected: model.extra"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_half_written(released, tmp_path, monkeypatch):
    model = auto(released)
    monkeypatch.setattr("ov2kit.recipes.release.directory.write_shards", _fail)
    with pytest.raises(RuntimeError, match="the disk is full"):
        model.save_pretrained(tmp_path / "again")
    assert not list(tmp_path.iterdir())


def _fail(*_, **__):
    raise RuntimeError("the disk is full")


def test_code_in_the_directory_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_release(tmp_path / "m")
    auto(folder)
    assert type(auto(folder, trust_remote_code=True)) is type(auto(folder))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "order", ["ov2kit.recipes, transformers", "transformers.models.auto.modeling_auto, ov2kit.recipes"]
)
def test_either_may_be_imported_first(released, order):
    code = (
        f"import {order}\nfrom transformers import AutoConfig, AutoModelForImageTextToText as Auto\n"
        f"print(type(AutoConfig.from_pretrained({str(released)!r})).__name__)\n"
        f"print(type(Auto.from_pretrained({str(released)!r})).__name__)"
    )
    done = python(code)
    assert done.stdout.split() == ["LlavaOnevision2Config", "LlavaOneVision2"], done.stderr


def test_the_package_alone_does_not_bring_transformers_in():
    code = "import sys, ov2kit.recipes; print('transformers' in sys.modules)"
    done = python(code)
    assert done.stdout == "False\n", done.stderr
    assert ov2kit.recipes.LlavaOneVision2 is LlavaOneVision2


def test_a_stored_null_under_our_own_key_is_nothing(tmp_path):
    folder = write_release(tmp_path / "m", golden_config() | {"ov2kit": None})
    assert auto(folder).config.swapped == {}
    assert LlavaOneVision2.from_pretrained(folder).image_token_id == 500
