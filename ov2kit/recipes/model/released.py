"""The model as public clients of transformers take it: released names, released keyword arguments.

The same encoder, connector and arithmetic as `LlavaOneVision2`, put together the way that transformers
loads, places on devices, quantizes, adapts and saves models. Importing this registers it with the Auto classes.
Source: `LlavaOnevision2ForConditionalGeneration` of the LLaVA-OneVision-2 release.
Letters: B rows, S text length, N packed patches, V vocabulary.
"""

from typing import Any, cast

import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from ov2kit.connectors import PatchMerger
from ov2kit.errors import CheckpointError
from ov2kit.files import fill_folder
from ov2kit.recipes.architecture.parts import build_vision
from ov2kit.recipes.architecture.released_config import LlavaOnevision2Config, LlavaOnevision2MoeConfig
from ov2kit.recipes.model.model import mean_cross_entropy, positions_from_mask
from ov2kit.recipes.model.visual import embed, visual_tokens
from ov2kit.recipes.prompt.sample import IGNORE
from ov2kit.segments import Segments

_VISUAL = ("pixel_values", "image_grid_thw", "patch_positions")


class _Inner(nn.Module):
    """What stands under `model.` in the released names."""

    def __init__(self, config: LlavaOnevision2Config) -> None:
        super().__init__()
        encoder, connector = build_vision(config.release_config())
        assert connector is not None
        self.visual = encoder
        if isinstance(connector, PatchMerger):
            encoder.add_module("merger", connector)
        else:
            self.connector = connector
        self.language_model = cast(Any, AutoModel).from_config(config.text_config)


class LlavaOnevision2ForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]
    """Encoder, connector and language model under the names of the release, built from a config.

    `from_pretrained`, `save_pretrained`, `generate` and the rest are those of transformers.

    Args:
        config: what to build; the language model is any that `AutoModel` knows with an `lm_head` above it.

    Example:
        >>> from transformers import AutoModelForImageTextToText
        >>> import ov2kit.recipes
        >>> model = AutoModelForImageTextToText.from_pretrained("my-model")  # doctest: +SKIP
    """

    config_class: Any = LlavaOnevision2Config
    base_model_prefix = "model"
    input_modalities: Any = ("image", "video", "text")
    _tied_weights_keys: Any = {"lm_head.weight": "model.language_model.embed_tokens.weight"}  # noqa: RUF012
    _no_split_modules: Any = ["Block"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False

    def __init__(self, config: LlavaOnevision2Config) -> None:
        super().__init__(config)
        self.model = _Inner(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        cast(Any, self).post_init()

    @property
    def encoder(self) -> nn.Module:
        return cast(nn.Module, self.model.visual)

    @property
    def connector(self) -> nn.Module:
        return cast(nn.Module, getattr(self.model.visual, "merger", None) or self.model.connector)

    def _init_weights(self, module: nn.Module) -> None:
        """Encoder and connector draw their own weights; the rest is the language model's affair."""
        if module is self.lm_head:
            cast(Any, super())._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        return cast(nn.Module, self.model.language_model.get_input_embeddings())

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return cast(nn.Module, self.lm_head)

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = cast(nn.Linear, new_embeddings)

    def get_image_features(self, pixel_values: Tensor, image_grid_thw: Tensor, patch_positions: Tensor) -> Tensor:
        """Visual tokens (M, C) in the order of the patches; see `forward`."""
        segments = self.encoder.visibility(image_grid_thw)  # type: ignore[operator]
        items = Segments.from_grid(image_grid_thw, None, pixel_values.device)
        weight = next(self.encoder.parameters())
        return visual_tokens(
            self.encoder,
            self.connector,
            pixel_values.to(weight.dtype) if weight.dtype.is_floating_point else pixel_values,
            patch_positions,
            segments,
            items=items,
            grid_thw=image_grid_thw.tolist(),
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid_thw: Tensor | None = None,
        patch_positions: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **options: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss where there are labels.

        Args:
            input_ids: (B, S) int64, an image pad for each visual token.
            attention_mask: (B, S), 0 where padded, on either side.
            position_ids: (B, S); counted without padding when omitted.
            past_key_values: cache of what came before.
            inputs_embeds: (B, S, C) in the place of `input_ids`.
            labels: (B, S) int64, -100 where not supervised; not shifted.
            pixel_values: (N, 3*p*p) of all rows one after another, in block layout.
            image_grid_thw: (rows, 3) canvases, rows and columns of patches; canvases of one row see each
                other, `frame_windows_size` of them at a time.
            patch_positions: (N, 3) source (frame, row, column), -1 for padding.
            use_cache: return a cache.
            logits_to_keep: how many of the last positions, or which ones; 0 for all.
            options: for the language model.

        Raises:
            ValueError: image pads and visual tokens differ in number, or an input is missing.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected input_ids or inputs_embeds, and one of them only")
        if inputs_embeds is None:
            tokens = None
            if pixel_values is not None and len(pixel_values):
                if image_grid_thw is None or patch_positions is None:
                    raise ValueError("pixel_values need image_grid_thw (rows, 3) and patch_positions (N, 3)")
                tokens = self.get_image_features(pixel_values, image_grid_thw, patch_positions)
            embedding = self.get_input_embeddings()
            if tokens is not None:
                tokens = tokens.to(cast(Tensor, embedding.weight).device)
            inputs_embeds = embed(embedding, self.config.image_token_id, cast(Tensor, input_ids), tokens)
        if position_ids is None and attention_mask is not None and past_key_values is None and attention_mask.ndim == 2:
            position_ids = positions_from_mask(attention_mask)
        found = self.model.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **options,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(found.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
            loss = mean_cross_entropy(logits, targets[:, kept].to(logits.device))
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=found.past_key_values,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, place: Any, *args: Any, output_loading_info: bool = False, **options: Any
    ) -> Any:
        """As transformers does it, but nothing is drawn at random because a file lacks it.

        Args:
            place: a directory in the released format.
            args: see transformers, as `options`.
            output_loading_info: also return what transformers says about the tensors.
            options: dtype, device_map, attn_implementation, quantization_config, ...

        Raises:
            CheckpointError: tensors are missing, unexpected or of another shape; all are named at once.
        """
        model, info = cast(Any, super()).from_pretrained(place, *args, output_loading_info=True, **options)
        complaints = [
            f"{len(info[key])} {said}: {', '.join(sorted(map(str, info[key]))[:6])}"
            for key, said in (
                ("missing_keys", "missing"),
                ("unexpected_keys", "unexpected"),
                ("mismatched_keys", "of another shape"),
            )
            if info[key]
        ]
        if complaints:
            raise CheckpointError(f"{place}: the tensors do not fit the config; " + "; ".join(complaints))
        return (model, info) if output_loading_info else model

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> None:
        """As transformers does it; the files appear all or none. What else lies there stays.

        Raises:
            OutputError: the directory cannot be written.
        """
        with fill_folder(save_directory) as scratch:
            super().save_pretrained(scratch, *args, **options)

    def prepare_inputs_for_generation(  # type: ignore[override]
        self, input_ids: Tensor, **kwargs: Any
    ) -> dict[str, Any]:
        """As usual; pixels go in with the prompt only."""
        inputs: dict[str, Any] = cast(Any, super()).prepare_inputs_for_generation(input_ids, **kwargs)
        past = kwargs.get("past_key_values")
        if past is not None and past.get_seq_length() > 0:
            inputs |= dict.fromkeys(_VISUAL)
        return inputs


class LlavaOnevision2MoeForConditionalGeneration(LlavaOnevision2ForConditionalGeneration):  # type: ignore[no-untyped-call]
    """The same for configs of the type that released mixtures of experts have."""

    config_class = LlavaOnevision2MoeConfig


_AUTO = ("AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")
for _auto in _AUTO:
    if hasattr(transformers, _auto):  # the last one is younger than the lowest version
        for _model in (LlavaOnevision2ForConditionalGeneration, LlavaOnevision2MoeForConditionalGeneration):
            getattr(transformers, _auto).register(_model.config_class, _model, exist_ok=True)
