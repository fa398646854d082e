"""A still picture, whatever it is handed over as, opened as 8-bit RGB the right way up.

What is behind transparent pixels is white. Letters: H x W pixels.
"""

import base64
import binascii
import io
import os
import re
import struct
from contextlib import nullcontext
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ov2kit.errors import VideoError, shorten
from ov2kit.files import check_file

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | np.ndarray | Tensor

#: the largest pictures of cameras (108 million pixels) are within it
MAX_SOURCE_PIXELS = 2**27
_DATA_ADDRESS = re.compile(r"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
_FORMS = "(H, W), (H, W, 1), (H, W, 3), (H, W, 4), or with the channels first"


def open_picture(source: ImageSource, max_source_pixels: int = MAX_SOURCE_PIXELS) -> tuple[Image.Image, str]:
    """A picture as RGB, turned as its EXIF says, and the name of its format.

    Args:
        source: a path; a ``data:`` address; encoded bytes, bytearray or memoryview; a binary file object, read from
            its start where it can seek; a PIL image; or an array or tensor of (H, W), (H, W, 1), (H, W, 3), (H, W, 4)
            or with the channels first, of uint8, of uint16 in [0, 65535], or of floats in [0, 1]. PIL's 32-bit
            integers are taken for 16-bit gray, its floats for gray in [0, 1].
        max_source_pixels: most pixels, known from the header before any of them takes memory.

    Raises:
        VideoError: no picture, one of too many pixels, or values of unknown range.
    """
    if isinstance(source, Tensor):
        source = _array(source)
    if isinstance(source, np.ndarray):
        return _on_white(_from_array(source)), "pixels"
    opening, label = (nullcontext(source), "the image") if isinstance(source, Image.Image) else _file(source)
    try:
        with opening as file:
            picture: Image.Image = file if isinstance(source, Image.Image) else open_header(file)
            if (pixels := picture.width * picture.height) > max_source_pixels:
                raise VideoError(
                    f"{label}: {picture.width} x {picture.height} are {pixels} pixels, more than "
                    f"max_source_pixels={max_source_pixels}; allow more if it is meant to be so large"
                )
            return _rgb(picture, label), picture.format or "pixels"
    except VideoError:
        raise
    except Exception as error:  # whatever a broken file does to the plugin that reads it
        raise VideoError(f"{label}: not a picture that can be opened ({type(error).__name__})") from error


def open_header(file: Any) -> Image.Image:
    """The picture in a file that can seek; its size is known and no pixel is read.

    This is `PIL.Image.open` without its bound on the size, which is a global of the process and warns at
    half of it: the caller compares the size with its own bound.

    Raises:
        UnidentifiedImageError: no format that Pillow knows.
    """
    Image.init()
    start = file.tell()
    prefix = file.read(16)
    for name in Image.ID:
        make, accept = Image.OPEN[name]
        try:
            accepted = accept is None or accept(prefix)
            if not accepted or isinstance(accepted, str):  # a string says what is missing to read it
                continue
            file.seek(start)
            return make(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # it was another format after all
            continue
    raise UnidentifiedImageError("of no known format")


def data_address(text: object) -> bytes | None:
    """What a ``data:`` address holds; None for everything else.

    Raises:
        VideoError: it is not base64.
    """
    if not isinstance(text, str) or not (head := _DATA_ADDRESS.match(text)):
        return None
    if head[1] is None:
        raise VideoError(f"expected a data address in base64, got {shorten(text)}")
    try:
        return base64.b64decode(text[head.end() :], validate=True)
    except binascii.Error as error:
        raise VideoError(f"a data address that is not base64 ({error}): {shorten(text)}") from error


def _file(source: Any) -> tuple[Any, str]:
    """A file that can seek, closed by the caller if it was opened here, and what to call it."""
    if (held := data_address(source)) is not None:
        return io.BytesIO(held), f"<data address of {len(held)} bytes>"
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source), f"<{len(source)} bytes>"
    if isinstance(source, str | os.PathLike):
        path = check_file(os.path.expanduser(source), "an image file", VideoError)
        return open(path, "rb"), str(path)
    if not hasattr(source, "read"):
        raise VideoError(f"expected a picture, got {type(source).__name__}; give a path, bytes, a file or an array")
    if getattr(source, "seekable", bool)():
        source.seek(0)
    content = source.read()
    if not isinstance(content, bytes):
        raise VideoError(f"expected a file opened in binary mode, got one that gives {type(content).__name__}")
    return io.BytesIO(content), f"<{getattr(source, 'name', type(source).__name__)}>"


def _rgb(picture: Image.Image, label: str) -> Image.Image:
    turned: Any = ImageOps.exif_transpose(picture)
    mode = turned.mode
    if mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(turned), label)).convert("RGB")
    if mode.startswith("I"):  # "I" is what Pillow makes of 16-bit gray in several formats
        values = np.asarray(turned)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise VideoError(f"{label}: expected 16-bit gray in [0, 65535], got {values.min()} to {values.max()}")
        return Image.fromarray(_eight_bits(values.astype(np.uint16), label)).convert("RGB")
    return _on_white(turned)


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    shown = picture.convert("RGBA")
    white = Image.new("RGBA", shown.size, "white")
    return Image.alpha_composite(white, shown).convert("RGB")


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    shape = array.shape
    if array.ndim not in (2, 3) or 0 in shape:
        raise VideoError(f"an image array must be {_FORMS}; got {shape}")
    if array.ndim == 3:
        first, last = (shape[axis] in (1, 3, 4) for axis in (0, 2))
        if first and last:
            raise VideoError(
                f"an image array of {shape} may have its channels first or last; make it (H, W, 3), or give a PIL image"
            )
        if not (first or last):
            raise VideoError(f"an image array must be {_FORMS}; got {shape}")
        array = np.moveaxis(array, 0, 2) if first else array
        array = array[..., 0] if array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(_eight_bits(array, "an image array")))


def _eight_bits(array: np.ndarray, label: str) -> np.ndarray:
    """uint8, from uint8, from uint16 in [0, 65535] or from floats in [0, 1]."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        array = (array.astype(np.uint32) * 255 + 32767) // 65535
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise VideoError(f"{label}: floats must be in [0, 1], got {array.min():g} to {array.max():g}; divide them")
        array = np.rint(array.astype(np.float32) * 255)
        return array.astype(np.uint8)
    raise VideoError(f"{label}: values must be uint8, uint16, bool or floats in [0, 1], got {array.dtype}")
