"""A still picture as one canvas at t = 0."""

import io
import os
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ov2kit.canvases import Canvases
from ov2kit.codec.budget import fit_grid, plan_budget
from ov2kit.codec.frame_tokenizer import whole_frame_positions
from ov2kit.codec.provenance import StageClock, versions
from ov2kit.errors import VideoError

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray | Tensor


class ImageTokenizer:
    """One picture, one canvas, in the same form as codec canvases.

    Args:
        budget_tokens: most merged tokens; the canvas shrinks to fit. `max_pixels` alone by default.
        patch: patch edge in pixels.
        merge: patches per block edge.
        min_pixels: smallest canvas area in pixels.
        max_pixels: largest canvas area in pixels.
        canvas_size: (height, width) in pixels instead.

    Example:
        >>> canvases = ImageTokenizer()("photo.jpg")
    """

    def __init__(
        self,
        *,
        budget_tokens: int | None = None,
        patch: int = 14,
        merge: int = 2,
        min_pixels: int = 3136,
        max_pixels: int = 150_000,
        canvas_size: tuple[int, int] | None = None,
    ) -> None:
        self.budget_tokens = budget_tokens
        self.patch, self.merge = patch, merge
        self.min_pixels, self.max_pixels, self.canvas_size = min_pixels, max_pixels, canvas_size

    def __call__(self, image: ImageSource) -> Canvases:
        """Resize one picture (bicubic, turned as its EXIF says) to a canvas.

        Args:
            image: path, encoded bytes, binary file object, PIL image, (H, W, 3) or (H, W) uint8
                array, or (3, H, W) uint8 tensor.

        Raises:
            VideoError: the input is no picture.
        """
        clock = StageClock()
        with clock("decode"):
            picture = _opened(image)
        side = self.patch * self.merge
        size = self.canvas_size
        if size is None and self.budget_tokens is not None:
            most = min(self.budget_tokens, self.max_pixels // side**2)
            rows, columns = fit_grid(picture.height / picture.width, max(1, most))
            size = (rows * side, columns * side)
        budget = plan_budget(
            (picture.height, picture.width),
            budget_canvases=1,
            budget_tokens=None,
            side=side,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            canvas_size=size,
        )
        with clock("resize"):
            resized = picture.resize((budget.width, budget.height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].contiguous()
        return Canvases(
            images=pixels,
            positions=whole_frame_positions([0], budget.height, budget.width, self.patch),
            groups=torch.zeros(1, dtype=torch.int32),
            is_anchor=torch.ones(1, dtype=torch.bool),
            frame_times={0: 0.0},
            patch=self.patch,
            merge=self.merge,
            signal="none",
            provenance={
                "preset": "image",
                "signal": {"used": "none"},
                "codec": getattr(picture, "format", None) or "pixels",
                "source": {"display_size": [picture.height, picture.width]},
                "options": self.options(),
                "seconds": clock.seconds,
                "versions": versions(),
            },
        )

    def options(self) -> dict[str, Any]:
        """Constructor arguments, for provenance."""
        return dict(vars(self))


def _opened(image: ImageSource) -> Image.Image:
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
            raise VideoError(f"an image tensor must be (3, H, W) uint8, got {tuple(image.shape)} {image.dtype}")
        image = image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
            raise VideoError(f"an image array must be (H, W, 3) or (H, W) uint8, got {image.shape} {image.dtype}")
        return Image.fromarray(image).convert("RGB")
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    label = f"<{len(image)} bytes>" if isinstance(image, bytes) else str(getattr(image, "name", image))
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            turned = ImageOps.exif_transpose(opened)
            return turned.convert("RGB")
    except FileNotFoundError as error:
        raise VideoError(f"{label}: no such file; check the path") from error
    except IsADirectoryError as error:
        raise VideoError(f"{label}: expected an image file, got a folder") from error
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{label}: not a picture that can be opened ({type(error).__name__})") from error
