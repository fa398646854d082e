"""Mirrored samples: canvases and the texts about them, changed together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from einops import rearrange

from ov2kit.canvases import Canvases
from ov2kit.errors import DataError
from ov2kit.recipes.spatial.augment import Mirror, move_text
from ov2kit.recipes.spatial.space import THOUSANDTHS, Space


def mirror_canvases(canvases: Canvases) -> Canvases:
    """The canvases of the mirrored video: the same blocks, each mirrored, at their mirrored places.

    Blocks of a canvas are put back into (frame, row, column) order, so frames keep their runs of tokens and the prompt
    its time stamps. Whole frames are exactly the frames of a mirrored video; of other canvases the choice of
    blocks is that of the original.

    Args:
        canvases: K canvases of any kind.

    Returns:
        Canvases of the same shape. Mirroring twice gives the original.
    """
    m, side = canvases.merge, canvases.merge * canvases.patch
    rows, columns = (edge // m for edge in canvases.grid)
    pixels = rearrange(canvases.images, "k c (h a) (w b) -> k (h w) c a b", a=side, b=side).flip(-1)
    places = rearrange(canvases.positions, "k (h a) (w b) x -> k (h w) a b x", a=m, b=m).flip(3).clone()
    real = places[..., 0] >= 0
    places[..., 2] = torch.where(real, canvases.grid[1] - 1 - places[..., 2], places[..., 2])
    corner = places[:, :, 0, 0].long()
    key = (corner[..., 0] * canvases.grid[0] + corner[..., 1]) * canvases.grid[1] + corner[..., 2]
    for k in range(len(canvases)):
        slots = real[k, :, 0, 0].nonzero()[:, 0]
        source = slots[key[k, slots].argsort()]
        pixels[k, slots], places[k, slots] = pixels[k, source], places[k, source]
    return replace(
        canvases,
        images=rearrange(pixels, "k (h w) c a b -> k c (h a) (w b)", h=rows, w=columns).contiguous(),
        positions=rearrange(places, "k (h w) a b x -> k (h a) (w b) x", h=rows, w=columns).contiguous(),
    )


def mirror_messages(messages: Sequence[Mapping[str, Any]], space: Space = THOUSANDTHS) -> list[dict[str, Any]]:
    """Messages about the mirrored pictures; their media are the caller's to mirror.

    Subtitles are not looked into: a video that has some is refused.

    Args:
        messages: {"role", "content": [parts]}, as conversations hold them.
        space: what the numbers of boxes and points refer to.

    Raises:
        DataError: subtitles, or a text that cannot be kept true, see `move_text`.
    """
    mirror = Mirror()
    return [{**message, "content": [_part(part, mirror, space) for part in message["content"]]} for message in messages]


def _part(part: Mapping[str, Any], mirror: Mirror, space: Space) -> dict[str, Any]:
    if part.get("subtitles") is not None:
        raise DataError("subtitles may name sides; a video with subtitles is not mirrored")
    return {**part, "text": move_text(part["text"], mirror, space)} if part["type"] == "text" else dict(part)
