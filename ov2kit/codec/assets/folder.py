"""Canvases on disk in the public asset layout, so that other tools can use ours and we theirs.

The layout is that of the public codec front end (PyPI `codec-video-prep` 0.2.5) and of the readers
in the LLaVA-OneVision-2 checkpoint and in lmms-eval; docs/assets.md lists every file.
Letters: K canvases of H x W pixels, h x w patches each, P = h * w, p patch in pixels, m merge.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ov2kit.canvases import Canvases
from ov2kit.codec.assets import files
from ov2kit.codec.assets.facts import anchors, frame_times, group_ids, patch_edge, row_order, whole_number
from ov2kit.codec.assets.order import Order, Positions, broken_canvas, from_raster, to_raster
from ov2kit.codec.provenance.provenance import AssetsRecord, Provenance
from ov2kit.errors import (
    AssetError,
    CanvasError,
    OptionError,
    check_choice,
    check_flag,
    check_number,
    check_type,
    shorten,
)
from ov2kit.files import check_format, format_name, write_folder

_KIND, _VERSION = "assets", 1


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


def load_assets(
    directory: str | os.PathLike[str],
    *,
    order: Order | Literal["auto"] = "auto",
    canvases_per_group: int | None = None,
    fps: float | None = None,
    patch: int | None = None,
    merge: int | None = None,
    device: torch.device | str = "cpu",
    max_source_pixels: int = 2**29,
) -> Canvases:
    """Read a directory of the public layout, ours or another tool's.

    Directories of other tools hold no groups, anchors and times in our sense. Groups come from what
    their meta.json says, else every four canvases; anchors are the canvases that are one whole
    frame (where meta.json names the first canvas of each group, only those); times are frame index
    / fps, which is wrong for a variable frame rate. Canvases that are all padding are dropped, as
    public readers do; partly padded ones are kept. ``provenance["assets"]`` says what was done.

    Args:
        directory: holds canvas_*.png | jpg | npy, src_patch_position.npy, meta.json and _DONE.
        order: order of the position rows; "auto" finds it by checking that blocks are whole. With
            an order given, blocks are read as they are; `Canvases.validate` says what is wrong.
        canvases_per_group: group every so many canvases, whatever the directory says.
        fps: frames per second for frame times, when the directory holds no times.
        patch: patch edge in pixels; as meta.json says, else from the counts, when omitted.
        merge: patches per block edge; as meta.json says, else 2, when omitted.
        device: where the tensors go.
        max_source_pixels: most pixels of all canvases together; three bytes each.

    Raises:
        AssetError: incomplete (no _DONE, a file missing), unreadable, counts or sizes that do not
            fit, or an order that cannot be found.
    """
    check_type("directory", directory, (str, os.PathLike), "a path")
    check_choice("order", order, (*get_args(Order), "auto"))
    for name, given in (("canvases_per_group", canvases_per_group), ("patch", patch), ("merge", merge)):
        check_number(name, given, low=1, integer=True, optional=True)
    check_number("fps", fps, above=0, optional=True)
    check_type("device", device, (str, torch.device), "a device of torch")
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise OptionError(f"device must be one of torch, got {shorten(device)}") from error
    check_number("max_source_pixels", max_source_pixels, low=1, integer=True)
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        raise AssetError(f"{folder}: not a directory of canvases")
    if not (folder / files.DONE).exists() and not _is_done_without_mark(folder):
        raise AssetError(f"{folder}: no {files.DONE}, so it was never finished; make it again")
    meta = files.read_meta(folder / files.META)
    is_ours = str(meta.get("format", "")).startswith("ov2kit.assets")
    if is_ours:
        check_format(meta["format"], _KIND, _VERSION, folder / files.META, AssetError)
    names = files.list_canvases(folder, meta)
    size = files.read_sizes(folder, names, max_source_pixels)
    flat = files.read_ids(folder / files.POSITIONS, (-1, 3))
    if len(flat) == 0 or len(flat) % len(names):
        raise AssetError(f"{folder / files.POSITIONS}: {len(flat)} rows do not divide into {len(names)} canvases")
    per_canvas = len(flat) // len(names)
    patch = patch_edge(folder, meta, size, per_canvas, patch)
    merge = whole_number(meta.get("merge", meta.get("block_size", 2)), folder, "merge") if merge is None else merge
    grid = (size[0] // patch, size[1] // patch)
    if grid[0] % merge or grid[1] % merge:
        raise AssetError(f"{folder}: {grid[0]} x {grid[1]} patches are no multiple of merge={merge}; pass merge=")
    stored = flat.reshape(len(names), per_canvas, 3)
    found = row_order(folder, stored, grid, merge, said=meta.get("order"), asked=order)
    positions = to_raster(stored, grid, merge, found)
    keep = has_pixels(positions)
    if not keep.any():
        raise AssetError(f"{folder}: every canvas is padding")
    groups, firsts, groups_from = group_ids(folder, meta, len(names), keep, canvases_per_group)
    pictures = files.read_pictures(folder, names)[keep]
    positions = positions[keep]
    is_anchor = anchors(folder, meta, positions, keep, firsts)
    times, rate, times_from = frame_times(folder, meta, positions, fps)
    lossy = names[0].endswith(("jpg", "jpeg"))
    if lossy:  # padding is black by contract; jpeg lets the neighbors bleed in
        pad = np.repeat(np.repeat(positions[..., 0] < 0, patch, 1), patch, 2)
        pictures[pad] = 0
    provenance = meta["provenance"] if isinstance(meta.get("provenance"), dict) else {"preset": "external"}
    if not is_ours or lossy or not keep.all() or order != "auto" or canvases_per_group:
        try:
            made = Provenance.from_dict(provenance)
        except CanvasError as error:
            raise AssetError(f"{folder / files.META}: {error}") from error
        if not is_ours and meta.get("codec_name"):
            made = replace(made, codec=str(meta["codec_name"]))
        inferred = AssetsRecord(
            directory=folder.name,
            order=found if order == "auto" else f"{order} (as asked)",
            groups=groups_from,
            times=times_from,
            dropped_canvases=int((~keep).sum()),
            lossy=lossy,
        )
        provenance = replace(made, assets=inferred).to_dict()
    return Canvases(
        images=torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).to(device),
        positions=torch.from_numpy(np.ascontiguousarray(positions)).to(device),
        groups=torch.from_numpy(groups.astype(np.int32)).to(device),
        is_anchor=torch.from_numpy(is_anchor).to(device),
        frame_times=times,
        patch=patch,
        merge=merge,
        signal=str(meta.get("signal") or meta.get("score_source") or "unknown"),
        fps=rate,
        provenance=provenance,
    )


def has_pixels(positions: Positions) -> NDArray[np.bool_]:
    """(K, ..., 3) positions -> (K,) True where at least one patch is not padding."""
    return np.asarray((positions[..., 0] >= 0).reshape(len(positions), -1).any(axis=1))


def _check_saveable(canvases: Canvases, positions: Positions) -> None:
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
        "format": format_name(_KIND, _VERSION),
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


def _is_done_without_mark(folder: Path) -> bool:
    """The public tool writes no _DONE; its meta.json, with a mark of its own, comes last."""
    try:
        return "codec_selector_version" in files.read_meta(folder / files.META)
    except AssetError:
        return False


def _check_place(target: Path, overwrite: bool) -> None:
    """Raise if something is at `target` that may not be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise AssetError(f"{target}: expected a directory to write, there is a file; choose another")
    if others := files.strangers(target):
        raise AssetError(f"{target}: holds other files ({', '.join(others[:3])}); choose a new or empty directory")
    is_complete = (target / files.DONE).exists() or _is_done_without_mark(target)
    if is_complete and not overwrite:
        raise AssetError(f"{target}: is complete already; pass overwrite=True to replace it")
