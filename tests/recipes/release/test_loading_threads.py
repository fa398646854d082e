"""Models are read and built in threads, and nothing outside them changes meanwhile or afterwards."""

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from ov2kit.codec.tokenizers.threads import one_torch_thread
from ov2kit.recipes import LlavaOneVision2, build, release_config
from ov2kit.recipes.architecture.parts import build_language_model, connectors
from ov2kit.recipes.architecture.weightless import build_weightless
from ov2kit.recipes.prompt.text_tokenizer import load_tokenizer, small_tokenizer
from tests.patience import PATIENCE

transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")

BFLOAT16 = release_config("tiny", text={"dtype": "bfloat16"})


def process_state():
    """What a library may have changed for the whole process."""
    modules = (nn.init, nn.modules.linear, nn.modules.conv, nn.modules.normalization, nn.modules.activation)
    functions = {(m.__name__, name): f for m in modules for name, f in vars(m).items() if callable(f)}
    methods = {name: f for name, f in vars(nn.Module).items() if name != "smart_apply"}  # transformers adds that once
    rest = (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        transformers.utils.logging.get_verbosity(),
        len(transformers.utils.logging.get_logger("transformers.configuration_utils").filters),
        list(warnings.filters),
    )
    return functions, methods, rest


class Layers:
    """A thread that makes layers, and notes what is wrong with them, until it is left."""

    def __enter__(self):
        self.wrong, self.made, self._stop = [], 0, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.is_set():
            weight = nn.Linear(16, 16).weight
            self.made += 1
            if weight.is_meta or weight.dtype != torch.float32:
                self.wrong.append((weight.device, weight.dtype))
            elif not 0.1 < weight.abs().max() <= 0.25:  # uniform within 1 / sqrt(16)
                self.wrong.append(weight.abs().max().item())


def in_four_threads(work, times):
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads meet where they seldom would
    try:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda _: work(), range(times)))
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def folder(tmp_path):
    build(BFLOAT16).save_pretrained(tmp_path / "m", tokenizer=small_tokenizer())
    return tmp_path / "m"


def test_twenty_loads_in_four_threads(folder):
    saved = LlavaOneVision2.from_pretrained(folder)
    want = {name: tensor.clone() for name, tensor in saved.state_dict().items()}
    before, random = process_state(), torch.get_rng_state()
    with Layers() as layers:
        models = in_four_threads(lambda: LlavaOneVision2.from_pretrained(folder), 20)
    assert layers.made > 20
    assert layers.wrong == []
    assert process_state() == before
    for model in models:
        got = model.state_dict()
        assert got.keys() == want.keys()
        assert all(got[name].dtype == want[name].dtype and torch.equal(got[name], want[name]) for name in want)
    LlavaOneVision2.from_pretrained(folder)
    assert not nn.Linear(2, 2).weight.is_meta
    torch.set_rng_state(random)
    LlavaOneVision2.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_loads_that_are_left_to_transformers(folder, dtype):
    """Its own way to make a model turned every layer of other threads into bfloat16, for as long as it took."""
    pytest.importorskip("accelerate", reason="needs accelerate: pip install 'ov2kit[peft]'")
    want = LlavaOneVision2.from_pretrained(folder, dtype).state_dict()

    def work():
        return LlavaOneVision2.from_pretrained(folder, dtype, device_map="cpu")

    work()
    before = process_state()
    with Layers() as layers:
        models = in_four_threads(work, 24)
    assert layers.made > 24
    assert layers.wrong == []
    assert process_state() == before
    for model in models:
        assert {p.dtype for p in model.parameters()} == {dtype}
        assert all(torch.equal(tensor, want[name]) for name, tensor in model.state_dict().items())
        assert model.lm_head.weight is model.language_model.get_input_embeddings().weight
        assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])


def test_building_with_fresh_weights_in_threads():
    build(BFLOAT16)
    before = process_state()
    with Layers() as layers:
        models = in_four_threads(lambda: build(BFLOAT16), 20)
    assert layers.wrong == []
    assert process_state() == before
    for model in models:
        assert {p.dtype for p in model.language_model.parameters()} == {torch.bfloat16}
        assert model.language_model.config.dtype == torch.bfloat16
        assert model.language_model.get_input_embeddings().weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_tokenizers_in_threads(folder, capfd):
    before = process_state()
    in_four_threads(lambda: load_tokenizer(folder), 20)
    assert process_state() == before
    assert "model of type" not in capfd.readouterr().err


SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
LLAMA3 = YARN | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "factor": 8.0}
KINDS = {
    "qwen3": {"model_type": "qwen3"},
    "yarn": {"model_type": "qwen3", "rope_parameters": YARN, "max_position_embeddings": 256},
    "moe": {"model_type": "qwen3_moe", "num_experts": 4, "moe_intermediate_size": 16, "num_key_value_heads": 2},
    "llama": {"model_type": "llama", "rope_parameters": LLAMA3, "max_position_embeddings": 512},
    "qwen2": {"model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "gemma3": {"model_type": "gemma3_text", "head_dim": 16, "num_key_value_heads": 2},
    "gpt2": {"model_type": "gpt2", "hidden_size": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_file_stores_is_computed(kind):
    text = ({} if kind == "gpt2" else SMALL) | KINDS[kind] | {"dtype": "bfloat16"}
    config = release_config("tiny") | {"text_config": text}
    model, fresh = (
        LlavaOneVision2.from_parts(build_weightless(config)),
        build_language_model(text | {"dtype": "float32"}),
    )
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    stored = fresh.state_dict()
    want = {name: buffer for name, buffer in fresh.named_buffers() if name not in stored}
    got = dict(model.language_model.named_buffers())
    assert got.keys() >= want.keys()
    assert want or kind == "gpt2"  # which has learned positions, and masks where older versions of it keep them
    for name, buffer in want.items():
        assert got[name].dtype == buffer.dtype
        assert torch.equal(got[name], buffer), name


@pytest.mark.parametrize("connector", list(connectors()))
def test_encoder_and_connectors_store_all_that_they_hold(connector):
    options = {"tokens": 4} if connector in ("resampler", "query", "pool") else {}
    model = build("tiny", connector=connector, connector_options=options)
    for part in (model.encoder, model.connector):
        assert {name for name, _ in part.named_buffers()} <= set(part.state_dict())


def test_a_language_model_that_hides_a_rule_is_refused(monkeypatch):
    monkeypatch.setattr(transformers.Qwen3PreTrainedModel, "_init_weights", lambda self, module: None)
    with pytest.raises(ValueError, match=r"Qwen3\w+ does not say how to compute model\.rotary_emb\.\w*inv_freq"):
        build_weightless(release_config("tiny"))


def test_one_torch_thread_inside_another():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_torch_thread():
            with one_torch_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_one_torch_thread_in_many_threads_leaves_the_number_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
        seen = {}

        def first():
            with one_torch_thread():
                first_in.set()
                second_in.wait(PATIENCE)
                seen["first"] = torch.get_num_threads()
            first_out.set()

        def second():
            first_in.wait(PATIENCE)
            with one_torch_thread():
                second_in.set()
                first_out.wait(PATIENCE)
                seen["second"] = torch.get_num_threads()

        threads = [threading.Thread(target=work) for work in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        later = threading.Thread(target=lambda: seen.update(later=torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == {"first": 1, "second": 1, "later": 3}
    finally:
        torch.set_num_threads(before)
