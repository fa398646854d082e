"""Sizes, grids and token order: the arithmetic every other part agrees on.

Letters: t, h, w patches in time, height and width; m merge (patches per block edge).
Block layout: the m x m patches of a block are consecutive, blocks in raster order within a canvas.
Sources: `smart_resize` of the LLaVA-OneVision-2 codec front end, of its video processor, and of the
Hugging Face Qwen2-VL image processor; patch order of its `patch_positions`.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from einops import rearrange
from torch import Tensor

from ov2kit.errors import CanvasError, OptionError, check_choice, check_number, check_numbers, check_type

ResizeRule = Literal["codec", "image", "video"]
_MAX_ASPECT_RATIO = 200


def smart_resize(
    height: int,
    width: int,
    factor: int = 28,
    min_pixels: int | None = 3136,
    max_pixels: int | None = 150_000,
    *,
    rule: ResizeRule = "codec",
) -> tuple[int, int]:
    """Nearest size with sides that are multiples of `factor` and an area within bounds.

    The three public rules differ only at the edges, and parity needs each of them:

    - ``"codec"`` (codec front end): the bounds are tested on the area that came in, so a small
      picture may round to slightly more than `max_pixels`.
    - ``"image"`` (Hugging Face image processor): the bounds are tested on the rounded area, so
      `max_pixels` holds unless a single row of blocks already exceeds it.
    - ``"video"`` (video processor): as ``"image"`` without the aspect ratio limit; extreme shapes
      may come out as 0.

    Args:
        height: rows in pixels.
        width: columns in pixels.
        factor: patch * merge, in pixels.
        min_pixels: smallest area in pixels; ``None`` or 0 means no limit.
        max_pixels: largest area in pixels; ``None`` or 0 means no limit.
        rule: which public tool to agree with.

    Returns:
        (height, width) in pixels; (0, 0) for an empty picture under ``"codec"``.

    Raises:
        OptionError: an argument is of a wrong type or out of range.
        ValueError: the aspect ratio is above 200 (not under ``"video"``), the picture is empty (not
            under ``"codec"``).
    """
    check_choice("rule", rule, get_args(ResizeRule))
    for name, length in (("height", height), ("width", width)):
        check_number(name, length, integer=True)
    check_number("factor", factor, low=1, integer=True)
    check_number("min_pixels", min_pixels, low=0, integer=True, optional=True)
    check_number("max_pixels", max_pixels, low=0, integer=True, optional=True)
    if height <= 0 or width <= 0:
        if rule == "codec":
            return 0, 0
        raise OptionError(f"smart_resize needs a picture of at least 1 x 1 pixels, got {height} x {width}")
    if rule != "video" and max(height, width) > _MAX_ASPECT_RATIO * min(height, width):
        raise OptionError(
            f"smart_resize takes pictures with an aspect ratio of at most {_MAX_ASPECT_RATIO}, "
            f"got {height} x {width}; crop or pad the picture first"
        )
    smallest = 0 if rule == "image" else factor
    rows = max(smallest, round(height / factor) * factor)
    columns = max(smallest, round(width / factor) * factor)
    area = height * width if rule == "codec" else rows * columns
    least = factor if rule != "video" else 0
    if max_pixels and area > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        rows = max(least, math.floor(height / shrink / factor) * factor)
        columns = max(least, math.floor(width / shrink / factor) * factor)
    elif min_pixels and area < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        rows = math.ceil(height * grow / factor) * factor
        columns = math.ceil(width * grow / factor) * factor
    return rows, columns


def grid_positions(t: int, h: int, w: int, frame_indices: Sequence[int] | None = None) -> Tensor:
    """Positions of a dense t x h x w patch grid in raster order, t slowest.

    Args:
        t: number of frames.
        h: patch rows.
        w: patch columns.
        frame_indices: source frame of each of the t frames; 0..t-1 when omitted.

    Returns:
        (t*h*w, 3) int64 of (frame, row, col).

    Raises:
        ValueError: a size is below 0 or no whole number, or `frame_indices` does not hold t numbers.
    """
    for name, size in (("t", t), ("h", h), ("w", w)):
        check_number(name, size, low=0, integer=True)
    if not isinstance(frame_indices, Tensor):
        check_numbers("frame_indices", frame_indices, integer=True, optional=True)
    frames = torch.arange(t) if frame_indices is None else torch.as_tensor(list(frame_indices))
    if len(frames) != t:
        raise OptionError(f"grid_positions needs one frame index per frame: t={t}, got {len(frames)}")
    grid = torch.meshgrid(frames.long(), torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack(grid, dim=-1).reshape(-1, 3)


def check_grids(name: str, grids: Tensor | Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Rows (t, h, w) of whole numbers, from lists or a tensor.

    Raises:
        OptionError: names the argument.
    """
    listed: Any = grids.tolist() if hasattr(grids, "tolist") else grids
    check_type(name, listed, list | tuple, "rows of (t, h, w)")
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in listed]
    for place, row in enumerate(rows):
        check_numbers(f"{name}[{place}]", row, length=3, low=0, integer=True)
    return rows


def to_block_layout(x: Tensor, merge: int) -> Tensor:
    """(t, h, w, ...) raster -> (t*h*w, ...) with the merge x merge patches of a block consecutive.

    Raises:
        ValueError: h or w is not a multiple of `merge`.
    """
    check_number("merge", merge, low=1, integer=True)
    if x.ndim < 3 or x.shape[1] % merge or x.shape[2] % merge:
        raise OptionError(
            f"to_block_layout needs (t, h, w, ...) with h and w multiples of merge={merge}, got {tuple(x.shape)}"
        )
    return rearrange(x, "t (h a) (w b) ... -> (t h w a b) ...", a=merge, b=merge)


def from_block_layout(x: Tensor, grid: tuple[int, int, int], merge: int) -> Tensor:
    """(t*h*w, ...) in block layout -> (t, h, w, ...) raster; the inverse of `to_block_layout`.

    Raises:
        ValueError: the rows do not fill `grid`, or `grid` is not a multiple of `merge`.
    """
    check_numbers("grid", grid, length=3, low=0, integer=True)
    check_number("merge", merge, low=1, integer=True)
    t, h, w = grid
    if len(x) != t * h * w or h % merge or w % merge:
        raise OptionError(
            f"from_block_layout needs t*h*w rows with h and w multiples of merge={merge}, "
            f"got {len(x)} rows for grid {grid}"
        )
    return rearrange(x, "(t h w a b) ... -> t (h a) (w b) ...", t=t, h=h // merge, w=w // merge, a=merge, b=merge)


def check_blocks(positions: Tensor, merge: int, name: str) -> Tensor:
    """Whether a canvas holds blocks of merge x merge neighboring patches of one frame, in order, and whole padding.

    Args:
        positions: (H, W, 3) source (frame, row, col) of each patch on the canvas; -1 is padding.
        merge: patches per block edge.
        name: begins the messages.

    Returns:
        (H * W / merge**2, 3) source of each block's first patch; (-1, -1, -1) is padding.

    Raises:
        CanvasError: a block does not hold neighbors or is only partly padding, all of them are padding, a position
            lies outside the canvas' own grid, or blocks are not in increasing (frame, row, col) order.
    """
    h, w = positions.shape[:2]
    blocks = to_block_layout(positions[None], merge).reshape(-1, merge**2, 3)
    padding = (blocks < 0).any(-1)
    if not torch.equal(padding.all(1), padding.any(1)) or (blocks[padding] != -1).any():
        raise CanvasError(f"{name}: a block is only partly padding (-1, -1, -1)")
    real = blocks[~padding.all(1)]
    if len(real) == 0:
        raise CanvasError(f"{name}: every block is padding")
    corner = real[:, 0]
    offsets = torch.cartesian_prod(torch.arange(merge), torch.arange(merge)).int().reshape(-1, 2)
    whole = torch.cat([corner[:, None, :1].expand(-1, merge**2, 1), corner[:, None, 1:] + offsets], dim=2)
    if not torch.equal(real, whole) or (corner[:, 1:] % merge).any():
        raise CanvasError(f"{name}: a block does not hold {merge} x {merge} neighboring patches of one frame")
    if (corner[:, 1] >= h).any() or (corner[:, 2] >= w).any():
        raise CanvasError(f"{name}: a source position lies outside the {h} x {w} patch grid")
    order = (corner[:, 0].long() * h + corner[:, 1]) * w + corner[:, 2]
    if (order[1:] <= order[:-1]).any():
        raise CanvasError(f"{name}: blocks are not in increasing (frame, row, col) order")
    return blocks[:, 0]
