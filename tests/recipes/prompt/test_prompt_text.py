"""What stands in the prompt: the layout of the reference, runs of places for visual tokens, newlines, system text."""

import pytest
import torch

from ov2kit import Canvases
from ov2kit.codec import CodecTokenizer
from ov2kit.errors import CheckpointError
from ov2kit.geometry import from_block_layout
from ov2kit.recipes import Processor, rewrite_prompt, small_tokenizer
from ov2kit.recipes.prompt.chat import default_system
from ov2kit.recipes.prompt.time_stamps import timestamp, timestamp_runs
from tests.paths import SAMPLE, read_golden
from tests.recipes.prompt.conversations import (
    CODEC,
    END,
    FRAMES,
    IMAGE,
    PAD,
    START,
    SYSTEM,
    TOKENIZER,
    dots,
    image,
    processor,
    same,
    user,
    video,
)
from tests.test_canvases import build

PROMPT = read_golden("11_prompt.npz")
META = read_golden("11_prompt_meta.json")


@pytest.mark.parametrize("case", META["cases"], ids=lambda case: str(case["case"]))
def test_rewritten_prompts_match_the_reference(case):
    positions = torch.from_numpy(PROMPT[f"case{case['case']}_positions"])
    runs = timestamp_runs(positions, case["fps"], merge=case["merge"], decimals=case["decimals"])
    assert [[run.stamp, run.tokens] for run in runs] == case["runs"]
    assert rewrite_prompt(case["text"], runs) == case["rewritten"]
    assert rewrite_prompt(case["text"], [tuple(pair) for pair in case["runs"]]) == case["rewritten"]


def test_timestamps_match_the_reference():
    rows = META["timestamp_text"]["rows"]
    assert len(rows) > 20
    assert [timestamp(frame / fps, decimals) for frame, fps, decimals, _ in rows] == [row[3] for row in rows]


def as_canvases(positions, merge, fps):
    """A canvas that has these positions in block layout."""
    raster = from_block_layout(positions, (1, merge, len(positions) // merge), merge).int()
    frames = positions[:, 0].unique().tolist()
    return Canvases(
        images=torch.zeros(1, 3, *raster.shape[1:3], dtype=torch.uint8),
        positions=raster,
        groups=torch.zeros(1, dtype=torch.int32),
        is_anchor=torch.zeros(1, dtype=torch.bool),
        frame_times={frame: frame / fps for frame in frames},
        patch=1,
        merge=merge,
        signal="bits",
        fps=fps,
    )


def test_the_processor_writes_what_the_reference_rewrites():
    tried = 0
    for case in META["cases"]:
        positions = torch.from_numpy(PROMPT[f"case{case['case']}_positions"])
        text, merge = case["text"], case["merge"]
        if START not in text or END not in text or len(positions) % merge**2:
            continue
        before, after = text[: text.index(START)], text[text.rindex(END) + len(END) :]
        p = processor(1, merge, decimals=case["decimals"], system=None)
        canvases = as_canvases(positions, merge, case["fps"])
        message = user(before, video(canvases), after)
        assert p.text([message]) == f"<|im_start|>user\n{case['rewritten']}<|im_end|>\n"
        assert p([message]).stats["visual_tokens"] == sum(tokens for _, tokens in case["runs"])
        tried += 1
    assert tried >= 5


def test_prompt_of_each_kind():
    p = processor()
    talk = [
        {"role": "system", "content": "Be brief."},
        user("See ", image(IMAGE), "and\n", video(CODEC), "\nWhat?"),
        {"role": "assistant", "content": "A."},
        user(video(FRAMES), "\nAnd here?"),
    ]
    assert dots(p.text(talk, generate=True)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nSee [6]and\n"
        "<0.3 seconds>[6]\n<0.4 seconds>[1]\n<0.7 seconds>[2]\n<1.2 seconds>[6]\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\nA.<|im_end|>\n"
        "<|im_start|>user\n<0.0 seconds>[6]<0.5 seconds>[6]\nAnd here?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_codec_canvases_without_p_canvases_are_still_codec():
    assert dots(processor(system=None).text([user(video(build([3])))])).endswith("<0.3 seconds>[6]\n<|im_end|>\n")


def test_media_stand_in_any_role_and_several_in_a_message():
    p = processor(decimals=2)
    talk = [
        {"role": "system", "content": [image(IMAGE), "As above."]},
        user(video(CODEC), video(CODEC, source="frames"), image(IMAGE)),
        {"role": "assistant", "content": ["Like this: ", image(IMAGE), " or that."]},
    ]
    runs = [("<0.30 seconds>", 6), ("<0.40 seconds>", 1), ("<0.70 seconds>", 2), ("<1.20 seconds>", 6)]
    codec = "".join(f"{stamp}[{n}]\n" for stamp, n in runs)
    assert dots(p.text(talk)) == (
        "<|im_start|>system\n[6]As above.<|im_end|>\n"
        f"<|im_start|>user\n{codec}{codec.replace(chr(10), '')}[6]<|im_end|>\n"
        "<|im_start|>assistant\nLike this: [6] or that.<|im_end|>\n"
    )
    sample = p(talk)
    taught = TOKENIZER.decode(sample.labels[sample.labels >= 0])
    assert taught == "Like this:  or that.<|im_end|>"
    pads = sample.input_ids == TOKENIZER.convert_tokens_to_ids(PAD)
    assert int(pads.sum()) == 6 + 15 + 15 + 6 + 6
    assert (sample.labels[pads] == -100).all()


@pytest.mark.parametrize("text", ["What?", "\nWhat?", "\n\nWhat?", ""])
def test_one_newline_after_a_codec_video_is_swallowed(text):
    p = processor(system=None)
    parts = [video(CODEC), "", text]
    rest = text.removeprefix("\n")
    assert p.text([user(*parts)]) == f"<|im_start|>user\n{CODEC.prompt()}{rest}<|im_end|>\n"
    frames = p.text([user(video(FRAMES), text)])
    assert frames == f"<|im_start|>user\n{FRAMES.prompt(newline=False)}{text}<|im_end|>\n"


def test_ids_are_those_of_the_whole_text():
    """For text that breaks no border, pieces give what the tokenizer gives for the prompt in one go."""
    p = processor()
    talk = [user("See ", video(CODEC), image(IMAGE), "\n\n12 jumps?"), {"role": "assistant", "content": "It jumps."}]
    assert p(talk).input_ids.tolist() == TOKENIZER.encode(p.text(talk), add_special_tokens=False)
    plain = [user("Hi 5.\n"), {"role": "assistant", "content": "the answer"}, user("\n\nAnd\nnow?")]
    template = TOKENIZER.apply_chat_template(
        [{"role": m["role"], "content": "".join(m["content"])} for m in plain], tokenize=False
    )
    assert p.text(plain) == template
    assert p(plain).input_ids.tolist() == TOKENIZER.encode(template, add_special_tokens=False)


def test_system_text():
    talk = [user("Hi.")]
    assert processor().text(talk).startswith(SYSTEM)
    assert processor(system=None).text(talk).startswith("<|im_start|>user")
    assert processor(system="Be brief.").text(talk).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    own = [{"role": "system", "content": "Mine."}, *talk]
    assert processor().text(own) == "<|im_start|>system\nMine.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n"


def test_the_system_text_comes_from_the_template():
    other = small_tokenizer()
    other.chat_template = TOKENIZER.chat_template.replace("You are a helpful assistant.", "You see.")
    assert default_system(other) == "You see."
    other.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    assert default_system(other) is None
    other.chat_template = "{% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}"
    with pytest.raises(CheckpointError, match=r"not ChatML.*\[INST\]"):
        processor(tokenizer=other)
    other.chat_template = "{{ raise_exception('lists only') }}"
    with pytest.raises(CheckpointError, match=r"template fails \(lists only\); pass system="):
        processor(tokenizer=other)
    assert processor(tokenizer=other, system=None).text([user("Hi.")]) == "<|im_start|>user\nHi.<|im_end|>\n"


def test_a_hybrid_is_codec_canvases_with_a_share_of_whole_frames():
    codec = {"budget_canvases": 4, "max_pixels": 9_000}
    p = Processor(TOKENIZER, codec=CodecTokenizer(**codec), frame_share=0.75)
    shown = p([user(video(SAMPLE, source="hybrid"), "What happens?")])
    expected = Processor(TOKENIZER, codec=CodecTokenizer(frame_share=0.75, **codec))
    assert same(shown, expected([user(video(SAMPLE, source="codec"), "What happens?")]))
    plain = p([user(video(SAMPLE), "What happens?")])
    assert len(plain.positions) == len(shown.positions)
    assert shown.stats["p_canvases"] == 1 != plain.stats["p_canvases"] == 3
    asked = p.with_options(source="hybrid", frame_share=0.5)
    assert asked([user(video(SAMPLE), "What happens?")]).stats["p_canvases"] == 2
    assert p.frame_share == 0.75
    for wrong in (0, 1.5, "half"):
        with pytest.raises(ValueError, match="frame_share"):
            processor(frame_share=wrong)
        with pytest.raises(ValueError, match="frame_share"):
            p.with_options(frame_share=wrong)
