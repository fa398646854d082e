"""The tensors of a sample: those of its canvases, in the order of the prompt."""

import torch

from ov2kit import Canvases
from ov2kit.connectors import PerceiverResampler
from ov2kit.recipes import collate
from tests.recipes.prompt.conversations import (
    CODEC,
    FRAMES,
    IMAGE,
    TOKENIZER,
    dots,
    image,
    processor,
    user,
    video,
)
from tests.test_canvases import build


def test_tensors_are_those_of_the_canvases_in_the_order_of_the_prompt():
    sample = processor()([user(video(CODEC), image(IMAGE), video(FRAMES)), {"role": "assistant", "content": "A"}])
    shown = [CODEC, IMAGE, FRAMES]
    assert torch.equal(sample.pixel_values, torch.cat([canvases.pixel_values() for canvases in shown]))
    assert torch.equal(sample.positions, torch.cat([canvases.flat_positions() for canvases in shown]))
    assert sample.layout.clips == (0, 0, 0, 1, 2, 2)
    assert sample.layout.groups == (0, 0, 1, 0, 0, 0)
    assert sample.layout.num_patches == len(sample.positions) == 6 * 24
    assert sample.pixel_values.dtype == torch.float32
    assert sample.positions.dtype == torch.int32
    assert sample.input_ids.dtype == sample.labels.dtype == torch.int64
    assert sample.stats == {
        "canvases": 6, "p_canvases": 1, "groups": 4, "images": 1, "videos": 2, "video_seconds": 1.2 + 0.5,
        "p_share": 3 / 33, "p_tokens": 3, "visual_tokens": 33, "tokens": len(sample), "supervised_tokens": 2,
        "subtitles_dropped": 0,
    }  # fmt: skip


def test_pixels_are_normalized_as_asked():
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    sample = processor(mean=mean, std=std)([user(image(IMAGE))])
    assert torch.equal(sample.pixel_values, IMAGE.pixel_values(mean, std))


def test_text_alone_gives_empty_tensors_that_batch_with_pictures():
    p = processor()
    alone, shown = p([user("Hi.")], name="a"), p([user(image(IMAGE))], name="b")
    assert alone.pixel_values.shape == (0, 12)
    assert alone.positions.shape == (0, 3)
    assert (alone.stats["visual_tokens"], alone.stats["p_share"]) == (0, 0)
    batch = collate([alone, shown], p.pad_id)
    assert torch.equal(batch.pixel_values, shown.pixel_values)
    assert batch.names == ("a", "b")
    assert (batch.input_ids[0, len(alone) :] == TOKENIZER.pad_token_id).all()


def test_several_clips_in_one_object_follow_each_other():
    joined = Canvases.cat([CODEC, build([2, [(3, 0, 0)]])])
    p = processor(system=None)
    assert p.text([user(video(joined))]) == f"<|im_start|>user\n{joined.prompt()}<|im_end|>\n"
    assert p([user(video(joined))]).layout.clips == (0, 0, 0, 1, 1)


def test_padding_is_in_the_tensors_and_not_in_the_prompt():
    padded = build([[(4, 0, 1), (7, 0, 0)]])
    sample = processor()([user(video(padded))])
    assert sample.stats["visual_tokens"] == 2 == padded.num_tokens
    assert len(sample.positions) == 24
    assert int((sample.positions[:, 0] < 0).sum()) == 16


def test_a_resampler_has_one_run_per_group_under_its_first_time():
    resampler = PerceiverResampler(8, 16, tokens=5, depth=1, heads=2)
    p = processor(system=None, tokens_out=resampler.tokens_out)
    padded = build([3, [(4, 0, 1), (7, 0, 0)], 12], groups=[0, 0, 1])
    text = p.text([user(video(padded), image(IMAGE), video(FRAMES))])
    assert dots(text) == ("<|im_start|>user\n<0.3 seconds>[5]\n<1.2 seconds>[5]\n[5]<0.0 seconds>[5]<|im_end|>\n")
    sample = p([user(video(padded), image(IMAGE), video(FRAMES))])
    real = sample.positions[:, 0] >= 0
    lengths = [int(part.sum()) for part in real.split(sample.layout.segments("group").lengths)]
    tokens = resampler(torch.randn(int(real.sum()), 8), lengths)
    assert len(tokens) == sample.stats["visual_tokens"] == 20


def test_tokens_out_is_told_the_patches_of_the_group_without_padding():
    asked = []
    padded = build([3, [(4, 0, 1), (2, 0, 0)]], groups=[0, 0])  # a block older than the anchor
    p = processor(tokens_out=lambda n: asked.append(n) or 2)
    assert "<0.2 seconds>[2]\n<|im_end|>" in dots(p.text([user(video(padded))]))
    assert asked == [24 + 8]
    canvas = processor(tokens_out=lambda n: 3, item="canvas")
    assert "<0.3 seconds>[3]\n<0.2 seconds>[3]\n<|im_end|>" in dots(canvas.text([user(video(padded))]))
