"""LlavaOneVision2: encoder, connector and a causal language model, as a model of transformers.

Tensors have the names of the LLaVA-OneVision-2 release, and keyword arguments those of its clients. Visual tokens
take the place of the image-pad embeddings in order, positions are plain 1-D, attention is causal. Importing
this registers the model with the Auto classes. Source: `LlavaOnevision2ForConditionalGeneration` of the release.
Letters: B rows, S text length, N packed patches, M visual tokens, V vocabulary.
"""

import os
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from ov2kit.connectors.interface import Connector
from ov2kit.errors import deprecated
from ov2kit.recipes.architecture.connector_tokens import tokens_out
from ov2kit.recipes.architecture.parts import Parts
from ov2kit.recipes.architecture.released_config import LlavaOnevision2MoeConfig, MageVLConfig
from ov2kit.recipes.model import loading
from ov2kit.recipes.model.joined import Joined
from ov2kit.recipes.model.output import Output, mean_cross_entropy
from ov2kit.recipes.model.visual import Grid
from ov2kit.recipes.prompt.sample import IGNORE
from ov2kit.segments import Segments


class LlavaOneVision2(Joined):  # type: ignore[no-untyped-call]
    """Any encoder of packed patches, any connector, any causal language model of transformers.

    Each part is called as it is; swap one by passing another, or build all of them from the config. Sizes live
    in `ov2kit.recipes.architecture`, file formats in `ov2kit.recipes.release`.

    Args:
        config: what to build, as a config of transformers or a release config; of parts that are passed it
            need not say anything. At least `image_token_id`: the token whose embeddings the visual tokens replace.
        encoder: (pixel_values, positions, segments) -> (N, width), such as `OneVisionEncoder`.
        connector: features -> tokens of the language model's width, see `ov2kit.connectors`.
        language_model: a `...ForCausalLM` of transformers.

    Raises:
        ValueError: the widths of two neighbors differ.

    Example:
        >>> from transformers import AutoModelForImageTextToText
        >>> import ov2kit.recipes
        >>> model = AutoModelForImageTextToText.from_pretrained("my-model")  # doctest: +SKIP
    """

    @property
    def tokens_out(self) -> Callable[[int], int] | None:
        """None if every merge x merge block of patches gives one token, else: real patches of an item -> its tokens.

        What a `Processor` needs to know to put the right number of image pads into the text.
        """
        return tokens_out(cast(Connector, self.connector), getattr(self.encoder, "merge", 2))

    def visual_tokens(
        self,
        pixel_values: Tensor,
        positions: Tensor,
        segments: Segments | Tensor | None = None,
        *,
        items: Segments | Tensor | None = None,
        grid_thw: Grid | None = None,
    ) -> Tensor:
        """Pixels to tokens of the language model's width.

        Padding (position -1) gives no token: of a blockwise connector the tokens of padding blocks are
        dropped, any other connector never sees padding patches.

        Args:
            pixel_values: (N, 3*p*p), blocks of the connector's rows together (block layout).
            positions: (N, 3) source (frame, row, column), -1 for padding.
            segments: who sees whom, or `cu_seqlens` (G+1,); made from `grid_thw` when omitted.
            items: rows per connector item, likewise; when omitted `segments`, or the grid rows where these are alone.
                Of consequence only for connectors that turn an item into a fixed number of tokens.
            grid_thw: rows (t, h, w) in patches, for encoders with windows and connectors with convolutions.

        Returns:
            (M, width of the language model).

        Raises:
            ValueError: neither segments nor grid_thw, or parts that disagree in length.
        """
        return cast(Tensor, self.model.see(pixel_values, positions, segments, items, grid_thw))

    def embed(self, input_ids: Tensor, tokens: Tensor | None) -> Tensor:
        """Text embeddings with the visual tokens put in.

        Args:
            input_ids: (B, S).
            tokens: (M, C), in the order of the image pads, row by row.

        Returns:
            (B, S, C).

        Raises:
            ValueError: the ids hold another number of image pads than there are tokens.
        """
        return cast(Tensor, self.model.embed(input_ids, tokens))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        patch_positions: Tensor | None = None,
        segments: Segments | Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        items: Segments | Tensor | None = None,
        image_grid_thw: Grid | None = None,
        supervised_only: bool = False,
        logits_to_keep: int | Tensor = 0,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        **options: Any,
    ) -> Output:
        """Logits, and the loss where there are labels.

        Args:
            input_ids: (B, S) int64, an image pad for each visual token.
            pixel_values: (N, 3*p*p) of all rows one after another; None or empty for text alone.
            patch_positions: (N, 3).
            segments: see `visual_tokens`.
            attention_mask: (B, S), 0 where padded.
            labels: (B, S) int64, the token itself where supervised, else -100; not shifted.
            position_ids: (B, S); where they restart at 0 another packed sample begins, which sees
                nothing of the one before. Padding within such rows sees and is seen by nothing.
            items: see `visual_tokens`.
            image_grid_thw: rows (t, h, w) in patches, see `visual_tokens`; canvases of a row see each other,
                `frame_windows_size` at a time, unless `segments` say else.
            supervised_only: give only the logits that the loss needs, of the positions at which some row
                is supervised. Same loss; saves memory where few tokens are.
            logits_to_keep: how many of the last positions to give logits of, or which ones; 0 for all.
            inputs_embeds: (B, S, C) in the place of `input_ids`, with the visual tokens in.
            past_key_values: cache of what came before.
            use_cache: return a cache.
            options: for the language model.

        Returns:
            The loss is 0 when no token is supervised.

        Raises:
            ValueError: image pads and visual tokens differ in number, or shapes do not fit.
        """
        patch_positions, image_grid_thw = _older_names(options, patch_positions, image_grid_thw)
        embeds, count = self.model.read(
            input_ids, inputs_embeds, pixel_values, patch_positions, segments, items, image_grid_thw
        )
        causal = self.language_model
        seeing = self.model.sight(attention_mask, position_ids, past_key_values)
        targets = None if labels is None else F.pad(labels[:, 1:], (0, 1), value=IGNORE)
        if targets is not None and supervised_only:
            logits_to_keep = (targets != IGNORE).any(0).nonzero().flatten()
            if not len(logits_to_keep):
                logits_to_keep = logits_to_keep.new_zeros(1)
        if isinstance(logits_to_keep, Tensor) or logits_to_keep:
            seeing["logits_to_keep"] = logits_to_keep
        found = causal(inputs_embeds=embeds, use_cache=use_cache, **seeing, **options)
        loss = None
        if targets is not None:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            loss = mean_cross_entropy(found.logits, targets[:, kept].to(found.logits.device))
            if getattr(found, "aux_loss", None) is not None:  # a mixture of experts that balances its load
                loss = loss + causal.config.router_aux_loss_coef * found.aux_loss.to(loss.device)
        more = {name: getattr(found, name, None) for name in ("past_key_values", "hidden_states", "attentions")}
        return Output(loss=loss, logits=found.logits, visual_tokens=count, **more)

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        patch_positions: Tensor | None = None,
        segments: Segments | Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        items: Segments | Tensor | None = None,
        image_grid_thw: Grid | None = None,
        **options: Any,
    ) -> Any:
        """Continue prompts, with a key-value cache.

        Args:
            input_ids: (B, S) prompts, padded on the left.
            pixel_values: see `forward`; as are the next arguments.
            options: of `generate` of transformers: max_new_tokens, do_sample, temperature, streamer, ...

        Returns:
            (B, S + new) int64, the prompts and what follows; rows that end early are filled with the pad token.
            Another form where `options` ask for one (`return_dict_in_generate`).

        Raises:
            ValueError: prompts that are padded on the right, or as for `forward`.
        """
        patch_positions, image_grid_thw = _older_names(options, patch_positions, image_grid_thw)
        if attention_mask is not None and not bool(attention_mask[:, -1].all()):
            raise ValueError("prompts must be padded on the left to be continued, got padding on the right")
        tokens = self.model.see(pixel_values, patch_positions, segments, items, image_grid_thw)
        embeds = self.embed(input_ids, tokens)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if "generation_config" not in options:
            options.setdefault("pad_token_id", _pad_token(self.generation_config))
        return self.language_model.generate(input_ids=input_ids, inputs_embeds=embeds, attention_mask=mask, **options)

    # -- files

    @classmethod
    def from_parts(cls, parts: Parts) -> "LlavaOneVision2":
        """The model that `ov2kit.recipes.architecture` built the parts of."""
        return cls(parts.config, parts.encoder, parts.connector, parts.language_model)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        place: str | os.PathLike[str],
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        **options: Any,
    ) -> Any:
        """The model in a directory of the released format, ready to run; see `ov2kit.recipes.model.loading`.

        Args:
            place: directory with config.json and safetensors.
            dtype: of the floating-point weights; the files' own when omitted.
            device: where they go; the host when omitted.
            options: `attn_implementation`, and those of transformers: device_map, quantization_config, ...

        Raises:
            CheckpointError: the directory is incomplete or damaged, only holds pickles, or its tensors are
                not those that its config describes; all that is wrong is named at once.
        """
        return loading.load(cls, super().from_pretrained, place, dtype, device, options)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], tokenizer: Any = None, **options: Any
    ) -> None:
        """Write a directory of the released format, complete or not at all; see `ov2kit.recipes.model.loading`.

        Args:
            save_directory: the directory. Files of the same names are replaced, others stay.
            tokenizer: of transformers, or a `Processor`; written in place of the one that was read.
            options: `max_shard_size`, `state_dict`, `files_from`, `overwrite`, and those that trainers pass.

        Raises:
            CheckpointError: the model has parts that a config cannot describe, or `overwrite=False` and the
                place is taken.
            OutputError: it cannot be written there.
        """
        loading.save(self, super().save_pretrained, save_directory, tokenizer, options)


class LlavaOnevision2Moe(LlavaOneVision2):  # type: ignore[no-untyped-call]
    """The same for configs of the type that released mixtures of experts have."""

    config_class = LlavaOnevision2MoeConfig


class MageVL(LlavaOneVision2):  # type: ignore[no-untyped-call]
    """The same for configs of Mage-VL."""

    config_class = MageVLConfig


def _older_names(options: dict[str, Any], positions: Any, grid_thw: Any) -> tuple[Any, Any]:
    """Both of them, where they came under the names they had."""
    for old, use in (("positions", "patch_positions"), ("grid_thw", "image_grid_thw")):
        if old in options:
            deprecated(f"{old}=", f"{use}=", "0.2")
    return options.pop("positions", positions), options.pop("grid_thw", grid_thw)


def _pad_token(generation: Any) -> int:
    """A token to fill rows that ended, for models that name none."""
    if generation.pad_token_id is not None:
        return int(generation.pad_token_id)
    end = generation.eos_token_id
    return int(end[0] if isinstance(end, list) else end or 0)


for _auto in ("AutoModel", "AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM"):
    if hasattr(transformers, _auto):  # the last one is younger than the lowest version
        for _model in (LlavaOneVision2, LlavaOnevision2Moe, MageVL):
            getattr(transformers, _auto).register(_model.config_class, _model, exist_ok=True)
