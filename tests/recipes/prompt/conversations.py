"""Conversations, canvases and processors for the tests of prompts."""

import torch

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.recipes import Processor, small_tokenizer
from tests.test_canvases import build

TOKENIZER = small_tokenizer()
START, PAD, END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
# a group of anchor and P-canvas, then one of anchor alone; times are frame / 10
CODEC = build([3, [(4, 0, 1), (7, 0, 0), (7, 1, 2)], 12], groups=[0, 0, 1])
FRAMES = build([0, 5], groups=[0, 0], signal="none")
IMAGE = build([0], signal="none")


def processor(patch=2, merge=2, tokenizer=TOKENIZER, **options) -> Processor:
    """A processor for canvases of the given patch."""
    parts = {"codec": CodecTokenizer, "frames": FrameTokenizer, "image": ImageTokenizer}
    built = {name: kind(patch=patch, merge=merge, min_pixels=1, max_pixels=20_000) for name, kind in parts.items()}
    return Processor(tokenizer, **(built | options))


def user(*parts):
    return {"role": "user", "content": list(parts)}


def video(given, **more):
    return {"type": "video", "video": given, **more}


def image(given):
    return {"type": "image", "image": given}


def dots(text):
    """Runs of pads as their number."""
    for n in range(60, 0, -1):
        text = text.replace(START + PAD * n + END, f"[{n}]")
    return text


def same(one, other):
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("input_ids", "pixel_values", "positions"))
