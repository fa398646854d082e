"""Checkpoints from format to format, compared with golden weights and with what transformers writes."""

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed import checkpoint as distributed_checkpoint

from ov2kit.cli import run as run_command
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import CheckpointError
from ov2kit.recipes import LlavaOneVision2, build
from ov2kit.recipes.model.convert import convert, model_from_lightning
from ov2kit.recipes.release.checkpoint_entry import from_lightning_entry, lightning_entry
from ov2kit.recipes.release.lightning_files import settings_file
from tests.paths import GOLDEN
from tests.recipes.release.test_release_format import assert_same_tensors, golden_logits, stored
from tests.release_files import golden_config, write_release
from tests.tiny_models import golden_files

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")


def in_version_1(name):
    """A golden name as the LightningModule had it in checkpoints of version 1, written out by hand."""
    for theirs, ours in (
        ("model.visual.merger.", "connector."),
        ("model.visual.", "encoder."),
        ("model.language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
    ):
        if name.startswith(theirs):
            return "model." + ours + name.removeprefix(theirs)
    raise AssertionError(name)


def lightning_state(name_of=in_version_1):
    return {name_of(name): tensor for name, tensor in golden_files()[1].items()}


def lightning_content(**changes):
    """A Lightning checkpoint of the golden model as Lightning lays it out, with what it adds around it."""
    content = {
        "epoch": 3,
        "global_step": 50,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": lightning_state() | {"accuracy.total": torch.tensor(3.0)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0), "exp_avg": torch.zeros(3)}}}],
        "lr_schedulers": [{"last_epoch": 4}],
        "hyper_parameters": {"size": "tiny", "train": {"connector": 1e-4}},
        "ov2kit": {"config": golden_config(), "generation_config": {"eos_token_id": [7, 9]}},
    }
    return {key: value for key, value in (content | changes).items() if value is not None}


class TestLightningToRelease:
    @pytest.mark.parametrize("names", [in_version_1, "model.{}".format], ids=["version 1", "version 2"])
    def test_a_checkpoint_file(self, tmp_path, names):
        torch.save(lightning_content(state_dict=lightning_state(names)), tmp_path / "last.ckpt")
        convert(tmp_path / "last.ckpt", tmp_path / "m")
        assert_same_tensors(stored(tmp_path / "m"), golden_files()[1])
        config = json.loads((tmp_path / "m" / "config.json").read_text())
        assert config == golden_config() | {"dtype": "float32"}
        model = LlavaOneVision2.from_pretrained(tmp_path / "m")
        torch.testing.assert_close(golden_logits(model), golden_files()[2]["single.logits"], atol=5e-5, rtol=1e-5)
        assert model.generation_config.eos_token_id == [7, 9]

    def test_names_of_compiled_and_recomputed_modules(self, tmp_path):
        state = {
            name.replace("model.", "model._orig_mod.", 1).replace(
                "layers.0.", "layers.0._checkpoint_wrapped_module."
            ): t
            for name, t in lightning_state().items()
        }
        torch.save(lightning_content(state_dict=state), tmp_path / "last.ckpt")
        convert(tmp_path / "last.ckpt", tmp_path / "m")
        assert_same_tensors(stored(tmp_path / "m"), golden_files()[1])

    def test_dtype_shards_and_files(self, tmp_path):
        torch.save(lightning_content(), tmp_path / "last.ckpt")
        release = write_release(tmp_path / "release")
        options = {"files_from": release, "dtype": torch.bfloat16, "max_shard_bytes": 100_000}
        convert(tmp_path / "last.ckpt", tmp_path / "m", **options)
        want = {name: tensor.bfloat16() for name, tensor in golden_files()[1].items()}
        assert_same_tensors(stored(tmp_path / "m"), want)
        assert len(list((tmp_path / "m").glob("*.safetensors"))) > 2
        assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "bfloat16"
        assert (tmp_path / "m" / "chat_template.jinja").read_text() == "{{ messages }}"

    @pytest.mark.parametrize("key", ["model", "state_dict"])  # of FSDP, of the model-parallel strategy
    def test_a_directory_of_shards(self, tmp_path, key):
        content = lightning_content()
        sharded = {key: content.pop("state_dict"), "optimizer_0": content.pop("optimizer_states")[0]}
        folder = tmp_path / "last.ckpt"
        distributed_checkpoint.save(sharded, checkpoint_id=folder, no_dist=True)
        torch.save(content, folder / "meta.pt")
        convert(folder, tmp_path / "m")
        assert_same_tensors(stored(tmp_path / "m"), golden_files()[1])

    @pytest.mark.parametrize(("name", "said"), [("../outside", "is not beside it"), ("pipe", "got a pipe")])
    def test_shards_are_files_beside_their_table(self, tmp_path, name, said):
        content = lightning_content()
        folder = tmp_path / "last.ckpt"
        distributed_checkpoint.save({"model": content.pop("state_dict")}, checkpoint_id=folder, no_dist=True)
        torch.save(content, folder / "meta.pt")
        table = pickle.loads((folder / ".metadata").read_bytes())
        first = next(iter(table.storage_data.values())).relative_path
        (folder / first).rename(tmp_path / "outside")
        os.mkfifo(folder / "pipe")
        for key, entry in table.storage_data.items():
            table.storage_data[key] = replace(entry, relative_path=name)
        (folder / ".metadata").write_bytes(pickle.dumps(table))
        with pytest.raises(CheckpointError, match=said):
            convert(folder, tmp_path / "m")
        assert not (tmp_path / "m").exists()

    def test_tied_embeddings_come_out_once(self, tmp_path):
        config = golden_config()
        config["text_config"] = config["text_config"] | {"tie_word_embeddings": True}
        state = lightning_state()
        state["model.language_model.lm_head.weight"] = state["model.language_model.model.embed_tokens.weight"]
        torch.save(lightning_content(state_dict=state, ov2kit={"config": config}), tmp_path / "last.ckpt")
        convert(tmp_path / "last.ckpt", tmp_path / "m")
        assert stored(tmp_path / "m").keys() == golden_files()[1].keys() - {"lm_head.weight"}
        text = model_from_lightning(tmp_path / "last.ckpt").language_model
        assert text.lm_head.weight is text.model.embed_tokens.weight

    def test_a_mixture_of_experts(self, tmp_path):
        moe = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "model_type": "qwen3_moe"}
        config = golden_config()
        config["text_config"] = config["text_config"] | moe
        model = build(config)
        state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        torch.save(lightning_content(state_dict=state, ov2kit={"config": config}), tmp_path / "last.ckpt")
        convert(tmp_path / "last.ckpt", tmp_path / "m")
        fused = model.state_dict()["model.language_model.layers.1.mlp.experts.gate_up_proj"]
        found = stored(tmp_path / "m")
        for expert in range(2):
            for half, part in enumerate(("gate_proj", "up_proj")):
                name = f"model.language_model.layers.1.mlp.experts.{expert}.{part}.weight"
                assert torch.equal(found[name], fused[expert, 8 * half : 8 * half + 8])


class Harmful:
    def __reduce__(self):
        return (open, ("executed", "w"))


class TestRefused:
    def refuse(self, source, *parts):
        with pytest.raises(CheckpointError) as caught:
            model_from_lightning(source)
        for part in (str(source), *parts):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_checkpoints_that_would_run_something(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        torch.save(lightning_content(hyper_parameters={"x": Harmful()}), tmp_path / "bad.ckpt")
        self.refuse(tmp_path / "bad.ckpt", "could run code")
        folder = tmp_path / "bad"
        distributed_checkpoint.save({"model": lightning_state()}, checkpoint_id=folder, no_dist=True)
        torch.save({"ov2kit": {"config": golden_config()}}, folder / "meta.pt")
        model_from_lightning(folder)
        (folder / ".metadata").write_bytes(pickle.dumps(Harmful()))
        self.refuse(folder, "open")
        assert not (tmp_path / "executed").exists()

    def test_what_is_not_of_this_model(self, tmp_path):
        source = tmp_path / "last.ckpt"
        torch.save(lightning_content(ov2kit=None), source)
        self.refuse(source, "says nothing under 'ov2kit'")
        state = lightning_state()
        del state["model.connector.ln_q.bias"]
        state["model.encoder.surplus"] = torch.zeros(1)
        state["model.language_model.lm_head.weight"] = torch.zeros(3, 3)
        torch.save(lightning_content(state_dict=state), source)
        self.refuse(source, "1 missing: model.visual.merger.ln_q.bias", "1 unexpected: encoder.surplus", "is [3, 3]")
        torch.save(lightning_content(state_dict={"net.weight": torch.zeros(1)}), source)
        self.refuse(source, "model.")
        torch.save([1], source)
        self.refuse(source, "list")
        for part in ("state_dict", "hyper_parameters", "ov2kit"):
            torch.save(lightning_content(**{part: [1]}), source)
            self.refuse(
                source, f"expected a checkpoint as 'ov2kit fit' writes it, with a mapping under '{part}', got list"
            )
        torch.save(lightning_content(state_dict={"model.x": 3}), source)
        self.refuse(source, "expected tensors, got int as model.x")

    @pytest.mark.parametrize(
        ("made", "said"),
        [
            (lambda file: file.write_bytes(b""), "got an empty file; name a .ckpt file"),
            (lambda file: file.write_text("läuft\n" * 200), "got a text file; name a .ckpt file"),
            (lambda file: file.write_bytes(bytes(range(255, 0, -1)) * 9), "got something else; name a .ckpt file"),
            (lambda file: file.write_bytes(pickle.dumps([1])), "got a pickle, which is not opened"),
            (
                lambda file: save_file({"x": torch.zeros(1)}, file),
                "got a file of safetensors; name the",
            ),
            (lambda file: np.savez(file.open("wb"), x=1), "got a zip archive of something else; name a .ckpt file"),
            (lambda file: cut(file, 2000), "got the beginning of one that was cut short; copy it again"),
            (lambda file: cut(file, 100), "got the beginning of one that was cut short; copy it again"),
            (
                lambda file: overwrite(file, b"weight", b"\xff\xff\xff\xff\xff\xff"),
                "is damaged and cannot be read",
            ),
        ],
        ids=["empty", "text", "bytes", "pickle", "safetensors", "zip", "half", "beginning", "damaged"],
    )
    def test_what_is_no_checkpoint(self, tmp_path, made, said):
        made(tmp_path / "last.ckpt")
        self.refuse(tmp_path / "last.ckpt", said)

    def test_folders_that_hold_no_readable_shards(self, tmp_path):
        folder = tmp_path / "shards"
        distributed_checkpoint.save({"model": lightning_state()}, checkpoint_id=folder, no_dist=True)
        with pytest.raises(CheckpointError, match=r"shards: expected .* got a folder without meta\.pt; name"):
            settings_file(folder)
        torch.save({"ov2kit": {"config": golden_config()}}, folder / "meta.pt")
        shard, table = next(folder.glob("*.distcp")), (folder / ".metadata").read_bytes()
        shard.write_bytes(shard.read_bytes()[:3000])
        self.refuse(folder, "the shards of this checkpoint are damaged; copy it again")
        shard.unlink()
        self.refuse(folder, "no such file")
        (folder / ".metadata").write_bytes(table[:100])
        self.refuse(folder, "the shards of this checkpoint are damaged; copy it again")


def cut(file, length):
    torch.save(lightning_content(), file)
    file.write_bytes(file.read_bytes()[:length])


def overwrite(file, old, new):
    torch.save({"weight": torch.zeros(1)}, file)
    file.write_bytes(file.read_bytes().replace(old, new))


class TestReleaseToLightning:
    def test_names_values_and_description(self, tmp_path):
        convert(write_release(tmp_path / "m"), tmp_path / "out" / "start.ckpt")
        content = torch.load(tmp_path / "out" / "start.ckpt", weights_only=True)
        assert_same_tensors(content["state_dict"], lightning_state("model.{}".format))
        assert content["ov2kit"]["config"] == golden_config()
        assert {"epoch", "global_step", "pytorch-lightning_version"} <= content.keys()
        assert (tmp_path / "out" / "start.ckpt").stat().st_size < 1.2 * (
            tmp_path / "m" / "model.safetensors"
        ).stat().st_size
        with pytest.raises(CheckpointError, match="overwrite"):
            convert(tmp_path / "m", tmp_path / "out" / "start.ckpt")

    def test_lightning_itself_loads_it(self, tmp_path):
        lightning = pytest.importorskip("lightning")

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.model = build(golden_config())

        convert(write_release(tmp_path / "m"), tmp_path / "start.ckpt")
        module = Module.load_from_checkpoint(tmp_path / "start.ckpt", map_location="cpu", weights_only=True)
        torch.testing.assert_close(
            golden_logits(module.model), golden_files()[2]["single.logits"], atol=5e-5, rtol=1e-5
        )

    def test_the_entry_rebuilds_the_model(self):
        model = build("tiny", connector="pool", positions="exact")
        entry = lightning_entry(model)
        assert entry == json.loads(json.dumps(entry))
        again = from_lightning_entry(entry, LlavaOneVision2.from_parts)
        assert str(again.encoder) == str(model.encoder)
        assert str(again.connector) == str(model.connector)
        again.load_state_dict(model.state_dict())
        with pytest.raises(CheckpointError, match="ov2kit"):
            from_lightning_entry({}, LlavaOneVision2.from_parts)


@pytest.fixture
def parts(tmp_path):
    """A stand-alone encoder and a stand-alone language model, as their publishers lay them out."""
    facts = json.loads((GOLDEN / "01_vision_ln_m2_meta.json").read_text())
    weights = load_file(GOLDEN / "01_vision_ln_m2_weights.safetensors")
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    alone = {}
    for name, tensor in weights.items():
        bare = name.removeprefix("model.visual.")
        if ".qkv." in bare:
            for part, rows in zip("qkv", tensor.split(len(tensor) // 3), strict=True):
                alone[bare.replace(".qkv.", f".{part}_proj.")] = rows.clone()
        elif not bare.startswith("merger."):
            alone[bare.replace("self_attn.proj", "self_attn.out_proj")] = tensor
    alone |= {"layernorm_post.weight": torch.ones(64), "head.probe": torch.zeros(1, 1, 64)}
    save_file(alone, encoder / "model.safetensors")
    config = {k: v for k, v in facts["config"].items() if k not in ("out_hidden_size", "spatial_merge_size")}
    (encoder / "config.json").write_text(json.dumps(config | {"use_head": True, "model_type": "an_encoder"}))

    import tokenizers

    special = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_end|>"]
    words = {word: i for i, word in enumerate(["<unk>", "a", "b", *special])}
    text = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>"))
    text.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=text, additional_special_tokens=special, eos_token="<|im_end|>"
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 16, "head_dim": 16}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "initializer_range": 0.3, "tie_word_embeddings": True}
    llm = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes)).to(torch.bfloat16).eval()
    llm.generation_config.max_length = 55
    llm.save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    return encoder, tmp_path / "llm"


class TestStartCheckpoint:
    @torch.no_grad()
    def test_every_part_is_the_one_it_was(self, parts, tmp_path):
        encoder, llm = parts
        theirs = transformers.AutoModelForCausalLM.from_pretrained(llm, dtype=torch.float32).eval()
        convert(encoder, tmp_path / "start", llm=llm, dtype=torch.float32)
        model = LlavaOneVision2.from_pretrained(tmp_path / "start")
        ids = torch.tensor([[1, 2, 8, 0, 15, 9, 4, 11]])
        torch.testing.assert_close(model(ids).logits, theirs(ids).logits)
        cases = load_file(GOLDEN / "01_vision_ln_m2_cases.safetensors")
        positions, grid = cases["clip.patch_positions"], cases["clip.grid_thw"]
        features = model.encoder(cases["pixel_pool"][: len(positions)], positions, model.encoder.visibility(grid))
        torch.testing.assert_close(features, cases["clip.before_merger"], atol=5e-5, rtol=1e-5)
        assert isinstance(model.encoder, OneVisionEncoder)
        assert model.encoder.head is None
        config = json.loads((tmp_path / "start" / "config.json").read_text())
        assert (config["image_token_id"], config["vision_end_token_id"]) == (3, 6)
        assert config["vision_config"]["out_hidden_size"] == 48
        assert config["text_config"]["vocab_size"] == 16
        assert model.generation_config.max_length == 55
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "start", trust_remote_code=False)
        assert tokenizer("a <|image_pad|>")["input_ids"] == [1, 3]
        pictures = transformers.AutoImageProcessor.from_pretrained(tmp_path / "start", trust_remote_code=False)
        assert (pictures.patch_size, pictures.merge_size, pictures.temporal_patch_size) == (14, 2, 1)
        pixels = cases["pixel_pool"][:8]
        prompt = torch.tensor([[1, 3, 3, 2]])
        grid = [(1, 2, 4)]
        assert model.generate(prompt, pixels, positions[:8], image_grid_thw=grid, max_new_tokens=2).shape == (1, 6)

    def test_the_connector_is_fresh_and_follows_the_seed(self, parts, tmp_path):
        encoder, llm = parts
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            convert(encoder, tmp_path / name, llm=llm, seed=seed)
        a, b, c = (stored(tmp_path / name) for name in "abc")
        assert_same_tensors(a, b)
        assert {t.dtype for t in a.values()} == {torch.bfloat16}
        assert {name for name in a if not torch.equal(a[name], c[name])} == {
            "model.visual.merger.mlp.0.weight",
            "model.visual.merger.mlp.2.weight",
        }
        assert a["model.visual.merger.mlp.0.weight"].float().std() == pytest.approx(0.02, rel=0.05)
        assert a["model.visual.merger.ln_q.weight"].eq(1).all()
        assert a["model.visual.merger.mlp.0.bias"].eq(0).all()
        assert "lm_head.weight" not in a

    def test_merge_is_free_to_choose(self, parts, tmp_path):
        encoder, llm = parts
        convert(encoder, tmp_path / "start", llm=llm, merge=3)
        config = json.loads((tmp_path / "start" / "config.json").read_text())
        assert config["vision_config"]["spatial_merge_size"] == 3
        assert stored(tmp_path / "start")["model.visual.merger.mlp.0.weight"].shape == (9 * 64, 9 * 64)

    def test_parts_that_cannot_be_joined(self, parts, tmp_path):
        encoder, llm = parts
        with pytest.raises(CheckpointError, match="expected an encoder's config"):
            convert(tmp_path / "llm", tmp_path / "start", llm=encoder)
        (llm / "tokenizer.json").rename(llm / "elsewhere.json")
        (llm / "tokenizer_config.json").unlink()
        with pytest.raises(CheckpointError, match="tokenizer beside its weights"):
            convert(encoder, tmp_path / "start", llm=llm)
        (llm / "elsewhere.json").rename(llm / "tokenizer.json")
        weights = load_file(encoder / "model.safetensors")
        weights.pop("encoder.layers.0.self_attn.k_proj.weight")
        save_file(weights, encoder / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"encoder.layers.0.self_attn.qkv.weight"):
            convert(encoder, tmp_path / "start", llm=llm)
        assert not (tmp_path / "start").exists()


class TestCommandLine:
    def test_it_converts_and_says_so(self, tmp_path, capsys):
        torch.save(lightning_content(), tmp_path / "last.ckpt")
        arguments = ["convert", str(tmp_path / "last.ckpt"), str(tmp_path / "m"), "--dtype", "bfloat16"]
        assert run_command([*arguments, "--max_shard_gb", "0.0001"]) == 0
        assert "Lightning checkpoint -> released format" in capsys.readouterr().out
        assert stored(tmp_path / "m")["lm_head.weight"].dtype == torch.bfloat16
        assert run_command(["convert", str(tmp_path / "m"), str(tmp_path / "n"), "--dtype", "float32"]) == 0
        assert list((tmp_path / "n").glob("*.safetensors")) == [tmp_path / "n" / "model.safetensors"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nowhere", "out"], "nowhere"),
            (["m", "out", "--dtype", "int8"], "--dtype"),
            (["m", "out", "--max_shard_gb", "0"], "--max_shard_gb"),
            (["m", "m"], "is read by this command"),
            (["m/generation_config.json", "out"], "expected a checkpoint as 'ov2kit fit' writes it, got a text file"),
            (["m/generation_config.json", "out.ckpt"], "expected a checkpoint as 'ov2kit fit' writes it, got a text"),
        ],
    )
    def test_errors_are_one_line_and_nothing_is_written(self, tmp_path, capsys, monkeypatch, arguments, said):
        monkeypatch.chdir(tmp_path)
        write_release(tmp_path / "m")
        assert run_command(["convert", *arguments]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert said in lines[0]
        assert [file.name for file in tmp_path.iterdir()] == ["m"]
