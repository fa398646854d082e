"""Order of the patches in a public position file: found by checking, never guessed.

The public tool writes the source positions of a canvas in raster order; an older one wrote block
order (merge x merge patches of a block consecutive) into a file of the same name. Every block of a
canvas is one whole block of a source frame, or padding, so in the wrong order the blocks fall apart.
Letters: K canvases, h x w patches per canvas, m merge, P = h * w.
"""

from typing import Literal

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from ov2kit.errors import AssetError

Order = Literal["raster", "block"]
PositionArray = NDArray[np.int32]


def to_raster(positions: PositionArray, grid: tuple[int, int], merge: int, order: Order) -> PositionArray:
    """(K, P, 3) in the given order -> (K, h, w, 3)."""
    h, w = grid
    if order == "raster":
        return rearrange(positions, "k (h w) c -> k h w c", h=h, w=w)
    return rearrange(positions, "k (h w a b) c -> k (h a) (w b) c", h=h // merge, w=w // merge, a=merge, b=merge)


def from_raster(positions: PositionArray, merge: int, order: Order) -> PositionArray:
    """(K, h, w, 3) -> (K * P, 3) in the given order; the inverse of `to_raster`."""
    if order == "raster":
        return rearrange(positions, "k h w c -> (k h w) c")
    return rearrange(positions, "k (h a) (w b) c -> (k h w a b) c", a=merge, b=merge)


def broken_canvas(positions: PositionArray, merge: int) -> int | None:
    """The first canvas with a block that is neither padding nor one whole source block; None if all fit.

    Args:
        positions: (K, h, w, 3) source (frame, patch row, patch col); -1 is padding.
        merge: patches per block edge.
    """
    h, w = positions.shape[1:3]
    blocks = rearrange(positions, "k (h a) (w b) c -> k (h w) (a b) c", a=merge, b=merge)
    corner = blocks[:, :, :1]
    steps = np.stack([np.zeros(merge * merge, int), *np.divmod(np.arange(merge * merge), merge)], axis=1)
    inside = (corner >= 0).all(-1) & (corner[..., 1] < h) & (corner[..., 2] < w)
    aligned = (corner[..., 1:] % merge == 0).all(-1)
    whole = inside[..., 0] & aligned[..., 0] & (blocks == corner + steps).all((-1, -2))
    padding = (blocks == -1).all((-1, -2))
    fits = (whole | padding).all(-1)
    return None if fits.all() else int(np.argmin(fits))


def find_order(positions: PositionArray, grid: tuple[int, int], merge: int, source: str) -> Order:
    """The one order in which (K, P, 3) positions are whole blocks; "raster" when both say the same.

    Args:
        positions: (K, P, 3) as stored.
        grid: (h, w) patches of a canvas.
        merge: patches per block edge.
        source: named in the errors.

    Raises:
        AssetError: neither order fits, or both do and differ.
    """
    either: dict[Order, PositionArray] = {
        "raster": to_raster(positions, grid, merge, "raster"),
        "block": to_raster(positions, grid, merge, "block"),
    }
    broken = {order: broken_canvas(grids, merge) for order, grids in either.items()}
    fitting: list[Order] = [order for order in either if broken[order] is None]
    if not fitting:
        raise AssetError(
            f"{source}: positions are whole {merge} x {merge} source blocks neither in raster order (canvas "
            f"{broken['raster']} breaks) nor in block order (canvas {broken['block']} breaks); check patch and "
            'merge, or pass order="raster" or order="block" to read them as they are'
        )
    if len(fitting) == 2 and not np.array_equal(either["raster"], either["block"]):
        raise AssetError(
            f"{source}: positions are whole {merge} x {merge} source blocks in raster and in block order alike, "
            'and the two differ; pass order="raster" or order="block"'
        )
    return fitting[0]
