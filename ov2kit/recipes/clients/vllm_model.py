"""The model in vLLM: our encoder and connector before vLLM's own language model. Written for vLLM 0.32."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from vllm.model_executor.models.interfaces import SupportsMultiModal, SupportsPP
from vllm.model_executor.models.utils import AutoWeightsLoader, WeightsMapper, init_vllm_registered_model, maybe_prefix
from vllm.multimodal import MULTIMODAL_REGISTRY

from ov2kit.canvases import VISION_END, VISION_START
from ov2kit.recipes.architecture.parts import build_vision
from ov2kit.recipes.architecture.released_config import LlavaOnevision2Config
from ov2kit.recipes.clients.vllm_processing import _PADS, Dummy, Info, MultiModalProcessor
from ov2kit.recipes.model.visual import visual_tokens
from ov2kit.segments import Segments


@MULTIMODAL_REGISTRY.register_processor(MultiModalProcessor, info=Info, dummy_inputs=Dummy)
class LlavaOnevision2(nn.Module, SupportsMultiModal, SupportsPP):  # type: ignore[misc]
    """Any connector, and any language model that vLLM has for the config's text part.

    Args:
        vllm_config: as vLLM passes it.
        prefix: of names of weights.
    """

    hf_to_vllm_mapper = WeightsMapper(
        orig_to_new_prefix={
            "model.visual.merger.": "connector.",
            "model.visual.": "encoder.",
            "model.connector.": "connector.",
            "model.language_model.": "language_model.model.",
            "lm_head.": "language_model.lm_head.",
        }
    )

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__()
        config: LlavaOnevision2Config = vllm_config.model_config.hf_config
        self.config = config
        with cast(Any, self)._mark_tower_model(vllm_config, {"image", "video"}):
            self.encoder, connector = build_vision(config.release_config())
            assert connector is not None
            self.connector = connector
        with cast(Any, self)._mark_language_model(vllm_config):
            self.language_model = init_vllm_registered_model(
                vllm_config=vllm_config,
                hf_config=config.text_config,
                prefix=maybe_prefix(prefix, "language_model"),
                architectures=[_architecture(config.text_config)],
            )
        self.make_empty_intermediate_tensors = self.language_model.make_empty_intermediate_tensors

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str:
        return f"{VISION_START}{_PADS[modality]}{VISION_END}"

    def get_language_model(self) -> Any:
        return self.language_model

    def embed_multimodal(self, **given: Any) -> tuple[Tensor, ...]:
        """Visual tokens of each picture, then of each video; padding gives none."""
        found: list[Tensor] = []
        for end in ("", "_videos"):
            if given.get(f"pixel_values{end}") is None:
                continue
            pixels, positions, grids, ids = (
                _joined(given[f"{name}{end}"])
                for name in ("pixel_values", "patch_positions", "group_grids", "prompt_ids")
            )
            counts = _joined(given[f"counts{end}"]).view(-1, 3)
            segments = Segments.from_grid(cast(Any, grids), None, pixels.device)
            weight = next(self.encoder.parameters())
            tokens = visual_tokens(
                self.encoder, self.connector, pixels.to(weight.dtype), positions, segments, grid_thw=grids.tolist()
            )
            pads = [part == self.config.image_token_id for part in cast(Any, ids).split(counts[:, 2].tolist())]
            found += cast(Any, tokens).split([int(part.sum()) for part in pads])
        return tuple(found)

    def forward(
        self,
        input_ids: Tensor | None,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> Any:
        return self.language_model.model(
            input_ids=input_ids,
            positions=positions,
            intermediate_tensors=intermediate_tensors,
            inputs_embeds=None if intermediate_tensors is not None else inputs_embeds,
        )

    def compute_logits(self, hidden_states: Tensor) -> Any:
        return self.language_model.compute_logits(hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> Any:
        return AutoWeightsLoader(self).load_weights(weights, mapper=self.hf_to_vllm_mapper)


def _joined(given: Any) -> Tensor:
    """Items of a batch one after another; vLLM gives a tensor, or a list of them."""
    return given if isinstance(given, Tensor) else torch.cat(list(given))


def _architecture(text: Any) -> str:
    """The class name that transformers, and vLLM after it, has for a text config."""
    from transformers import AutoModelForCausalLM

    return str(cast(Any, AutoModelForCausalLM)._model_mapping[type(text)].__name__)
