"""What stands under `model.` in the names of the release: pixels and text in, hidden states out.

The head, and what the language model does with hidden states beyond it, stand above, in `LlavaOneVision2`.
Letters: B rows, S text length, N packed patches, M visual tokens, C width of the language model.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from ov2kit.connectors import PatchMerger
from ov2kit.recipes.model.layout import Visual
from ov2kit.recipes.model.sight import sight
from ov2kit.recipes.model.visual import Grid, embed, visual_tokens
from ov2kit.segments import Segments


class Inner(nn.Module):
    """Encoder and connector before the layers of a language model, which `LlavaOneVision2` puts in.

    Args:
        config: of the model.
        encoder: see `Visual`.
        connector: a `PatchMerger` is among the encoder's layers, any other one is `model.connector`.
    """

    def __init__(self, config: Any, encoder: nn.Module, connector: nn.Module) -> None:
        super().__init__()
        self.config = config
        is_released = isinstance(connector, PatchMerger) and "merger" not in encoder._modules
        self.visual = Visual(encoder, connector if is_released else None)
        if not is_released:
            self.connector = connector

    @property
    def bridge(self) -> nn.Module:
        """The connector, wherever it stands."""
        return self._modules.get("connector") or self.visual.merger

    def embed(self, input_ids: Tensor, tokens: Tensor | None) -> Tensor:
        """See `LlavaOneVision2.embed`."""
        embedding = cast(Any, self.language_model).get_input_embeddings()
        return embed(embedding, self.config.image_token_id, input_ids, tokens)

    def see(
        self,
        pixel_values: Tensor | None,
        positions: Tensor | None,
        segments: Segments | Tensor | None = None,
        items: Segments | Tensor | None = None,
        grid_thw: Grid | None = None,
    ) -> Tensor | None:
        """Visual tokens (M, C), or None where there is nothing to see; see `LlavaOneVision2.visual_tokens`."""
        if pixel_values is None or not len(pixel_values):
            return None
        if positions is None:
            raise ValueError("pixel_values need patch_positions (N, 3), got None")
        return visual_tokens(
            self.visual, self.bridge, pixel_values, positions, segments, items=items, grid_thw=grid_thw
        )

    def idle(self, device: torch.device) -> Tensor:
        """Tokens of one black block.

        With several processes every one must run every part, whether its rows hold pictures or not: a
        sharded part is gathered by all, and gradients are averaged over all.
        """
        encoder = self.visual.whole
        side: int = getattr(encoder, "merge", 2)
        patch, channels = (getattr(encoder, name, n) for name, n in (("patch", 14), ("channels", 3)))
        pixels = torch.zeros(side * side, channels * patch * patch, device=device)
        positions = torch.zeros(side * side, 3, dtype=torch.int32, device=device)
        segments = Segments.from_lengths([side * side], device)
        return cast(Tensor, self.see(pixels, positions, segments, grid_thw=[(1, side, side)]))

    def read(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        pixel_values: Tensor | None,
        positions: Tensor | None,
        segments: Segments | Tensor | None,
        items: Segments | Tensor | None,
        grid_thw: Grid | None,
    ) -> tuple[Tensor, int]:
        """Embeddings (B, S, C) with the visual tokens in, and how many of these there are."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected input_ids or inputs_embeds, and one of them only")
        if inputs_embeds is not None:
            return inputs_embeds, 0
        tokens = self.see(pixel_values, positions, segments, items, grid_thw)
        found = self.embed(cast(Tensor, input_ids), tokens)
        if tokens is None and several_processes():
            found = found + 0 * self.idle(found.device).sum()
        return found, 0 if tokens is None else len(tokens)

    def sight(self, attention_mask: Tensor | None, position_ids: Tensor | None, past: Any) -> dict[str, Any]:
        """What the language model takes so that tokens see what they should."""
        if past is None:
            return sight(cast(Any, self.language_model).config._attn_implementation, attention_mask, position_ids)
        given = {"attention_mask": attention_mask, "position_ids": position_ids}
        return {"past_key_values": past} | {name: value for name, value in given.items() if value is not None}

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        patch_positions: Tensor | None = None,
        segments: Segments | Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        items: Segments | Tensor | None = None,
        image_grid_thw: Grid | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        **options: Any,
    ) -> Any:
        """Hidden states, as the language model's layers give them; arguments as of `LlavaOneVision2`."""
        embeds, _ = self.read(input_ids, inputs_embeds, pixel_values, patch_positions, segments, items, image_grid_thw)
        seeing = self.sight(attention_mask, position_ids, past_key_values)
        return cast(Any, self.language_model)(inputs_embeds=embeds, use_cache=use_cache, **seeing, **options)


def several_processes() -> bool:
    """Whether this is one of several training processes."""
    spread = torch.distributed
    return spread.is_available() and spread.is_initialized() and spread.get_world_size() > 1
