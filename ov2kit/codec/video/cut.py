"""Blocks cut out of pictures that are kept as decoded: scaled without the rest where few are taken of a picture."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.video.block_scaler import Layout, rgb_blocks
from ov2kit.codec.video.pictures import HeldPicture

_FEW, _FEW_COMPILED = 0.2, 0.4  # of a picture: it takes less time to scale the whole of one of which more is taken


def cut_blocks(pictures: Sequence[HeldPicture | None], blocks: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The blocks of pictures of which few are asked, pixel for pixel as in `HeldPicture.rgb`.

    Args:
        pictures: of one video; None where one is not kept.
        blocks: (n, 3) int64 of (which of the pictures, block row, block col) as shown.
        side: of a block in pixels; those of the pictures are multiples of it.

    Returns:
        (n,) bool, which of the blocks there are, and their (m, 3, side, side) uint8 pixels. The rest is to be
        taken from whole pictures.
    """
    made = np.zeros(len(blocks), dtype=bool)
    places, pixels = [np.flatnonzero(made)], [np.empty((0, 3, side, side), dtype=np.uint8)]
    for layout, members in _layouts(pictures, blocks[:, 0], side).items():
        held = [picture for member in members if (picture := pictures[member]) is not None]
        size, orientation = held[0].size, held[0].orientation
        center = held[0].scaler.chroma_center(held[0].frame, layout)
        if center is None:
            continue
        place = np.flatnonzero(np.isin(blocks[:, 0], members))
        place = place[blocks[place, 0].argsort(kind="stable")]
        which, rows, columns = blocks[place].T
        coded = orientation.cells(rows, columns, (size[0] // side, size[1] // side))
        asked = np.stack([np.searchsorted(members, which), *coded], axis=1)
        found = rgb_blocks([each.frame for each in held], layout, center, asked, orientation.size(*size), side)
        pixels.append(orientation.picture(found))
        places.append(place)
    order = np.concatenate(places)
    made[order] = True
    return made, np.concatenate(pixels)[order.argsort()]


def _layouts(pictures: Sequence[HeldPicture | None], which: np.ndarray, side: int) -> dict[Layout, list[int]]:
    """The pictures, in order, of which few blocks are asked and whose blocks can be made alone."""
    found, few = defaultdict(list), _FEW_COMPILED if uses_kernels() else _FEW
    for place, count in zip(*(each.tolist() for each in np.unique(which, return_counts=True)), strict=True):
        picture = pictures[place]
        if picture is None or count > few * (picture.size[0] // side) * (picture.size[1] // side):
            continue
        layout = picture.scaler.layout(picture.frame)
        # At its own size a picture is scaled in another way.
        if layout is not None and layout.size != picture.orientation.size(*picture.size):
            found[layout].append(place)
    return dict(found)
