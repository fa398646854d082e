"""Canvases as plain pictures, through processors and models of transformers."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.errors import DataError, VideoError
from ov2kit.recipes import plain_image_messages, small_tokenizer
from ov2kit.recipes.prompt.plain_images import canvas_spans
from tests.paths import SAMPLE
from tests.recipes.prompt.conversations import CODEC, FRAMES, IMAGE, image, user, video
from tests.test_canvases import build

TOKENIZER = small_tokenizer()


def shape(messages):
    """Messages with their pictures as sizes."""
    return [
        (m["role"], [p["text"] if p["type"] == "text" else p["image"].size for p in m["content"]]) for m in messages
    ]


def test_messages_hold_pictures_under_their_times():
    talk = [
        {"role": "system", "content": "Be brief."},
        user("See ", image(IMAGE), video(CODEC), "\nWhat?"),
        {"role": "assistant", "content": "A."},
        user(video(FRAMES)),
    ]
    size = (12, 8)  # PIL says width first
    assert shape(plain_image_messages(talk)) == [
        ("system", ["Be brief."]),
        ("user", ["See ", size, "<0.3 seconds>", size, "<0.4-0.7 seconds>", size, "<1.2 seconds>", size, "\nWhat?"]),
        ("assistant", ["A."]),
        ("user", ["<0.0 seconds>", size, "<0.5 seconds>", size]),
    ]
    two = plain_image_messages(talk[1:2], decimals=2)
    assert two[0]["content"][4]["text"] == "<0.40-0.70 seconds>"
    bare = plain_image_messages(talk[1:2], timestamps=False)
    assert shape(bare) == [("user", ["See ", size, size, size, size, "\nWhat?"])]


def test_pictures_are_the_canvases_pixel_for_pixel():
    content = plain_image_messages([user(video(CODEC))])[0]["content"]
    pictures = [part["image"] for part in content if part["type"] == "image"]
    stacked = torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures])
    assert torch.equal(stacked, CODEC.images)
    assert {picture.mode for picture in pictures} == {"RGB"}


def test_subtitles_stand_between_the_pictures():
    lines = [{"start": 0.5, "end": 1, "text": "Hi."}, {"start": 5, "text": "Bye."}]
    talk = [user(video(CODEC, subtitles=lines), "What?")]
    size = (12, 8)
    assert shape(plain_image_messages(talk))[0][1] == [
        "<0.3 seconds>", size, "<0.4-0.7 seconds>", size, "<0.5 seconds> Hi.\n<1.2 seconds>", size,
        "<5.0 seconds> Bye.\nWhat?",
    ]  # fmt: skip


def test_spans_ignore_padding_and_need_times():
    padded = build([3, [(4, 0, 1)], [(9, 0, 0), (2, 1, 1)]])
    assert canvas_spans(padded) == [(0.3, 0.3), (0.4, 0.4), (0.2, 0.9)]
    with pytest.raises(DataError, match=r"canvas 0: no frame with a time, got frames \[3\]"):
        canvas_spans(build([3], frame_times={4: 0.4}))
    with pytest.raises(DataError, match=r"one clip, got 2"):
        canvas_spans(CODEC.cat([CODEC, CODEC]))


def test_errors_name_the_message(tmp_path):
    with pytest.raises(VideoError, match=r"message 1: .*gone.mp4: no such file"):
        plain_image_messages([user("a"), user(video(tmp_path / "gone.mp4"))])
    with pytest.raises(DataError, match=r"message 0: canvas 0: no frame with a time"):
        plain_image_messages([user(video(build([3], frame_times={})))])


def tiny(name):
    """Processor and model of transformers around the small tokenizer, with random weights."""
    patch = {"Qwen2_5_VL": 14, "Qwen3VL": 16}[name]
    pixels = transformers.Qwen2VLImageProcessor(patch_size=patch)
    videos = transformers.Qwen2VLVideoProcessor(patch_size=patch)
    processor = getattr(transformers, f"{name}Processor")(
        pixels, TOKENIZER, videos, chat_template=TOKENIZER.chat_template
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    rope |= {"mrope_interleaved": True} if name == "Qwen3VL" else {}
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": len(TOKENIZER)}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "rope_parameters": rope}
    vision = {"hidden_size": 32, "intermediate_size": 32, "depth": 1, "num_heads": 2, "out_hidden_size": 32}
    vision |= {"patch_size": patch, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    vision |= {"window_size": 4 * patch, "fullatt_block_indexes": [0]}
    names = ("vision_start", "vision_end", "image_pad", "video_pad")
    keys = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    ids = {key: TOKENIZER.convert_tokens_to_ids(f"<|{name}|>") for key, name in zip(keys, names, strict=True)}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, **ids)
    torch.manual_seed(0)
    return patch, processor, getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()


@pytest.mark.parametrize("name", ["Qwen2_5_VL", "Qwen3VL"])
def test_processors_and_models_of_transformers_take_them(name):
    patch, processor, model = tiny(name)
    size = {"patch": patch, "max_pixels": 8_000}
    codec, frames, stills = CodecTokenizer(3, **size), FrameTokenizer(2, **size), ImageTokenizer(**size)
    still = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
    talk = [user(video(SAMPLE), "\nWhat happens in ", image(still), video(SAMPLE, source="frames"), " first?")]
    messages = plain_image_messages(talk, codec=codec, frames=frames, image=stills)
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True,
        processor_kwargs={"do_resize": False},
    )  # fmt: skip
    shown = [codec(SAMPLE), stills(still), frames(SAMPLE)]
    grids = [[1, *canvases.grid] for canvases in shown for _ in range(len(canvases))]
    assert inputs["image_grid_thw"].tolist() == grids
    pads = sum(h * w // 4 for _, h, w in grids)
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == pads
    still_twice = torch.cat([c.pixel_values(processor.image_processor.image_mean, processor.image_processor.image_std)
                             for c in shown]).unflatten(1, (3, 1, -1)).expand(-1, -1, 2, -1).flatten(1)  # fmt: skip
    torch.testing.assert_close(inputs["pixel_values"], still_twice, rtol=0, atol=1e-5)
    text = processor.decode(inputs["input_ids"][0])
    assert text.count(" seconds>") == 5
    with torch.inference_mode():
        assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[1] == inputs["input_ids"].shape[1] + 2
