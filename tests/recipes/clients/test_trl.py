"""TRL's SFTTrainer on our model: codec videos go in, the loss is ours, adapters come out and merge."""

import importlib.util

import pytest
import torch

from ov2kit.codec import CodecTokenizer
from ov2kit.errors import DataError, OptionError
from ov2kit.recipes import LlavaOneVision2, Processor, build, collate, release_config, small_tokenizer
from ov2kit.recipes.clients.trainer_batches import ConversationCollator
from ov2kit.recipes.model.adapter_folders import merge_adapters
from ov2kit.recipes.prompt.visual_inputs import visual_inputs
from tests.paths import ROOT, SAMPLE

pytest.importorskip("trl", reason="needs trl: pip install trl")
pytest.importorskip("peft", reason="needs peft: pip install 'ov2kit[peft]'")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("trl_sft", ROOT / "examples" / "trl_sft.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("trl") / "m"
    processor = Processor(tokenizer, codec=CodecTokenizer(budget_canvases=4, max_pixels=4000))
    build(release_config("tiny", tokenizer=tokenizer)).save_pretrained(place, processor)
    return place


def talks(example):
    """One row about a video and one of text; a table gives both the same columns."""
    count, said = ([{"type": "text", "text": text}] for text in ("Count.", "one two three"))
    text = {"messages": [{"role": "user", "content": count}, {"role": "assistant", "content": said}]}
    return [*example.rows(SAMPLE, "A rabbit hops.", 1), text]


@pytest.mark.parametrize("connector", ["merger", "resampler"])
@torch.no_grad()
def test_a_batch_has_the_loss_that_our_own_has(example, connector):
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    model = build(release_config("tiny", tokenizer=tokenizer), connector=connector).eval()
    processor = Processor(
        tokenizer, codec=CodecTokenizer(budget_canvases=4, max_pixels=4000), tokens_out=model.tokens_out
    )
    theirs = ConversationCollator(processor)(talks(example))
    assert all(isinstance(value, torch.Tensor) for value in theirs.values())
    ours = collate([processor(row["messages"]) for row in talks(example)], processor.pad_id)
    want = model(ours.input_ids, **visual_inputs(ours), attention_mask=ours.attention_mask, labels=ours.labels).loss
    assert torch.equal(model(**theirs).loss, want)
    pads = theirs["input_ids"] == model.image_token_id
    assert pads.any()
    assert (theirs["labels"][pads] == -100).all()
    assert (theirs["labels"] != -100).sum() == (ours.labels != -100).sum() > 0


@pytest.mark.filterwarnings("ignore")
def test_two_steps_learn_and_the_adapters_merge(example, folder, tmp_path):
    trainer = example.trainer(folder, talks(example), tmp_path / "run", save_strategy="no")
    inputs = next(iter(trainer.get_train_dataloader()))
    alone = LlavaOneVision2.from_pretrained(folder)
    with torch.no_grad():
        want = alone(**inputs).loss.item()
        found = trainer.compute_loss(trainer.model.eval(), dict(inputs)).item()
    assert found == pytest.approx(want, rel=1e-5)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(want, abs=1e-3)
    assert losses[1] < losses[0]
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(".lora_" in name for name in moved)
    trainer.save_model(tmp_path / "adapters")
    model = trainer.model.eval()
    merged = merge_adapters(LlavaOneVision2.from_pretrained(folder), tmp_path / "adapters")
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs).logits, model(**inputs).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [8, 4])
def test_two_steps_beside_quantized_weights(example, folder, tmp_path, bits):
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: pip install bitsandbytes")
    trainer = example.trainer(
        folder, talks(example), tmp_path / "run", bits=bits, save_strategy="no", gradient_checkpointing=True
    )
    frozen = trainer.model.get_base_model().model.language_model.layers[0].mlp.up_proj.base_layer.weight
    assert frozen.dtype == {8: torch.int8, 4: torch.uint8}[bits]
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[1] < losses[0]
    learning = [p for p in trainer.model.parameters() if p.requires_grad]
    assert learning
    assert all(torch.isfinite(p).all() for p in learning)


def test_rows_and_options_that_cannot_be_used(folder):
    from transformers import AutoProcessor

    collator = ConversationCollator(AutoProcessor.from_pretrained(folder), max_tokens=8)
    with pytest.raises(DataError, match="'messages', got the columns text"):
        collator([{"text": "hi"}])
    long = [{"role": "user", "content": "word " * 20}, {"role": "assistant", "content": "yes"}]
    with pytest.raises(DataError, match="longer than max_tokens=8"):
        collator([{"messages": long}])
    with pytest.raises(OptionError, match="processor must be"):
        ConversationCollator(small_tokenizer())
