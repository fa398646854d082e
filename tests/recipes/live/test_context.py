"""What stays, what leaves, and that answers are those to a fresh prompt of the same groups."""

import pytest
import torch

from ov2kit.canvases import Canvases
from ov2kit.errors import OptionError
from ov2kit.recipes import Processor
from ov2kit.recipes.architecture.sizes import release_config
from ov2kit.recipes.generate import answer
from ov2kit.recipes.live.answers import LiveAnswers, why_no_reuse
from ov2kit.recipes.live.context import RollingContext, from_own_start
from ov2kit.recipes.model.build import build
from ov2kit.recipes.prompt.text_tokenizer import small_tokenizer


def test_groups_leave_by_time_and_by_tokens(groups):
    for limits in ({"keep_seconds": 7.0}, {"keep_seconds": None, "keep_tokens": 70}, {"keep_tokens": 60}):
        context, left = RollingContext(**limits, leave=1.0), 0
        for seen, group in enumerate(groups, 1):
            left += context.add(group)
            kept = list(context)
            assert [each.number for each in kept] == list(range(left, seen))
            assert context.tokens == sum(groups[n].canvases.num_tokens for n in range(left, seen))
            seconds = kept[-1].end_seconds - kept[0].start_seconds
            fits = seconds <= (limits.get("keep_seconds", 60.0) or 1e9)
            assert (fits and context.tokens <= limits.get("keep_tokens", 10**9)) or len(kept) == 1
            if left:  # one more would not fit
                before = groups[left - 1]
                longer = kept[-1].end_seconds - before.start_seconds > (limits.get("keep_seconds", 60.0) or 1e9)
                larger = context.tokens + before.canvases.num_tokens > limits.get("keep_tokens", 10**9)
                assert longer or larger
        assert left > 0


def test_several_leave_at_a_time_so_that_few_prompts_begin_anew(groups):
    changes = {}
    for leave in (1.0, 0.5):
        context = RollingContext(keep_seconds=9.0, leave=leave)
        changes[leave] = sum(context.add(group) > 0 for group in groups)
    assert changes[0.5] < changes[1.0]


def test_frames_count_from_the_start_of_their_group_and_times_stay(groups):
    for group in groups:
        mine, theirs = from_own_start(group.canvases), group.canvases
        mine.validate()
        first = min(theirs.clip_times()[0])
        assert min(mine.clip_times()[0]) == 0
        real = theirs.positions[..., 0] >= 0
        assert (theirs.positions[..., 0] - mine.positions[..., 0])[real].unique().tolist() == [first]
        assert (mine.positions[..., 0] >= 0).equal(real)
        assert sorted(mine.clip_times()[0].values()) == sorted(theirs.clip_times()[0].values())
        assert mine.images.equal(theirs.images)


def test_a_group_gives_the_same_tokens_wherever_it_stands(groups):
    """What the encoder makes of a group, alone and counted from its start, is what it makes of the whole stream."""
    torch.manual_seed(0)
    model = build("tiny", positions="exact").eval()
    together = Canvases.cat([group.canvases for group in groups[:3]])
    with torch.no_grad():
        whole = model.visual_tokens(together.pixel_values(), together.flat_positions(), together.segments())
        parts = [
            model.visual_tokens(own.pixel_values(), own.flat_positions(), own.segments())
            for own in (from_own_start(group.canvases) for group in groups[:3])
        ]
        moved = model.visual_tokens(together.pixel_values(), together.flat_positions() * 2, together.segments())
    difference = float((torch.cat(parts) - whole).abs().max())
    assert difference < 0.02 * float((moved - whole).abs().max())  # what is left is the rounding of angles
    assert torch.equal(parts[0], whole[: len(parts[0])])  # where there was nothing to count from


@pytest.mark.parametrize("reuse", [True, False])
def test_answers_are_those_to_a_fresh_prompt(model, groups, reuse):
    processor = Processor(small_tokenizer())
    live = LiveAnswers(model, processor, "What happens?", max_new_tokens=8, reuse=reuse)
    context, reused, texts = RollingContext(keep_seconds=11.0), [], []
    for group in groups:
        left = context.add(group)
        found = live(context)
        sample = live.sample(context)
        assert found.text == answer(model, processor, [sample], max_new_tokens=8)[0]
        assert found.prompt_tokens == len(sample)
        assert found.encoded_groups == 1
        reused.append((left, found.reused_tokens, found.prompt_tokens))
        texts.append(found.text)
    assert len(set(texts)) > 2, "the model must look at its input for this to be a test"
    if not reuse:
        assert {tokens for _, tokens, _ in reused} == {0}
        return
    before = 0
    for number, (left, tokens, prompt) in enumerate(reused):
        if number and not left:
            assert before - 40 < tokens < before  # all but the question
        before = prompt
    assert any(left for left, _, _ in reused)
    head = len(processor([{"role": "user", "content": [{"type": "text", "text": "x"}]}], generate=True))
    assert all(tokens < head for left, tokens, _ in reused if left)


def test_sliding_windows_reuse_what_lies_outside_of_them_too(groups):
    """A layer sees 16 tokens, and the prompt is cut back by more than that: answers are those to fresh prompts."""
    torch.manual_seed(3)
    text = {"tie_word_embeddings": False, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
    net = build(release_config("tiny", tokenizer=small_tokenizer(), text=text)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    assert set(net.language_model.config.layer_types) == {"full_attention", "sliding_attention"}
    processor, context = Processor(small_tokenizer()), RollingContext(keep_seconds=11.0)
    live = LiveAnswers(net, processor, "What happens, in one word or in two?", max_new_tokens=24)
    assert live.reuse
    reused = []
    for group in groups[:6]:
        context.add(group)
        found, sample = live(context), live.sample(context)
        assert found.text == answer(net, processor, [sample], max_new_tokens=24)[0]
        reused.append(found.reused_tokens)
    assert sum(tokens > 40 for tokens in reused) >= 2


def test_which_models_cannot_use_a_cache_again(model):
    assert why_no_reuse(model) is None
    config = model.language_model.config
    kinds = list(config.layer_types)
    try:
        config.layer_types = ["linear_attention", *kinds[1:]]
        assert why_no_reuse(model) == "it has layers of linear_attention"
        assert not LiveAnswers(model, Processor(small_tokenizer()), "x").reuse
    finally:
        config.layer_types = kinds


def test_limits_are_checked():
    with pytest.raises(OptionError, match="a stream has no end: give keep_seconds, keep_tokens or both"):
        RollingContext(keep_seconds=None)
    with pytest.raises(OptionError, match="leave must be at most 1 and above 0, got 0"):
        RollingContext(leave=0)
