"""The processor as public clients of transformers take it: text or chat messages, pictures and videos -> tensors.

Everything is made by `Processor`; this names it as clients do. Importing it registers it with `AutoProcessor`.
Letters: B rows, S text length, N packed patches.
"""

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from transformers import AutoProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from ov2kit.canvases import IMAGE_PAD, VISION_END, VISION_START
from ov2kit.errors import DataError, OptionError, check_choice, check_keys
from ov2kit.files import kind_of
from ov2kit.recipes.architecture.connector_tokens import config_tokens_out
from ov2kit.recipes.architecture.released_config import CONFIGS, MageVLConfig
from ov2kit.recipes.prompt.chat import Media
from ov2kit.recipes.prompt.processor import PROCESSOR_CLASS, Processor
from ov2kit.recipes.prompt.sample import Sample, collate
from ov2kit.recipes.prompt.text_tokenizer import VIDEO_PAD
from ov2kit.recipes.release.companions import CONFIG
from ov2kit.recipes.release.configs import read_config

#: what `video_backend` may be -> the source of the processor
BACKENDS = {"codec": "codec", "frame": "frames", "frames": "frames", "hybrid": "hybrid", "route": "route"}
#: options that go by several names
_NAMES = {"fps": "target_fps", "nframes": "num_frames"}
_PLACE = re.compile(
    f"{re.escape(VISION_START)}(?:{re.escape(IMAGE_PAD)}|{re.escape(VIDEO_PAD)}){re.escape(VISION_END)}"
)


class LlavaOnevision2Processor(ProcessorMixin):
    """Prompts with pictures and videos, in a batch.

    Args:
        tokenizer: fast tokenizer of transformers.
        chat_template: the tokenizer's own when omitted.
        processor: does the work; one with its defaults when omitted.

    Example:
        >>> import ov2kit.recipes
        >>> from transformers import AutoProcessor
        >>> processor = AutoProcessor.from_pretrained("my-model")  # doctest: +SKIP
        >>> video = {"type": "video", "path": "clip.mp4"}
        >>> messages = [{"role": "user", "content": [video, {"type": "text", "text": "What happens?"}]}]
        >>> inputs = processor.apply_chat_template(messages, tokenize=True)  # doctest: +SKIP
    """

    model_input_names: ClassVar[list[str]] = [
        "input_ids", "attention_mask", "pixel_values", "image_grid_thw", "patch_positions",
    ]  # fmt: skip
    image_token, video_token = IMAGE_PAD, VIDEO_PAD

    def __init__(self, tokenizer: Any, chat_template: str | None = None, processor: Processor | None = None) -> None:
        cast(Any, super()).__init__(tokenizer, chat_template=chat_template or tokenizer.chat_template)
        self.processor = Processor(tokenizer) if processor is None else processor
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self.video_token_id = tokenizer.convert_tokens_to_ids(VIDEO_PAD)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, place: str | os.PathLike[str], **options: Any
    ) -> "LlavaOnevision2Processor":
        """The processor of a model directory.

        Args:
            place: the directory.
            options: of `Processor.from_pretrained`; those that only a hub needs are ignored.

        Raises:
            CheckpointError: a file is missing or unreadable, or an option is impossible.
        """
        known = {name: value for name, value in options.items() if name in _OPTIONS}
        processor = Processor.from_pretrained(place, **(_connector_options(Path(place)) | known))
        return cls(processor.tokenizer, processor=processor)

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **options: Any
    ) -> None:
        """Write the tokenizer, preprocessor_config.json and processor_config.json.

        Raises:
            OutputError: the directory cannot be written.
        """
        self.processor.save_pretrained(save_directory)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        videos: Any = None,
        *,
        return_tensors: str | None = "pt",
        padding: bool | str = True,
        padding_side: Literal["left", "right"] | None = None,
        video_backend: str | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Prompts to tensors.

        Args:
            text: one prompt or several, as `apply_chat_template(..., tokenize=False)` writes them: one
                `<|vision_start|><|image_pad|><|vision_end|>` per picture, `<|video_pad|>` per video.
            images: pictures in the order of the prompts, in nested lists or flat.
            videos: videos likewise: paths, bytes, file objects, canvases.
            return_tensors: "pt"; nothing else is made.
            padding: prompts of different lengths are always padded to the longest.
            padding_side: the tokenizer's when omitted.
            video_backend: "codec", "frame", "hybrid" or "route"; the processor's when omitted.
            options: of this call, see `Processor.with_options`.

        Returns:
            input_ids and attention_mask (B, S); of all rows one after another pixel_values (N, 3*p*p),
            patch_positions (N, 3) and image_grid_thw, a row (canvases, rows, columns) per group.

        Raises:
            DataError: placeholders and media do not match in number, or one cannot be opened.
        """
        if text is None:
            raise DataError("expected text: a prompt, or a list of them")
        prompts = [text] if isinstance(text, str) else list(text)
        stocks = {"image": _flat(images), "video": _flat(videos)}
        wanted = {
            kind: sum(prompt.count(f"{VISION_START}{pad}{VISION_END}") for prompt in prompts)
            for kind, pad in (("image", IMAGE_PAD), ("video", VIDEO_PAD))
        }
        for kind, stock in stocks.items():
            if wanted[kind] != len(stock):
                raise DataError(f"the prompts have {wanted[kind]} place(s) for {len(stock)} {kind}(s)")
        processor = self._processor(video_backend, options)
        samples = [processor.prompt(*_cut(prompt, stocks)) for prompt in prompts]
        return self._batch(samples, padding_side)

    def apply_chat_template(  # type: ignore[override]
        self, conversation: Any, chat_template: str | None = None, **options: Any
    ) -> Any:
        """Conversations to text as the template writes it, or with `tokenize=True` to tensors.

        Args:
            conversation: messages, or a list of such lists; parts of type "text", "image" and "video", the
                media under "image" or "video", or "path"; see `read_messages`.
            chat_template: for the text.
            options: `tokenize`, `add_generation_prompt`, `padding_side`, `video_backend`, and those of
                `Processor.with_options`, here or under `processor_kwargs`.

        Raises:
            DataError: a message is malformed, or something in it cannot be opened.
        """
        given = {**(options.pop("processor_kwargs", None) or {}), **options}
        tokenize, generate = given.pop("tokenize", False), given.pop("add_generation_prompt", False)
        if not tokenize:
            template = chat_template or self.chat_template
            return self.tokenizer.apply_chat_template(
                conversation, chat_template=template, tokenize=False, add_generation_prompt=generate
            )
        if chat_template is not None:
            raise OptionError("tensors are made in the form the model was trained with; chat_template is for text only")
        side, backend = given.pop("padding_side", None), given.pop("video_backend", None)
        many = bool(conversation) and not isinstance(conversation[0], Mapping)
        processor = self._processor(backend, given)
        rows = conversation if many else [conversation]
        return self._batch([processor(messages, generate=generate) for messages in rows], side)

    def _processor(self, video_backend: str | None, options: Mapping[str, Any]) -> Processor:
        if video_backend is not None:
            check_choice("video_backend", video_backend, BACKENDS)
            options = {"source": BACKENDS[video_backend], **options}
        if options.get("truncation"):
            raise OptionError("prompts with pictures cannot be cut to a length; lower the budget instead")
        named = {_NAMES.get(name, name): value for name, value in options.items() if name not in _OF_TEXT}
        check_keys("the processor", named, inspect.signature(self.processor.with_options).parameters, OptionError)
        return self.processor.with_options(**named) if named else self.processor

    def to_dict(self) -> dict[str, Any]:
        """What `processor_config.json` says."""
        return {"processor_class": PROCESSOR_CLASS}

    def _batch(self, samples: Sequence[Sample], side: str | None) -> BatchFeature:
        side = side or self.tokenizer.padding_side
        check_choice("padding_side", side, ("left", "right"))
        batch = collate(samples, self.processor.pad_id, cast(Any, side))
        found = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if batch.layout.num_patches:
            found |= {
                "pixel_values": batch.pixel_values,
                "patch_positions": batch.positions,
                "image_grid_thw": torch.tensor(batch.layout.group_grids(), dtype=torch.int64),
            }
        return BatchFeature(found)


_OPTIONS = (
    "codec", "frames", "image", "source", "frame_share", "decimals", "system", "supervise", "tokens_out", "item",
)  # fmt: skip


#: options of texts that clients pass and that hold anyway, or are ignored
_OF_TEXT = {
    "add_special_tokens", "return_token_type_ids", "return_mm_token_type_ids", "return_attention_mask", "truncation",
    "max_length", "return_dict", "return_tensors", "padding", "do_sample_frames", "do_resize",
}  # fmt: skip


def _connector_options(folder: Path) -> dict[str, Any]:
    """How many tokens the connector of a directory makes, where that is not one per block."""
    if kind_of(folder / CONFIG) is None:
        return {}
    return {"tokens_out": config_tokens_out(read_config(folder))}


def _flat(media: Any) -> list[Any]:
    """Media in nested lists, as clients pass them, one after another."""
    if media is None:
        return []
    if not isinstance(media, list | tuple):
        return [media]
    return [one for part in media for one in (_flat(part) if isinstance(part, list | tuple) else [part])]


def _cut(prompt: str, stocks: Mapping[str, list[Any]]) -> tuple[list[str], list[Media]]:
    """The text between the places of media, and the media; takes them off the stocks."""
    kinds: list[Any] = ["image" if IMAGE_PAD in found else "video" for found in _PLACE.findall(prompt)]
    return _PLACE.split(prompt), [Media(kind, stocks[kind].pop(0)) for kind in kinds]


class MageVLProcessor(LlavaOnevision2Processor):
    """The same under the name that directories of Mage-VL give theirs; AutoProcessor goes by names."""


for _config in CONFIGS:
    _processor = MageVLProcessor if _config is MageVLConfig else LlavaOnevision2Processor
    AutoProcessor.register(_config, _processor, exist_ok=True)  # type: ignore[no-untyped-call]
