"""Answers about videos and pictures from a model directory: one at a time, as they are written.

`load` and `answer` are what `ov2kit generate` runs; `answerer` is for an evaluation.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from ov2kit.errors import check_choice, check_number
from ov2kit.recipes.model.device import usable_device
from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.prompts import SourceKind
from ov2kit.recipes.prompt.sample import Sample, collate
from ov2kit.recipes.prompt.visual_inputs import visual_inputs

if TYPE_CHECKING:
    from ov2kit.recipes.model.model import LlavaOneVision2
    from ov2kit.recipes.prompt.processor import Processor

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def load(
    model: str | Path,
    *,
    device: str | None = None,
    dtype: Dtype = "auto",
    **processor: Any,
) -> "tuple[LlavaOneVision2, Processor]":
    """Model and processor of a directory in the released format.

    Args:
        model: directory with config.json, safetensors and a tokenizer.
        device: a CUDA device where there is one, else the CPU, when omitted.
        dtype: of the weights; "auto" keeps the stored one on a GPU and computes in float32 on a CPU.
        processor: see `Processor.from_pretrained`.

    Raises:
        CheckpointError: the directory is not such a model.
        ValueError: the device cannot be used.
    """
    from ov2kit.recipes.model.model import LlavaOneVision2
    from ov2kit.recipes.prompt.processor import Processor

    check_choice("dtype", dtype, get_args(Dtype))
    folder = Path(model)
    place = usable_device(device)
    wanted = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}.get(dtype)
    if dtype == "auto" and place.type == "cpu":
        wanted = torch.float32
    net = LlavaOneVision2.from_pretrained(folder, dtype=wanted, device=place).eval()
    return net, Processor.from_pretrained(folder, tokens_out=net.tokens_out, **processor)


def answer(
    model: "LlavaOneVision2",
    processor: "Processor",
    samples: Sequence[Sample],
    *,
    max_new_tokens: int = 256,
    visibility: Visibility = "group",
    streamer: Any = None,
    **options: Any,
) -> list[str]:
    """Answers to prompts that `processor(messages, generate=True)` made.

    Args:
        model: in eval mode.
        processor: the one that made the samples.
        samples: one or more, of any kind of input.
        max_new_tokens: most tokens of an answer.
        visibility: which canvases see each other; the one the model was trained with.
        streamer: of transformers; for a single sample.
        options: of `generate` of transformers, such as do_sample and temperature. Greedy by default.

    Returns:
        One text per sample, without special tokens.

    Raises:
        ValueError: no token may be written.
    """
    check_choice("visibility", visibility, get_args(Visibility))
    check_number("max_new_tokens", max_new_tokens, low=1, integer=True)
    batch = collate(samples, processor.pad_id, side="left").to(model.device)
    tokenizer = processor.tokenizer
    found = model.generate(
        batch.input_ids,
        attention_mask=batch.attention_mask,
        **visual_inputs(batch, visibility),
        max_new_tokens=max_new_tokens,
        pad_token_id=processor.pad_id,
        eos_token_id=stop_tokens(model, tokenizer),
        streamer=streamer,
        **({"do_sample": False} | options),
    )
    return [
        text.strip() for text in tokenizer.batch_decode(found[:, batch.input_ids.shape[1] :], skip_special_tokens=True)
    ]


def answerer(
    model: str | Path,
    *,
    source: SourceKind = "codec",
    budget_canvases: int | None = None,
    frame_share: float | None = None,
    max_new_tokens: int = 256,
    device: str | None = None,
    dtype: Dtype = "auto",
    decimals: int = 2,
    visibility: Visibility = "group",
    seen: Callable[[Sample], None] | None = None,
    **options: Any,
) -> Callable[[str | Path, str], str]:
    """A function (video, question) -> answer, for evaluations.

    Args:
        model: see `load`.
        source: how the videos are read; "route" chooses by each question, see `Router`.
        budget_canvases: most canvases or frames of a video.
        frame_share: of the canvases of source "hybrid" that are whole frames; the model's when omitted.
        max_new_tokens: most tokens of an answer.
        device: see `load`.
        dtype: see `load`.
        decimals: of the time stamps; two, because events differ by tenths of a second.
        visibility: see `answer`.
        seen: called with what the model sees of a video, before each answer.
        options: of `answer`.

    Raises:
        CheckpointError: see `load`.
        ValueError: an option that no answer can be written with.
    """
    check_choice("source", source, get_args(SourceKind))
    check_number("budget_canvases", budget_canvases, low=1, integer=True, optional=True)
    check_number("max_new_tokens", max_new_tokens, low=1, integer=True)
    check_number("decimals", decimals, low=0, high=9, integer=True)
    budget = {} if budget_canvases is None else {"budget_canvases": budget_canvases}
    share = {} if frame_share is None else {"frame_share": frame_share}
    net, processor = load(
        model, device=device, dtype=dtype, source=source, decimals=decimals, codec=budget, frames=budget, **share
    )

    def ask(video: str | Path, question: str) -> str:
        content = [{"type": "video", "video": str(video)}, {"type": "text", "text": question}]
        sample = processor([{"role": "user", "content": content}], generate=True, name=str(video))
        if seen is not None:
            seen(sample)
        return answer(net, processor, [sample], max_new_tokens=max_new_tokens, visibility=visibility, **options)[0]

    return ask


def stop_tokens(model: "LlavaOneVision2", tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the end of a turn, and what the model's own generation config says."""
    said = model.generation_config.eos_token_id
    known = said if isinstance(said, list) else [said]
    ends = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id, *known]
    return sorted({int(end) for end in ends if end is not None})
