"""LlavaOneVision2: encoder, connector and a causal language model, one next to the other.

Source: `LlavaOnevision2ForConditionalGeneration` of the LLaVA-OneVision-2 release: visual tokens take the
place of the image-pad embeddings in order, positions are plain 1-D, attention is causal.
Letters: B rows, S text length, N packed patches, M visual tokens, V vocabulary.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ov2kit.connectors.interface import Connector
from ov2kit.errors import check_number, check_type
from ov2kit.recipes.architecture.connector_tokens import tokens_out
from ov2kit.recipes.architecture.parts import Parts
from ov2kit.recipes.model.visual import Grid, embed, visual_tokens
from ov2kit.recipes.prompt.sample import IGNORE
from ov2kit.recipes.release.directory import from_pretrained, save_pretrained
from ov2kit.segments import Segments

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Output(NamedTuple):
    """What a forward gives.

    Args:
        loss: () float32 mean cross entropy of the supervised tokens, or None without labels.
        logits: (B, S, V), or (B, kept, V) where only the supervised positions were asked for.
        visual_tokens: M, on the host.
    """

    loss: Tensor | None
    logits: Tensor
    visual_tokens: int


class LlavaOneVision2(nn.Module):
    """Any encoder of packed patches, any connector, any causal language model of transformers.

    The three are called as they are; swap one by passing another. Sizes live in
    `ov2kit.recipes.architecture`, file formats in `ov2kit.recipes.release`.

    Args:
        encoder: (pixel_values, positions, segments) -> (N, width), such as `OneVisionEncoder`.
        connector: features -> tokens of the language model's width, see `ov2kit.connectors`.
        language_model: a `...ForCausalLM` of transformers.
        image_token_id: the token whose embeddings the visual tokens replace.

    Raises:
        ValueError: the widths of two neighbors differ.
    """

    def __init__(
        self, encoder: nn.Module, connector: nn.Module, language_model: "PreTrainedModel", *, image_token_id: int
    ) -> None:
        super().__init__()
        for name, module in (("encoder", encoder), ("connector", connector), ("language_model", language_model)):
            check_type(name, module, nn.Module, "a module")
        check_number("image_token_id", image_token_id, low=0, integer=True)
        narrow = getattr(encoder, "width", None)
        wide = cast(nn.Embedding, language_model.get_input_embeddings()).embedding_dim
        if narrow is not None and narrow != connector.width:
            raise ValueError(f"the encoder gives {narrow} channels, the connector takes {connector.width}")
        if connector.out_width != wide:
            raise ValueError(f"the connector gives {connector.out_width} channels, the language model takes {wide}")
        self.encoder, self.connector, self.language_model = encoder, connector, language_model
        self.image_token_id = image_token_id
        #: `config.json` as it was read; what it says beyond the modules is written back by `save_pretrained`
        self.release_config: dict[str, Any] = {}
        #: the directory the model was read from, whose tokenizer and processor files go with it
        self.source: Path | None = None
        #: texts of tokenizer and processor by file name, where a checkpoint brought them
        self.files: dict[str, str] = {}

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """Moves and casts the model. What is not stored keeps its dtype: rotary frequencies in bfloat16 are wrong."""
        exact = {
            (module, name): module._buffers[name]
            for module in self.modules()
            for name in module._non_persistent_buffers_set
        }
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for (module, name), buffer in exact.items():
            moved = module._buffers[name]
            if buffer is not None and moved is not None and moved.dtype != buffer.dtype:
                module._buffers[name] = buffer.to(moved.device)
        return self

    @property
    def device(self) -> torch.device:
        return self._embeddings().weight.device

    @property
    def tokens_out(self) -> Callable[[int], int] | None:
        """None if every merge x merge block of patches gives one token, else: real patches of an item -> its tokens.

        What a `Processor` needs to know to put the right number of image pads into the text.
        """
        return tokens_out(cast(Connector, self.connector), getattr(self.encoder, "merge", 2))

    def _embeddings(self) -> nn.Embedding:
        return cast(nn.Embedding, self.language_model.get_input_embeddings())

    def visual_tokens(
        self,
        pixel_values: Tensor,
        positions: Tensor,
        segments: Segments | Tensor | None = None,
        *,
        items: Segments | None = None,
        grid_thw: Grid | None = None,
    ) -> Tensor:
        """Pixels to tokens of the language model's width.

        Padding (position -1) gives no token: of a blockwise connector the tokens of padding blocks are
        dropped, any other connector never sees padding patches.

        Args:
            pixel_values: (N, 3*p*p), blocks of the connector's rows together (block layout).
            positions: (N, 3) source (frame, row, column), -1 for padding.
            segments: who sees whom, or `cu_seqlens` (G+1,); made from `grid_thw` when omitted.
            items: rows per connector item; `segments` when omitted. Of consequence only for connectors
                that turn an item into a fixed number of tokens.
            grid_thw: rows (t, h, w) in patches, for encoders with windows and connectors with convolutions.

        Returns:
            (M, width of the language model).

        Raises:
            ValueError: neither segments nor grid_thw, or parts that disagree in length.
        """
        return visual_tokens(
            self.encoder, self.connector, pixel_values, positions, segments, items=items, grid_thw=grid_thw
        )

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
        return embed(self._embeddings(), self.image_token_id, input_ids, tokens)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Segments | Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        items: Segments | None = None,
        grid_thw: Grid | None = None,
        supervised_only: bool = False,
    ) -> Output:
        """Logits, and the loss where there are labels.

        Args:
            input_ids: (B, S) int64.
            pixel_values: (N, 3*p*p) of all rows one after another; None or empty for text alone.
            positions: (N, 3).
            segments: see `visual_tokens`.
            attention_mask: (B, S), 0 where padded.
            labels: (B, S) int64, the token itself where supervised, else -100; not shifted.
            position_ids: (B, S); where they start at 0 anew another packed sample begins, which sees
                nothing of the one before. Padding within such rows sees and is seen by nothing.
            items: see `visual_tokens`.
            grid_thw: see `visual_tokens`.
            supervised_only: give only the logits that the loss needs, of the positions at which some row
                is supervised. Same loss; saves memory where few tokens are.

        Returns:
            The loss is 0 when no token is supervised.

        Raises:
            ValueError: image pads and visual tokens differ in number, or shapes do not fit.
        """
        tokens = self._see(pixel_values, positions, segments, items, grid_thw)
        embeds = self.embed(input_ids, tokens)
        if tokens is None and several_processes():
            embeds = embeds + 0 * self._idle(embeds.device).sum()
        seeing = sight(self.language_model.config._attn_implementation, attention_mask, position_ids)
        if labels is None:
            found = self.language_model(inputs_embeds=embeds, use_cache=False, **seeing)
            return Output(None, found.logits, 0 if tokens is None else len(tokens))
        targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
        if supervised_only:
            kept = (targets != IGNORE).any(0).nonzero().flatten()
            kept = kept if len(kept) else kept.new_zeros(1)
            targets, seeing["logits_to_keep"] = targets[:, kept], kept
        found = self.language_model(inputs_embeds=embeds, use_cache=False, **seeing)
        loss = mean_cross_entropy(found.logits, targets)
        if getattr(found, "aux_loss", None) is not None:  # a mixture of experts that balances its load
            loss = loss + self.language_model.config.router_aux_loss_coef * found.aux_loss.to(loss.device)
        return Output(loss, found.logits, 0 if tokens is None else len(tokens))

    def _idle(self, device: torch.device) -> Tensor:
        """Tokens of one black block.

        With several processes every one must run every part, whether its rows hold pictures or not: a
        sharded part is gathered by all, and gradients are averaged over all.
        """
        side: int = getattr(self.encoder, "merge", 2)
        patch, channels = (getattr(self.encoder, name, n) for name, n in (("patch", 14), ("channels", 3)))
        pixels = torch.zeros(side * side, channels * patch * patch, device=device)
        positions = torch.zeros(side * side, 3, dtype=torch.int32, device=device)
        segments = Segments.from_lengths([side * side], device)
        return self.visual_tokens(pixels, positions, segments, grid_thw=[(1, side, side)])

    def _see(
        self,
        pixel_values: Tensor | None,
        positions: Tensor | None,
        segments: Segments | Tensor | None,
        items: Segments | None,
        grid_thw: Grid | None,
    ) -> Tensor | None:
        if pixel_values is None or not len(pixel_values):
            return None
        if positions is None:
            raise ValueError("pixel_values need positions (N, 3), got None")
        return self.visual_tokens(pixel_values, positions, segments, items=items, grid_thw=grid_thw)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        positions: Tensor | None = None,
        segments: Segments | Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        items: Segments | None = None,
        grid_thw: Grid | None = None,
        **options: Any,
    ) -> Tensor:
        """Continue prompts, with a key-value cache.

        Args:
            input_ids: (B, S) prompts, padded on the left.
            pixel_values: see `forward`; as are the next arguments.
            options: of `generate` of transformers: max_new_tokens, do_sample, temperature, streamer, ...

        Returns:
            (B, new) int64 ids after the prompts; rows that end early are filled with the pad token.

        Raises:
            ValueError: prompts that are padded on the right, or as for `forward`.
        """
        if attention_mask is not None and not bool(attention_mask[:, -1].all()):
            raise ValueError("prompts must be padded on the left to be continued, got padding on the right")
        tokens = self._see(pixel_values, positions, segments, items, grid_thw)
        embeds = self.embed(input_ids, tokens)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if "generation_config" not in options:
            options.setdefault("pad_token_id", _pad_token(self.language_model.generation_config))
        generated = cast(Any, self.language_model).generate(
            input_ids=input_ids, inputs_embeds=embeds, attention_mask=mask, **options
        )
        return cast(Tensor, generated[:, input_ids.shape[1] :])

    def set_gradient_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of encoder and language model in the backward pass instead of keeping them."""
        if hasattr(self.encoder, "set_gradient_checkpointing"):
            cast(Any, self.encoder).set_gradient_checkpointing(enable)
        model = cast(Any, self.language_model)
        kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # its older name
        if enable:
            getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
        else:
            getattr(model, f"{kind}_checkpointing_disable")()

    @classmethod
    def from_parts(cls, parts: Parts) -> "LlavaOneVision2":
        """The model that `ov2kit.recipes.architecture` built the parts of."""
        model = cls(parts.encoder, parts.connector, parts.language_model, image_token_id=parts.config["image_token_id"])
        model.release_config = parts.config
        return model

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        *,
        attention: str | None = None,
    ) -> "LlavaOneVision2":
        """The model in a directory of the released format, see `ov2kit.recipes.release.directory`."""
        return from_pretrained(path, dtype, device, attention=attention, make=cls.from_parts)

    def save_pretrained(self, path: str | os.PathLike[str], tokenizer: Any = None, **options: Any) -> None:
        """Write a directory of the released format, see `ov2kit.recipes.release.directory`."""
        save_pretrained(self, path, tokenizer, **options)


def sight(attention: str | None, mask: Tensor | None, position_ids: Tensor | None) -> dict[str, Any]:
    """What a language model of transformers takes so that tokens see what they should.

    Rows with padding take the mask, and positions counted without it. Packed rows take the positions
    alone: transformers makes a block-diagonal causal mask of them, of the kind its attention wants;
    flash attention gets the lengths of the samples, ready made.

    Args:
        attention: its attention implementation.
        mask: (B, S), 0 where padded.
        position_ids: (B, S) of packed rows.
    """
    if position_ids is None:
        return {} if mask is None else {"attention_mask": mask, "position_ids": positions_from_mask(mask)}
    if mask is not None:  # out of step with what is beside it, so every padding token is a sample of its own
        position_ids = position_ids.masked_fill(mask == 0, _OUT_OF_STEP)
    seeing: dict[str, Any] = {"position_ids": position_ids}
    if attention is not None and "flash" in attention:
        jumps = position_ids.diff(prepend=position_ids[:, :1] - 2, dim=1) != 1
        starts = jumps.flatten().nonzero().flatten()
        ends = torch.cat([starts, starts.new_tensor([jumps.numel()])]).to(torch.int32)
        longest = int(ends.diff().max())
        seeing |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return seeing


#: a position that neither follows nor precedes another of a row
_OUT_OF_STEP = -3


def several_processes() -> bool:
    """Whether this is one of several training processes."""
    spread = torch.distributed
    return spread.is_available() and spread.is_initialized() and spread.get_world_size() > 1


def _pad_token(generation: Any) -> int:
    """A token to fill rows that ended, for models that name none."""
    if generation.pad_token_id is not None:
        return int(generation.pad_token_id)
    end = generation.eos_token_id
    return int(end[0] if isinstance(end, list) else end or 0)


def positions_from_mask(attention_mask: Tensor) -> Tensor:
    """(B, S) mask -> (B, S) int64 places among the tokens of the row; 1 where padded."""
    return (attention_mask.long().cumsum(-1) - 1).masked_fill(attention_mask == 0, 1)


def mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """() float32 mean over the targets (B, S) that are not -100, of logits (B, S, V); 0 if there are none."""
    total = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    return total / (targets != IGNORE).sum().clamp(min=1)
