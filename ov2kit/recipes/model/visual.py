"""From packed pixels to tokens of the language model, and into its text: what every form of the model shares.

Letters: B rows, S text length, N packed patches, M visual tokens, C width of the language model.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ov2kit.connectors.interface import Connector, host_grids
from ov2kit.segments import Segments

Grid = Tensor | Sequence[Sequence[int]]


def visual_tokens(
    encoder: nn.Module,
    connector: nn.Module,
    pixel_values: Tensor,
    positions: Tensor,
    segments: Segments | Tensor | None = None,
    *,
    items: Segments | Tensor | None = None,
    grid_thw: Grid | None = None,
) -> Tensor:
    """Pixels to tokens of the language model's width, (M, C); see `LlavaOneVision2.visual_tokens`."""
    if isinstance(items, Tensor):
        items = Segments.from_cu_seqlens(items)
    if segments is None:
        if grid_thw is None:
            raise ValueError("pixel_values need segments (or grid_thw) to know which patches see each other")
        items = items or Segments.from_grid(grid_thw, None, pixel_values.device)
        segments = cast(Segments, cast(Any, encoder).visibility(grid_thw))
    if isinstance(segments, Tensor):
        segments = Segments.from_cu_seqlens(segments)
    extra = {"grid_thw": grid_thw} if getattr(encoder, "windowed", False) else {}
    features = encoder(pixel_values, positions, segments, **extra)
    real = positions[:, 0] >= 0
    bridge = cast(Connector, connector)
    block = bridge.rows_per_token
    if bridge.needs_grids:  # sees canvases, so padding cannot be taken out before
        if grid_thw is None:
            raise ValueError(f"{type(connector).__name__} needs grid_thw to know the canvases, got None")
        grids = host_grids(cast(Any, grid_thw))
        if block is None:
            grids = [(1, h, w) for t, h, w in grids for _ in range(t)]
        tokens = bridge(features, grids=grids)
    elif block is not None:
        tokens = bridge(features)
    else:
        counts = (items or segments).lengths
        kept = torch.stack([part.sum() for part in real.split(list(counts))]).tolist()  # type: ignore[no-untyped-call]
        tokens = bridge(features[real], [n for n in kept if n])
    return tokens if block is None else tokens[real.view(-1, block).any(1)]


def embed(embedding: nn.Module, image_token_id: int, input_ids: Tensor, tokens: Tensor | None) -> Tensor:
    """(B, S, C) text embeddings with the visual tokens (M, C) in the place of the image pads, row by row.

    Raises:
        ValueError: the ids hold another number of image pads than there are tokens.
    """
    pads = input_ids == image_token_id
    embeds = cast(Tensor, embedding(input_ids.masked_fill(pads, 0)))
    wanted, given = int(pads.sum()), 0 if tokens is None else len(tokens)
    if wanted != given:
        raise ValueError(
            f"the text holds {wanted} image pads (token {image_token_id}) but the pictures give {given} "
            "visual tokens; both must come from the same canvases"
        )
    if tokens is None or not given:
        return embeds
    return embeds.masked_scatter(pads.unsqueeze(-1), tokens.to(embeds))
