"""A still picture as one canvas at t = 0."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from ov2kit.canvases import Canvases
from ov2kit.codec.provenance.provenance import Provenance, SignalRecord, SourceRecord
from ov2kit.codec.tokenizers.budget import check_canvas_options, fit_grid, plan_budget
from ov2kit.codec.tokenizers.frames import whole_frame_positions
from ov2kit.codec.tokenizers.interface import Progress
from ov2kit.codec.tokenizers.provenance import StageClock, versions
from ov2kit.codec.video.still import MAX_SOURCE_PIXELS, ImageSource, open_picture
from ov2kit.errors import check_number


class ImageTokenizer:
    """One picture, one canvas, in the same form as codec canvases.

    Args:
        budget_tokens: most merged tokens; the canvas shrinks to fit. `max_pixels` alone by default.
        patch: patch edge in pixels.
        merge: patches per block edge.
        min_pixels: smallest canvas area in pixels.
        max_pixels: largest canvas area in pixels.
        canvas_size: (height, width) in pixels instead.
        max_source_pixels: most pixels of the picture as it comes; a larger one is refused by its header.

    Raises:
        BudgetError: a budget or canvas size that cannot be met.
        OptionError: an option is of a wrong type or out of range.

    Example:
        >>> ImageTokenizer()("photo.jpg").images.shape  # a picture of 300 x 200 pixels
        torch.Size([1, 3, 196, 308])
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
        max_source_pixels: int = MAX_SOURCE_PIXELS,
    ) -> None:
        check_canvas_options(
            budget_tokens=budget_tokens, patch=patch, merge=merge,
            min_pixels=min_pixels, max_pixels=max_pixels, canvas_size=canvas_size,
        )  # fmt: skip
        check_number("max_source_pixels", max_source_pixels, low=1, integer=True)
        self.budget_tokens = budget_tokens
        self.patch, self.merge = patch, merge
        self.min_pixels, self.max_pixels, self.canvas_size = min_pixels, max_pixels, canvas_size
        self.max_source_pixels = max_source_pixels

    def __call__(self, image: ImageSource, *, progress: Progress | None = None) -> Canvases:
        """Resize one picture (bicubic, turned as its EXIF says) to a canvas.

        Args:
            image: path, ``data:`` address, encoded bytes, binary file object, PIL image, array or tensor; see
                `ov2kit.codec.video.still.open_picture`.
            progress: called with 1 and 1 once the picture is decoded.

        Raises:
            VideoError: the input is no picture, or one of too many pixels.
        """
        clock = StageClock()
        with clock("decode"):
            picture, kind = open_picture(image, self.max_source_pixels)
        if progress is not None:
            progress(1, 1)
        height, width = self._size(picture.height, picture.width)
        with clock("resize"):
            resized = picture.resize((width, height), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].contiguous()
        return Canvases(
            images=pixels,
            positions=whole_frame_positions([0], height, width, self.patch),
            groups=torch.zeros(1, dtype=torch.int32),
            is_anchor=torch.ones(1, dtype=torch.bool),
            frame_times={0: 0.0},
            patch=self.patch,
            merge=self.merge,
            signal="none",
            provenance=Provenance(
                preset="image",
                signal=SignalRecord(used="none"),
                codec=kind,
                source=SourceRecord(display_size=(picture.height, picture.width)),
                options=self.options(),
                seconds=clock.seconds,
                versions=versions(),
            ).to_dict(),
        )

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the canvas: as without a budget where that fits, else the largest grid that does."""
        side = self.patch * self.merge
        plan = plan_budget(
            (height, width),
            budget_canvases=1,
            budget_tokens=None,
            side=side,
            min_pixels=self.min_pixels,
            max_pixels=self.max_pixels,
            canvas_size=self.canvas_size,
        )
        if self.budget_tokens is None or plan.tokens_per_canvas <= self.budget_tokens:
            return plan.height, plan.width
        rows, columns = fit_grid(height / width, self.budget_tokens)
        return rows * side, columns * side

    def options(self) -> dict[str, Any]:
        """Constructor arguments, for provenance."""
        return {name: value for name, value in vars(self).items() if name != "max_source_pixels"}
