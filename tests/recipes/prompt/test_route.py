"""The source "route": what a question takes is what one gets who chooses it by hand, and what cannot be routed."""

import json
from functools import partial

import numpy as np
import pytest

from ov2kit.codec import CodecTokenizer, FrameTokenizer
from ov2kit.errors import DataError, OptionError
from ov2kit.recipes import Processor, plain_image_messages, small_tokenizer
from ov2kit.recipes.data.options import Tokens
from ov2kit.recipes.prompt.released_processor import LlavaOnevision2Processor
from ov2kit.recipes.routing.values import Route, RouteValues
from tests.clips import encode
from tests.recipes.prompt.conversations import same, user

TOKENIZER = small_tokenizer()
VIDEO: dict[str, str] = {"type": "video"}
SMALL = {"max_pixels": 9_000, "threads": 1}
WHEN, SAYS = "When does the bird fly up?", "What is written on the sign?"
answer = {"role": "assistant", "content": "A bird."}


@pytest.fixture(scope="module", autouse=True)
def clip(tmp_path_factory):
    VIDEO["video"] = str(encode(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=40))
    yield VIDEO["video"]
    del VIDEO["video"]


def processor(source, *, share=0.5, frames=None, **codec):
    options = {"budget_canvases": 4, **SMALL, **codec}
    return Processor(
        TOKENIZER, codec=CodecTokenizer(**options), frames=FrameTokenizer(frames, **SMALL), source=source,
        frame_share=share,
    )  # fmt: skip


def ask(made, *messages):
    return made(messages, generate=True)


@pytest.mark.parametrize("codec", [{}, {"preset": "event"}, {"budget_canvases": None, "budget_tokens": 30}])
@pytest.mark.parametrize("route", [Route("codec"), Route("frames"), Route("hybrid", 0.75)], ids=lambda r: r.name)
def test_inputs_are_those_of_the_source_chosen_by_hand(monkeypatch, route, codec):
    """Whatever the plan is, and in the budget of codec canvases, whichever way that is given."""
    monkeypatch.setattr(RouteValues, "expected", lambda self, *_: [float(each == route) for each in self.routes])
    shown = ask(processor("route", **codec), user(VIDEO, WHEN))
    (plan,) = shown.plans
    assert (plan["source"], plan["frame_share"]) == (route.source, route.frame_share)
    assert plan["preset"] == (None if route.source == "frames" else codec.get("preset", "paper"))
    assert plan["canvases"] == shown.stats["canvases"]
    by_hand = processor(route.source, share=route.frame_share or 0.5, **codec)
    if route.source == "frames":
        by_hand.frames = FrameTokenizer(4 if "budget_tokens" not in codec else None, **SMALL,
                                        budget_tokens=codec.get("budget_tokens"))  # fmt: skip
    expected = ask(by_hand, user(VIDEO, WHEN))
    assert same(shown, expected)
    assert shown.stats == expected.stats
    assert expected.plans == []


def test_each_question_is_routed_by_itself():
    made = processor("route")
    plans = {question: ask(made, user(VIDEO, question)).plans[0] for question in (WHEN, SAYS)}
    assert plans[SAYS]["source"] == "frames"
    assert plans[WHEN]["source"] in ("codec", "hybrid")
    for question, plan in plans.items():
        assert plan["question"] == question
        assert plan["why"].endswith(f"So {max(plan['values'], key=plan['values'].get)}.")
        assert json.loads(json.dumps(plan)) == plan


def asked(made, *messages, **options):
    (plan,) = made(messages, **options).plans
    return plan["question"]


def test_the_question_is_the_one_that_is_answered():
    made = processor("route")
    talk = [user(VIDEO, WHEN), answer, user(SAYS)]
    assert asked(made, *talk, generate=True) == SAYS
    assert asked(made, user(VIDEO), user(WHEN), generate=True) == WHEN
    assert asked(made, {"role": "system", "content": SAYS}, user(WHEN, VIDEO), generate=True) == WHEN
    assert asked(made, *talk[:2]) == WHEN
    made.supervise = "last"
    assert asked(made, *talk, answer) == SAYS
    assert asked(made.with_options(question="How often?"), *talk, answer) == "How often?"
    assert asked(processor("codec"), user({**VIDEO, "source": "route"}, WHEN), generate=True) == WHEN


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        ([user(VIDEO, WHEN), answer, user(SAYS), answer], {}, r"message 0: source 'route' .* 2 answers .* supervised"),
        ([user(VIDEO)], {"generate": True}, "message 0: source 'route' chooses by the question, and there is no text"),
        ([user(VIDEO, "?!")], {"generate": True}, "there is no text of a user"),
        ([user(VIDEO), answer, user(WHEN)], {}, "there is no text of a user"),  # it comes after the answer
    ],
)
def test_without_one_question_nothing_is_routed(messages, options, message):
    with pytest.raises(DataError, match=message):
        processor("route")(messages, **options)


def test_conversations_to_learn_from_are_not_routed():
    with pytest.raises(OptionError, match=r"source 'route' chooses by one question.*train with source 'mix' of codec"):
        Tokens(source="route")
    with pytest.raises(OptionError, match="mix"):
        Tokens(source="mix", mix={"route": 1.0})


def test_prompts_of_public_clients_are_routed(clip):
    """Through messages, through text with its template, through text alone, and with a question of the request."""
    ours = processor("codec")
    public = LlavaOnevision2Processor(TOKENIZER, processor=ours)
    expected = ask(processor("route"), user(VIDEO, SAYS))
    assert expected.plans[0]["source"] == "frames"
    route = {"video_backend": "route", "num_frames": 9}  # the budget is that of the codec canvases
    messages = [user(VIDEO, {"type": "text", "text": SAYS})]
    text = public.apply_chat_template(messages, add_generation_prompt=True)
    found = [
        public.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, **route),
        public(text, videos=[clip], **route),
        public(text.replace(SAYS, WHEN), videos=[clip], question=SAYS, **route),
    ]
    for inputs in found:
        assert len(inputs["patch_positions"]) == len(expected.positions)
        assert (inputs["patch_positions"] == expected.positions).all()
    bare = public("<|vision_start|><|video_pad|><|vision_end|>" + SAYS, videos=[clip], **route)
    assert (bare["patch_positions"] == expected.positions).all()
    with pytest.raises(DataError, match="video 0: source 'route'"):
        public("<|vision_start|><|video_pad|><|vision_end|>", videos=[clip], **route)


def test_pictures_for_other_models_are_routed(clip):
    kinds = {"codec": CodecTokenizer(4, **SMALL), "frames": FrameTokenizer(**SMALL)}
    pictures = partial(plain_image_messages, **kinds)
    talk = [user(VIDEO, WHEN), answer, user(SAYS)]
    found = [part["image"] for part in pictures(talk, source="route")[0]["content"] if part["type"] == "image"]
    wanted = FrameTokenizer(4, **SMALL)(clip).images
    assert len(found) == 4
    assert all((np.array(a) == b.permute(1, 2, 0).numpy()).all() for a, b in zip(found, wanted, strict=True))
    when = pictures(talk[:2], source="route")[0]["content"]
    assert [part["image"] for part in when if part["type"] == "image"] != found
