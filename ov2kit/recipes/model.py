"""LlavaOneVision2: encoder, connector and a causal language model, one next to the other.

Source: `LlavaOnevision2ForConditionalGeneration` of the LLaVA-OneVision-2 release: visual tokens take the
place of the image-pad embeddings in order, positions are plain 1-D, attention is causal.
Letters: B rows, S text length, N packed patches, M visual tokens, V vocabulary.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ov2kit.connectors import ConvAbstractor
from ov2kit.connectors.interface import Connector, host_grids
from ov2kit.recipes.sample import IGNORE
from ov2kit.segments import Segments

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Grid = Tensor | Sequence[Sequence[int]]


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

    The three are called as they are; swap one by passing another. Sizes live in the builders
    (`ov2kit.recipes.architecture`), file formats in `ov2kit.recipes.release`.

    Args:
        encoder: (pixel_values, positions, segments) -> (N, width), such as `OneVisionEncoder`.
        connector: features -> tokens of the language model's width, see `ov2kit.connectors`.
        language_model: a `...ForCausalLM` of transformers.
        image_token_id: the token whose embeddings the visual tokens replace.

    Raises:
        ValueError: the widths of two neighbours differ.
    """

    def __init__(
        self, encoder: nn.Module, connector: nn.Module, language_model: "PreTrainedModel", *, image_token_id: int
    ) -> None:
        super().__init__()
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

    @property
    def device(self) -> torch.device:
        return self._embeddings().weight.device

    @property
    def tokens_out(self) -> Callable[[int], int] | None:
        """None if every block of patches gives one token, else: real patches of an item -> its tokens.

        What a `Processor` needs to know to put the right number of image pads into the text.
        """
        connector = cast(Connector, self.connector)
        return connector.tokens_out if rows_per_token(connector) is None else None

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
        if segments is None:
            if grid_thw is None:
                raise ValueError("pixel_values need segments (or grid_thw) to know which patches see each other")
            segments = cast(Segments, cast(Any, self.encoder).visibility(grid_thw))
        if isinstance(segments, Tensor):
            segments = Segments.from_cu_seqlens(segments)
        extra = {"grid_thw": grid_thw} if getattr(self.encoder, "windowed", False) else {}
        features = self.encoder(pixel_values, positions, segments, **extra)
        real = positions[:, 0] >= 0
        block = rows_per_token(cast(Connector, self.connector))
        if isinstance(self.connector, ConvAbstractor):  # sees canvases, so padding cannot be taken out before
            if grid_thw is None:
                raise ValueError("a connector with convolutions needs grid_thw to know the canvases, got None")
            grids = grid_thw if block is not None else [(1, h, w) for t, h, w in host_grids(grid_thw) for _ in range(t)]
            tokens, _ = self.connector(features, grids=grids)
        elif block is not None:
            tokens = self.connector(features)
        else:
            counts = (items or segments).lengths
            kept = [int(part.sum()) for part in torch.split(real, counts)]  # type: ignore[no-untyped-call]
            tokens, _ = self.connector(features[real], [n for n in kept if n])
        return cast(Tensor, tokens if block is None else tokens[real.view(-1, block).any(1)])

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
        pads = input_ids == self.image_token_id
        embeds = cast(Tensor, self._embeddings()(input_ids.masked_fill(pads, 0)))
        wanted, given = int(pads.sum()), 0 if tokens is None else len(tokens)
        if wanted != given:
            raise ValueError(
                f"the text holds {wanted} image pads (token {self.image_token_id}) but the pictures give {given} "
                "visual tokens; both must come from the same canvases"
            )
        if tokens is None or not given:
            return embeds
        return embeds.masked_scatter(pads.unsqueeze(-1), tokens.to(embeds.dtype))

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
        keep: Tensor | None = None,
    ) -> Output:
        """Logits of every position, and the loss where there are labels.

        Args:
            input_ids: (B, S) int64.
            pixel_values: (N, 3*p*p) of all rows one after another; None or empty for text alone.
            positions: (N, 3).
            segments: see `visual_tokens`.
            attention_mask: (B, S), 0 where padded.
            labels: (B, S) int64, the token itself where supervised, else -100; not shifted.
            position_ids: (B, S); where they start at 0 anew another packed sample begins, which sees
                nothing of the one before.
            items: see `visual_tokens`.
            grid_thw: see `visual_tokens`.
            keep: (kept,) int64 columns of the text to give logits for; all when omitted. Not with labels.

        Raises:
            ValueError: image pads and visual tokens differ in number, shapes do not fit, or both
                labels and `keep`.
        """
        if keep is not None and labels is not None:
            raise ValueError("keep gives logits of some columns only; the loss of labels needs all of them")
        tokens = self._see(pixel_values, positions, segments, items, grid_thw)
        embeds = self.embed(input_ids, tokens)
        if position_ids is not None:
            attention_mask = None
        elif attention_mask is not None:
            position_ids = positions_from_mask(attention_mask)
        found = self.language_model(
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=False,
            logits_to_keep=0 if keep is None else keep,
        )
        loss = None if labels is None else next_token_loss(found.logits, labels)
        return Output(loss, found.logits, 0 if tokens is None else len(tokens))

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
        """
        tokens = self._see(pixel_values, positions, segments, items, grid_thw)
        embeds = self.embed(input_ids, tokens)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        generated = cast(Any, self.language_model).generate(
            input_ids=input_ids, inputs_embeds=embeds, attention_mask=mask, **options
        )
        return cast(Tensor, generated[:, input_ids.shape[1] :])

    def set_gradient_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations of encoder and language model in the backward pass instead of keeping them."""
        if hasattr(self.encoder, "set_gradient_checkpointing"):
            self.encoder.set_gradient_checkpointing(enable)
        model = cast(Any, self.language_model)
        if enable:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            model.gradient_checkpointing_disable()

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> "LlavaOneVision2":
        """The model in a directory of the released format, see `ov2kit.recipes.release`."""
        from ov2kit.recipes.release import from_pretrained

        return from_pretrained(path, dtype, device)

    def save_pretrained(self, path: str | os.PathLike[str], tokenizer: Any = None, **options: Any) -> None:
        """Write a directory of the released format, see `ov2kit.recipes.release`."""
        from ov2kit.recipes.release import save_pretrained

        save_pretrained(self, path, tokenizer, **options)


def rows_per_token(connector: Connector) -> int | None:
    """Feature rows that one token stands for, or None if the connector gives items a number of its own.

    Asked of `tokens_out` alone: a connector is blockwise if twice the rows give twice the tokens.
    """
    n = 2**40 * 3**4 * 5**2  # whole blocks for every merge in use, and more rows than any budget of tokens
    once, twice = connector.tokens_out(n), connector.tokens_out(2 * n)
    return n // once if twice == 2 * once and n % once == 0 else None


def positions_from_mask(attention_mask: Tensor) -> Tensor:
    """(B, S) mask -> (B, S) int64 places among the tokens of the row; 1 where padded."""
    return (attention_mask.long().cumsum(-1) - 1).masked_fill(attention_mask == 0, 1)


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """() float32 mean cross entropy between logits (B, S, V) and the next label (B, S) that is not -100."""
    targets = F.pad(labels[:, 1:], (0, 1), value=IGNORE)
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE)
