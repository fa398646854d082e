"""Canvases -> a directory in the public asset layout, so that other tools can use ours.

The layout is that of the public codec front end (PyPI `codec-video-prep` 0.2.5) and of the readers
in the LLaVA-OneVision-2 checkpoint and in lmms-eval; docs/assets.md lists every file.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ov2kit.canvases import Canvases
from ov2kit.codec.assets import files
from ov2kit.codec.assets.facts import KIND, VERSION, has_pixels, is_done_without_mark
from ov2kit.codec.assets.order import Order, PositionArray, broken_canvas, from_raster
from ov2kit.errors import AssetError, CanvasError, check_choice, check_flag, check_number, check_type
from ov2kit.files import format_name, write_folder


def save_assets(
    canvases: Canvases,
    directory: str | os.PathLike[str],
    format: files.Format = "png",
    *,
    order: Order = "raster",
    quality: int = 95,
    partly_padded: Literal["keep", "drop"] = "keep",
    overwrite: bool = False,
) -> Path:
    """Write canvases as a directory of the public layout. It appears whole or not at all.

    Args:
        canvases: of one clip (`Canvases.split` separates several).
        directory: the directory to make; its parents are made too.
        format: "png" and "npy" keep every pixel; "jpg" is what the public tool writes, and loses
            some. lmms-eval reads png and jpg, the public tool's own reader all three.
        order: order of the position rows within a canvas. Every known reader expects "raster".
        quality: of jpg, 1 to 100; the public tool uses 95.
        partly_padded: "drop" leaves out canvases that hold both blocks and padding. The readers in
            the LLaVA-OneVision-2 checkpoint and in lmms-eval refuse a whole directory for one of
            them; ours keeps them. meta.json counts them.
        overwrite: replace an asset directory that is there. Anything else in its place stays.

    Returns:
        The path of the directory.

    Raises:
        AssetError: the place is taken.
        OutputError: it cannot be written there.
        CanvasError: several clips, no canvas, a block that is not whole, or a frame without a time.
        OptionError: an option is unknown, of a wrong type or out of range.
    """
    check_type("canvases", canvases, Canvases, "a Canvases")
    check_type("directory", directory, (str, os.PathLike), "a path")
    check_choice("format", format, get_args(files.Format))
    check_choice("order", order, get_args(Order))
    check_number("quality", quality, low=1, high=100, integer=True)
    check_choice("partly_padded", partly_padded, ("keep", "drop"))
    check_flag("overwrite", overwrite)
    if partly_padded == "drop":
        canvases = _full_only(canvases)
    positions = canvases.positions.cpu().numpy()
    _check_saveable(canvases, positions)
    target = Path(directory).expanduser().resolve()
    _check_place(target, overwrite)
    names = files.canvas_names(len(canvases), format)
    meta = json.dumps(_meta(canvases, names, order), default=str, indent=1)
    with write_folder(target, replace=True) as scratch:
        pictures = canvases.images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        files.write_pictures(scratch, names, pictures, quality)
        np.save(scratch / files.POSITIONS, from_raster(positions, canvases.merge, order), allow_pickle=False)
        np.save(scratch / files.FRAME_IDS, np.array(_frame_ids(canvases), dtype=np.int32), allow_pickle=False)
        (scratch / files.META).write_text(meta, encoding="utf-8")
        (scratch / files.DONE).write_text("ok\n", encoding="utf-8")
    return target


def _check_saveable(canvases: Canvases, positions: PositionArray) -> None:
    if len(canvases) == 0:
        raise CanvasError("there is no canvas to save")
    if len(canvases.clip_times()) > 1:
        raise CanvasError(
            f"the public layout holds one clip, got {len(canvases.clip_times())}; save each of canvases.split()"
        )
    if (broken := broken_canvas(positions, canvases.merge)) is not None:
        raise CanvasError(f"canvas {broken}: a block is neither padding nor one whole source block")
    if not has_pixels(positions).all():
        raise CanvasError(f"canvas {int(np.argmin(has_pixels(positions)))}: every block is padding")
    missing = set(np.unique(positions[..., 0]).tolist()) - set(_frame_ids(canvases)) - {-1}
    if missing:
        raise CanvasError(f"no time for source frame(s) {sorted(missing)[:5]}")


def _full_only(canvases: Canvases) -> Canvases:
    full = (canvases.positions[..., 0] >= 0).flatten(1).all(1)
    tensors = ("images", "positions", "groups", "is_anchor", "clips")
    return replace(canvases, **{name: getattr(canvases, name)[full] for name in tensors})


def _frame_ids(canvases: Canvases) -> list[int]:
    return sorted(canvases.clip_times()[0])


def _meta(canvases: Canvases, names: list[str], order: Order) -> dict[str, Any]:
    (times,), (fps,) = canvases.clip_times(), canvases.clip_fps()
    h, w = canvases.grid
    # Public readers know no times: they show frame index / fps. Say how far off that is.
    error = max(abs(frame / (fps or 30.0) - times[frame]) for frame in times)
    return {
        "format": format_name(KIND, VERSION),
        "fps": fps,
        "canvas_files": names,
        "patch": canvases.patch,
        "merge": canvases.merge,
        "block_size": canvases.merge,
        "hb_wb": [h, w],
        "total_images": len(canvases),
        "total_patches": len(canvases) * h * w,
        "partly_padded_canvases": int((canvases.positions[..., 0] < 0).flatten(1).any(1).sum()),
        "order": order,
        "groups": canvases.groups.tolist(),
        "is_anchor": canvases.is_anchor.tolist(),
        "signal": canvases.signal,
        "index_over_fps_error_seconds": round(error, 6),
        "frame_times": [[frame, times[frame]] for frame in sorted(times)],
        "provenance": canvases.provenance,
    }


def _check_place(target: Path, overwrite: bool) -> None:
    """Raise if something is at `target` that may not be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise AssetError(f"{target}: expected a directory to write, there is a file; choose another")
    if others := files.strangers(target):
        raise AssetError(f"{target}: holds other files ({', '.join(others[:3])}); choose a new or empty directory")
    is_complete = (target / files.DONE).exists() or is_done_without_mark(target)
    if is_complete and not overwrite:
        raise AssetError(f"{target}: is complete already; pass overwrite=True to replace it")
