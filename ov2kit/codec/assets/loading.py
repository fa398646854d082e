"""A directory in the public asset layout -> Canvases, ours or another tool's; see `saving`.

Letters: K canvases of H x W pixels, h x w patches each, P = h * w, p patch in pixels, m merge.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from ov2kit.canvases import Canvases
from ov2kit.codec.assets import files
from ov2kit.codec.assets.facts import (
    KIND,
    VERSION,
    anchors,
    frame_times,
    group_ids,
    has_pixels,
    is_done_without_mark,
    patch_edge,
    row_order,
    whole_number,
)  # fmt: skip
from ov2kit.codec.assets.order import Order, to_raster
from ov2kit.codec.provenance.provenance import AssetsRecord, Provenance
from ov2kit.errors import AssetError, CanvasError, OptionError, check_choice, check_number, check_type, shorten
from ov2kit.files import check_format


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
    if not (folder / files.DONE).exists() and not is_done_without_mark(folder):
        raise AssetError(f"{folder}: no {files.DONE}, so it was never finished; make it again")
    meta = files.read_meta(folder / files.META)
    is_ours = str(meta.get("format", "")).startswith("ov2kit.assets")
    if is_ours:
        check_format(meta["format"], KIND, VERSION, folder / files.META, AssetError)
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
