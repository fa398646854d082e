"""Pictures and videos of a request -> tensors and prompt tokens, in vLLM's terms.

`Processor` makes both, so that a served model sees what `ov2kit generate` shows it. Options of a request
(`mm_processor_kwargs`, or `media_io_kwargs` under "video") stay within the server's: the model directory's,
and what `--mm-processor-kwargs` says. Written for vLLM 0.32.
Letters: P patches, R groups, L prompt tokens of an item.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import MultiModalDataParser
from vllm.multimodal.processing import (
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    PromptReplacement,
    PromptUpdateDetails,
)
from vllm.multimodal.processing.dummy_inputs import BaseDummyInputsBuilder

from ov2kit import codec
from ov2kit.canvases import IMAGE_PAD, VISION_END, VISION_START
from ov2kit.errors import DataError, Ov2kitError, check_keys
from ov2kit.recipes.clients.vllm_videos import BYTES, OPTIONS, VideoBytes
from ov2kit.recipes.prompt.chat import Media
from ov2kit.recipes.prompt.processor import Processor
from ov2kit.recipes.prompt.released_processor import BACKENDS, LlavaOnevision2Processor
from ov2kit.recipes.prompt.sample import Sample
from ov2kit.recipes.prompt.text_tokenizer import VIDEO_PAD

#: what a request may ask for, see `Processor.with_options`
REQUEST_OPTIONS = (
    "video_backend",
    "question",
    "frame_share",
    "num_frames",
    "target_fps",
    "max_pixels",
    "min_pixels",
    "decimals",
    "budget_canvases",
)
_NAMES = {"fps": "target_fps"}
_PADS = {"image": IMAGE_PAD, "video": VIDEO_PAD}
_OF_VLLM = {"truncation", "add_special_tokens", "padding", "return_tensors"}
_SAMPLE = Path(codec.__file__).parent / "sample" / "bbb_360p.mp4"
_QUESTION = "What happens?"  # a server may route by default
_SIDE = 448  # edge of the pictures that memory is measured with


class Info(BaseProcessingInfo):  # type: ignore[misc]
    """What vLLM asks of a model before any request."""

    def get_hf_processor(self, **options: Any) -> LlavaOnevision2Processor:
        return _load(self.ctx.model_config.model)

    def get_data_parser(self) -> MultiModalDataParser:
        return MultiModalDataParser(video_needs_metadata=True)

    def get_supported_mm_limits(self) -> Mapping[str, int | None]:
        return {"image": None, "video": None}

    def get_mm_max_tokens_per_item(self, seq_len: int, mm_counts: Mapping[str, int]) -> Mapping[str, int]:
        own = self.server_processor()
        block = (own.patch * own.merge) ** 2
        frames = own.frames.budget_canvases or 384
        video = max(
            _most_canvases(own) * (own.codec.max_pixels // block + 32), frames * (own.frames.max_pixels // block + 32)
        )
        return {"image": own.image.max_pixels // block, "video": min(video, seq_len)}

    def server_processor(self) -> Processor:
        """The directory's processor with the options that the server was started with."""
        own = self.get_hf_processor().processor
        return with_request(own, self.ctx.get_merged_mm_kwargs({}), None)


_loaded: dict[str, LlavaOnevision2Processor] = {}


def _load(directory: str) -> LlavaOnevision2Processor:
    if directory not in _loaded:
        _loaded[directory] = LlavaOnevision2Processor.from_pretrained(directory)
    return _loaded[directory]


def _most_canvases(processor: Processor) -> int:
    return processor.codec.budget_canvases or 32


def with_request(own: Processor, asked: Mapping[str, Any], limit: Processor | None) -> Processor:
    """The processor of one request.

    Args:
        own: the server's.
        asked: options by the names in `REQUEST_OPTIONS`.
        limit: what they may not go beyond, the server's own; None for the options of the server itself.

    Raises:
        DataError: an unknown option, or one beyond the limit.
    """
    named = {_NAMES.get(name, name): value for name, value in asked.items() if name not in _OF_VLLM}
    named = {name: value for name, value in named.items() if value is not None}
    check_keys("the request", named, REQUEST_OPTIONS, DataError)
    if limit is not None:
        most = {
            "budget_canvases": _most_canvases(limit),
            "num_frames": limit.frames.budget_canvases or 384,
            "max_pixels": limit.codec.max_pixels,
        }
        for name, value in most.items():
            if name in named and not (isinstance(named[name], int) and 0 < named[name] <= value):
                raise DataError(f"{name} must be a whole number from 1 to {value} on this server, got {named[name]!r}")
    backend = named.pop("video_backend", None)
    if backend is not None:
        check_keys("video_backend", {backend: None}, BACKENDS, DataError)
        named["source"] = BACKENDS[backend]
    budget = named.pop("budget_canvases", None)
    if budget is not None:
        named["codec_config"] = {"budget_canvases": budget}
    return own.with_options(**named) if named else own


class Dummy(BaseDummyInputsBuilder[Info]):  # type: ignore[misc]
    """Inputs that memory is measured with."""

    def get_dummy_text(self, mm_counts: Mapping[str, int]) -> str:
        return "".join(f"{VISION_START}{pad}{VISION_END}" * mm_counts.get(kind, 0) for kind, pad in _PADS.items())

    def get_dummy_mm_data(self, seq_len: int, mm_counts: Mapping[str, int], mm_options: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if mm_counts.get("image"):
            found["image"] = self._get_dummy_images(width=_SIDE, height=_SIDE, num_images=mm_counts["image"])
        if mm_counts.get("video"):
            found["video"] = [VideoBytes.load_bytes(_SAMPLE.read_bytes(), question=_QUESTION)] * mm_counts["video"]
        return found


class MultiModalProcessor(BaseMultiModalProcessor[Info]):  # type: ignore[misc]
    """One item at a time through our processor."""

    def _get_hf_mm_text(self, mm_counts: Mapping[str, int]) -> str:
        return str(self.dummy_inputs.get_dummy_text(mm_counts))

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, Any]) -> BatchFeature:
        found: dict[str, Any] = {}
        server = self.info.server_processor()
        config = self.info.ctx.model_config.multimodal_config.mm_processor_kwargs or {}
        asked = {name: value for name, value in hf_kwargs.items() if config.get(name) != value}
        try:
            for kind in _PADS:
                if kind in mm_items and len(mm_items[kind]):
                    data = mm_items[kind].get_processor_data()[f"{kind}s"]
                    samples = [_item(server, asked, kind, given) for given in data]
                    found |= _fields(samples, "" if kind == "image" else "_videos")
        except Ov2kitError as error:
            raise ValueError(" ".join(str(error).split())) from error  # which a server answers with HTTP 400
        return BatchFeature(found)

    def _get_mm_fields_config(self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for kind, end in (("image", ""), ("video", "_videos")):
            if f"counts{end}" in hf_inputs:
                patches, groups, tokens = hf_inputs[f"counts{end}"].unbind(1)
                flat = MultiModalFieldConfig.flat_from_sizes
                fields |= {
                    f"counts{end}": MultiModalFieldConfig.batched(kind),
                    f"pixel_values{end}": flat(kind, patches),
                    f"patch_positions{end}": flat(kind, patches),
                    f"group_grids{end}": flat(kind, groups),
                    f"prompt_ids{end}": flat(kind, tokens),
                }
        return fields

    def _get_prompt_updates(
        self, mm_items: Any, hf_processor_mm_kwargs: Any, out_mm_kwargs: Any
    ) -> Sequence[PromptReplacement]:
        vocabulary = self.info.get_tokenizer().get_vocab()
        pad = vocabulary[IMAGE_PAD]

        def update(kind: str) -> PromptReplacement:
            end = "" if kind == "image" else "_videos"

            def replacement(index: int) -> PromptUpdateDetails:
                ids = out_mm_kwargs[kind][index][f"prompt_ids{end}"].data.tolist()
                return PromptUpdateDetails.select_token_id(ids, pad)

            target = [vocabulary[VISION_START], vocabulary[_PADS[kind]], vocabulary[VISION_END]]
            return PromptReplacement(modality=kind, target=target, replacement=replacement)

        return [update(kind) for kind in _PADS]


def _item(server: Processor, asked: Mapping[str, Any], kind: Any, given: Any) -> Sample:
    """One picture or video as the tokens that stand in its place, with its tensors."""
    options = dict(asked)
    if isinstance(given, tuple):
        _, metadata = given
        if BYTES not in metadata:
            raise DataError("expected the bytes of a video file; decoded frames are not read, send the file")
        given, options = metadata[BYTES], options | metadata[OPTIONS]
    return with_request(server, options, server).prompt(["", ""], [Media(kind, given)])


def _fields(samples: Sequence[Sample], end: str) -> dict[str, torch.Tensor]:
    grids = [torch.tensor(sample.layout.group_grids(), dtype=torch.int64) for sample in samples]
    counts = [
        (len(sample.pixel_values), len(grid), len(sample.input_ids))
        for sample, grid in zip(samples, grids, strict=True)
    ]
    return {
        f"counts{end}": torch.tensor(counts, dtype=torch.int64),
        f"pixel_values{end}": torch.cat([sample.pixel_values for sample in samples]),
        f"patch_positions{end}": torch.cat([sample.positions for sample in samples]),
        f"group_grids{end}": torch.cat(grids),
        f"prompt_ids{end}": torch.cat([sample.input_ids for sample in samples]),
    }
