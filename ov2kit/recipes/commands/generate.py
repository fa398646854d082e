"""`ov2kit generate`: a question about videos or pictures -> an answer, as it is written."""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from jsonargparse import ArgumentParser, Namespace

from ov2kit.errors import DataError
from ov2kit.recipes.generate import Dtype, answer, load
from ov2kit.recipes.model.device import usable_device
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.prompts import SourceKind

#: options of `CodecTokenizer` that say the same of sampled frames
_SHARED = (
    "budget_canvases", "budget_tokens", "min_pixels", "max_pixels", "canvas_size", "threads", "max_source_pixels",
)  # fmt: skip


def parser() -> ArgumentParser:
    """Options of `ov2kit generate`."""
    from ov2kit.codec.tokenizers.codec import CodecTokenizer

    command = ArgumentParser(
        description="Answer a question about videos or pictures, token by token.", exit_on_error=False
    )
    command.add_argument("--model", required=True, metavar="DIR", help="model directory in the released format")
    command.add_argument("--prompt", required=True, metavar="TEXT", help="what to ask; - reads it from standard input")
    command.add_argument("--video", nargs="*", default=[], metavar="FILE", help="video files or asset directories")
    command.add_argument("--image", nargs="*", default=[], metavar="FILE", help="picture files")
    command.add_argument("--system", default=None, metavar="TEXT", help="system text; the tokenizer's own if omitted")
    command.add_argument(
        "--source", default="codec", choices=get_args(SourceKind), help="how videos are read; route: by the question"
    )
    command.add_argument("--frame_share", type=float | None, metavar="SHARE", help="of a hybrid: whole frames")
    command.add_argument("--subtitles", default=None, metavar="FILE", help="srt or vtt file of the (only) video")
    command.add_argument("--decimals", default=None, type=int | None, help="digits of the time stamps; 1 or 2")
    command.add_argument("--visibility", default="group", choices=get_args(Visibility), help="as it was trained")
    command.add_argument("--max_new_tokens", default=256, type=int, help="most tokens of the answer")
    command.add_argument("--temperature", default=0.0, type=float, help="0 takes the likeliest token always")
    command.add_argument("--top_p", default=1.0, type=float, help="share of probability to draw from")
    command.add_argument("--seed", default=0, type=int, help="of the drawing")
    command.add_argument("--device", default=None, metavar="NAME", help="cuda, cuda:1, cpu, ...; chosen if omitted")
    command.add_argument("--dtype", default="auto", choices=get_args(Dtype), help="of the weights")
    command.add_argument("--json", action="store_true", help="print one JSON object at the end instead of a stream")
    command.add_argument("--config", action="config", help="YAML file of these options")
    names = command.add_class_arguments(CodecTokenizer, "codec", skip={"saliency", "patch", "merge", "frame_share"})
    command.set_defaults(dict.fromkeys(names))  # None: as the model directory says
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit generate`."""
    from transformers import TextStreamer
    from transformers.utils import logging

    _check(parsed)
    device = usable_device(parsed.device)
    prompt = sys.stdin.read() if parsed.prompt == "-" else parsed.prompt
    chosen = {name: value for name, value in parsed.codec.as_dict().items() if value is not None}
    model, processor = load(
        parsed.model,
        device=str(device),
        dtype=parsed.dtype,
        codec=chosen,
        frames={name: value for name, value in chosen.items() if name in _SHARED},
        source=parsed.source,
        **({} if parsed.frame_share is None else {"frame_share": parsed.frame_share}),
        **({} if parsed.decimals is None else {"decimals": parsed.decimals}),
        **({} if parsed.system is None else {"system": parsed.system}),
    )
    content: list[Mapping[str, Any]] = [{"type": "image", "image": image} for image in parsed.image]
    for video in parsed.video:
        subtitles = {"subtitles": parsed.subtitles} if parsed.subtitles else {}
        content.append({"type": "video", "video": video, **subtitles})
    content.append({"type": "text", "text": prompt})
    started = time.perf_counter()
    sample = processor([{"role": "user", "content": content}], generate=True)
    seen = time.perf_counter()
    for plan in [] if parsed.json else sample.plans:
        print(plan["why"], file=sys.stderr)
    drawing = {"do_sample": True, "temperature": parsed.temperature, "top_p": parsed.top_p}
    shown = TextStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
    loudness = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call] # the stream is for the answer
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(parsed.seed)
            text = answer(
                model,
                processor,
                [sample],
                max_new_tokens=parsed.max_new_tokens,
                visibility=parsed.visibility,
                streamer=None if parsed.json else shown,
                **(drawing if parsed.temperature > 0 else {}),
            )[0]
    finally:
        logging.set_verbosity(loudness)
    if parsed.json:
        seconds = {"input": seen - started, "answer": time.perf_counter() - seen}
        plans = {"plans": sample.plans} if parsed.source == "route" else {}
        print(json.dumps({"answer": text, "input": sample.stats, **plans, "seconds": seconds}))
    return 0


def _check(parsed: Namespace) -> None:
    """Options and files, before a model is loaded, which may take minutes."""
    if parsed.max_new_tokens < 1:
        raise ValueError(f"--max_new_tokens must be at least 1, got {parsed.max_new_tokens}")
    if not 0 <= parsed.temperature < math.inf:
        raise ValueError(f"--temperature must be 0 or more, and finite, got {parsed.temperature}")
    if not 0 < parsed.top_p <= 1:
        raise ValueError(f"--top_p must be above 0 and at most 1, got {parsed.top_p}")
    if not 0 <= parsed.seed < 2**64:
        raise ValueError(f"--seed must be from 0 to 2**64 - 1, got {parsed.seed}")
    if parsed.decimals is not None and parsed.decimals not in range(10):
        raise ValueError(f"--decimals must be from 0 to 9, got {parsed.decimals}")
    if parsed.subtitles and len(parsed.video) != 1:
        raise ValueError(f"--subtitles needs exactly one --video, got {len(parsed.video)}")
    subtitles = [parsed.subtitles] if parsed.subtitles else []
    for name in [*parsed.video, *parsed.image, *subtitles]:
        if "://" not in name and not Path(name).expanduser().exists():
            raise DataError(f"{name}: no such file")
