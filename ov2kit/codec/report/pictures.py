"""Pictures of the report: data addresses, and drawings over them in units of blocks."""

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

_PIXELS = 6_000_000  # of all canvases together; about 1.2 MB of common video
_BYTES = 2_000_000  # of their addresses


def data_address(picture: NDArray[np.uint8], scale: float = 1.0, quality: int = 72) -> str:
    """(H, W, 3) uint8 RGB -> ``data:`` address of a small WebP (or JPEG, where Pillow lacks WebP)."""
    image = Image.fromarray(picture)
    if scale < 1:
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    kind = "WEBP" if features.check("webp") else "JPEG"
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def gallery(pictures: list[NDArray[np.uint8]]) -> list[str]:
    """Data addresses of many (H, W, 3) pictures, smaller if they would make the page heavy."""
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    scale = min(1.0, math.sqrt(_PIXELS / pixels))
    addresses = [data_address(picture, scale) for picture in pictures]
    size = sum(map(len, addresses))
    if size > _BYTES:  # pictures that hardly compress
        scale *= math.sqrt(_BYTES / size)
        addresses = [data_address(picture, scale, 50) for picture in pictures]
    return addresses


def _squares(cells: NDArray[np.int64]) -> str:
    return "".join(f"M{column} {row}h1v1h-1z" for row, column in cells.tolist())


def spotlight(cells: NDArray[np.int64], grid: tuple[int, int]) -> str:
    """SVG over a frame: everything but the (n, 2) cells (block row, block col) is dimmed, cells are outlined."""
    rows, columns = grid
    squares = _squares(cells)
    return (
        f'<svg class="over-picture" viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="dim" fill-rule="evenodd" d="M0 0H{columns}V{rows}H0z{squares}"/>'
        f'<path class="outline" d="{squares}"/></svg>'
    )


def heat_layer(counts: NDArray[np.int64], most: int) -> str:
    """SVG over a frame: each cell of (hb, wb) counts in the heat color, stronger for more."""
    rows, columns = counts.shape
    cells = []
    for level in range(1, 9):  # one path for each of 8 strengths
        low, high = most * (level - 1) / 8, most * level / 8
        inside = np.argwhere((counts > low) & (counts <= high) & (counts > 0))
        if len(inside):
            cells.append(f'<path class="heat" fill-opacity="{0.12 + 0.1 * level:.2f}" d="{_squares(inside)}"/>')
    return (
        f'<svg class="over-picture" viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(cells)}</svg>"
    )
