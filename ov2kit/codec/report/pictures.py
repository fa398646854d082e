"""Pictures of the report as data addresses."""

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
