"""What the model takes of a batch beside its text."""

from typing import Any

from ov2kit.recipes.prompt.layout import Visibility
from ov2kit.recipes.prompt.sample import Batch


def visual_inputs(batch: Batch, visibility: Visibility = "group", window: int = 4) -> dict[str, Any]:
    """Keyword arguments of `LlavaOneVision2`: pixels, where they lie, and who sees whom.

    Args:
        batch: as `collate` or `pack` makes it.
        visibility: which canvases see each other in the encoder, see `VisualLayout.segments`.
        window: canvases per window, for visibility "window".

    Returns:
        pixel_values (N, 3*p*p), patch_positions (N, 3), segments, items (the groups, for connectors that work on
        items) and image_grid_thw; nothing for a batch of text alone.
    """
    layout, device = batch.layout, batch.pixel_values.device
    if not layout.num_patches:
        return {}
    return {
        "pixel_values": batch.pixel_values,
        "patch_positions": batch.positions,
        "segments": layout.segments(visibility, window, device),
        "items": layout.segments("group", device=device),
        "image_grid_thw": layout.grid_thw(),
    }
