"""Parts that no release has: experts, a resampler, exact positions; and Mage-VL. Runs where vLLM is installed."""

import json

import pytest

pytest.importorskip("vllm", reason="needs vllm: make clients")

from types import SimpleNamespace

import torch

from ov2kit.codec import CodecTokenizer
from ov2kit.recipes.clients import vllm_processing
from ov2kit.recipes.clients.vllm_model import LlavaOnevision2
from tests.clips import encode
from tests.paths import SAMPLE
from tests.recipes.clients.served import Own, write_model
from tests.recipes.clients.server import FLAGS, Server
from tests.recipes.clients.test_vllm_server import TEXT, ask, part

EXPERTS = {
    "model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
}  # fmt: skip
TOKENS = 6


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = write_model(
        tmp_path_factory.mktemp("served") / "tiny", config=EXPERTS,
        connector="resampler", connector_options={"tokens": TOKENS}, positions="exact",
        kind="mage_vl", vision={"patch_size": 16, "hidden_act": "gelu_pytorch_tanh"},
    )  # fmt: skip
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["NameThatVllmDoesNotKnow"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def server(directory):
    named = ("--hf-overrides", '{"architectures": ["LlavaOnevision2ForConditionalGeneration"]}')
    with Server(directory, directory.parent / "log", (*FLAGS, *named, "--allowed-local-media-path", "/")) as running:
        yield running


@pytest.fixture(scope="module")
def own(directory):
    return Own(directory)


@pytest.mark.parametrize("names", [["sample"], ["sample", "short"], ["short"]])
def test_prompt_and_greedy_tokens_are_our_own(server, own, tmp_path, names):
    paths = {"sample": SAMPLE, "short": encode(tmp_path / "short.mp4", frames=7)}
    theirs, ours = zip(*(part("video", paths[name]) for name in names), strict=True)
    prompt, answer = ask(server, [*theirs, TEXT])
    sample = own.sample([*ours, TEXT])
    assert prompt.count(own.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")) == (
        TOKENS * sample.stats["groups"]
    )
    assert (prompt, answer) == own.ask([*ours, TEXT])


@pytest.mark.parametrize("connector", ["merger", "resampler"])
def test_padding_of_canvases_gives_no_token(tmp_path, connector):
    """Our tokenizers rarely leave a canvas partly filled; others do. Without a server, which takes files."""
    own = Own(write_model(tmp_path / "tiny", connector=connector))
    canvases = CodecTokenizer(3, max_pixels=16_000)(str(SAMPLE))
    canvases.images[-1, :, -56:], canvases.positions[-1, -4:] = 0, -1
    clip = {"type": "video", "video": canvases}
    sample = vllm_processing._item(own.processor, {}, "video", canvases)
    assert int((sample.positions < 0).all(1).sum()) == 4 * canvases.positions.shape[2]
    fields = vllm_processing._fields([sample, sample], "_videos")
    ids = {"image_token_id": own.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")}
    served = SimpleNamespace(encoder=own.model.encoder, connector=own.model.connector, config=SimpleNamespace(**ids))
    with torch.no_grad():
        found = LlavaOnevision2.embed_multimodal(served, **fields)
        whole = own.sample([clip, TEXT])
        want = own.model.visual_tokens(whole.pixel_values, whole.positions, whole.layout.segments("group"))
    assert len(found) == 2
    for one in found:
        torch.testing.assert_close(one, want)
