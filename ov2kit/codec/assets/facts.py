"""What an asset directory says about its canvases, and what is inferred where it says nothing.

Directories of public tools hold positions and a frame rate, but no groups, anchors or times in the
sense of `Canvases`; each function here answers one such question and none of them guesses silently.
Letters: K canvases of H x W pixels, h x w patches each.
"""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ov2kit.codec.assets import files
from ov2kit.codec.assets.order import Order, PositionArray, broken_canvas, find_order, to_raster
from ov2kit.errors import AssetError

KIND, VERSION = "assets", 1
CANVASES_PER_GROUP = 4  # what the release assumes when a directory says nothing


def whole_number(value: Any, folder: Path, name: str) -> int:
    """A size that meta.json gives under `name`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise AssetError(f"{folder / files.META}: {name} must be a whole number of at least 1, got {value!r:.50}")
    return value


def patch_edge(folder: Path, meta: dict[str, Any], size: tuple[int, int], per_canvas: int, asked: int | None) -> int:
    """Patch edge in pixels: as asked, as meta.json says, or the one that explains the counts."""
    height, width = size
    patch = asked
    if patch is None and "patch" in meta:
        patch = whole_number(meta["patch"], folder, "patch")
    if patch is None:
        patch = math.isqrt(height * width // per_canvas)
    if patch < 1 or height % patch or width % patch or (height // patch) * (width // patch) != per_canvas:
        raise AssetError(
            f"{folder}: {per_canvas} positions a canvas do not fit canvases of {height} x {width} pixels "
            f"in patches of {patch}"
        )
    return patch


def row_order(
    folder: Path, stored: PositionArray, grid: tuple[int, int], merge: int, *, said: Any, asked: Order | Literal["auto"]
) -> Order:
    """Order of the rows: as asked, as meta.json says (checked), else found by checking."""
    if asked in ("raster", "block"):
        return asked
    if said not in ("raster", "block"):
        return find_order(stored, grid, merge, str(folder / files.POSITIONS))
    found: Order = said
    if (broken := broken_canvas(to_raster(stored, grid, merge, found), merge)) is not None:
        raise AssetError(
            f"{folder}: meta.json says {found} order, but in it canvas {broken} has blocks that are not whole"
        )
    return found


def group_ids(
    folder: Path, meta: dict[str, Any], count: int, keep: NDArray[np.bool_], every: int | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None, str]:
    """Group of each kept canvas, which of all canvases begin a group (if known), and where that is from."""
    if every is None and not {"groups", "canvas_bucket_ids"} & set(meta):
        every = CANVASES_PER_GROUP
    if every is not None:  # applied after padding is dropped, as in the release
        return np.arange(int(keep.sum())) // every, None, f"every {every} canvases"
    said: Any = meta.get("groups", meta.get("canvas_bucket_ids"))
    try:
        if said and isinstance(said[0], dict):  # the public tool: one entry a group
            ids = np.repeat(np.arange(len(said)), [int(group["num_canvases"]) for group in said])
        else:  # ours, and an older public tool
            ids = np.array([int(i) for i in said])
    except (LookupError, TypeError, ValueError) as error:
        raise AssetError(
            f"{folder / files.META}: groups cannot be read ({error!r}); pass canvases_per_group="
        ) from error
    if len(ids) != count or (np.diff(ids) < 0).any():
        raise AssetError(
            f"{folder / files.META}: groups must hold one rising id for each of {count} canvases, "
            f"got {str(ids.tolist())[:100]}; pass canvases_per_group="
        )
    return ids[keep], np.diff(ids, prepend=ids[0] - 1) > 0, files.META


def anchors(
    folder: Path,
    meta: dict[str, Any],
    positions: PositionArray,
    keep: NDArray[np.bool_],
    firsts: NDArray[np.bool_] | None,
) -> NDArray[np.bool_]:
    """(K,) bool: whole frames; where the directory says which canvases are anchors, only those."""
    h, w = positions.shape[1:3]
    frame = positions[:, :1, :1, :1]
    grid = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), axis=-1)
    whole: NDArray[np.bool_] = (
        (positions[..., :1] == frame).all((1, 2, 3))
        & (frame[:, 0, 0, 0] >= 0)
        & (positions[..., 1:] == grid).all((1, 2, 3))
    )
    said = meta.get("is_anchor")
    if said is None:
        return whole if firsts is None else whole & firsts[keep]
    if not isinstance(said, list) or len(said) != len(keep) or not all(isinstance(a, bool) for a in said):
        raise AssetError(
            f"{folder / files.META}: is_anchor must hold one true or false for each of {len(keep)} canvases"
        )
    anchors = np.array(said)[keep]
    if (anchors & ~whole).any():
        raise AssetError(f"{folder}: meta.json calls a canvas an anchor that is not one whole frame")
    return anchors


def frame_times(
    folder: Path, meta: dict[str, Any], positions: PositionArray, fps: float | None
) -> tuple[dict[int, float], float, str]:
    """Frame index -> seconds, frames per second (0 if unknown), and where the times are from."""
    used = set(np.unique(positions[..., 0]).tolist()) - {-1}
    frames = set(used)
    if (folder / files.FRAME_IDS).exists():
        frames = set(files.read_ids(folder / files.FRAME_IDS, (-1,)).tolist())
        if strange := sorted(used - frames):
            raise AssetError(
                f"{folder / files.FRAME_IDS}: does not hold source frame(s) {strange[:5]} of the positions"
            )
    config = meta.get("config")
    said = meta.get("fps") or (config.get("video_fps") if isinstance(config, dict) else None) or 0.0
    rate = said if fps is None else fps
    if not isinstance(rate, int | float) or not math.isfinite(rate) or rate < 0:
        raise AssetError(f"{folder / files.META}: fps must be a number of frames per second, got {rate!r:.50}")
    if "frame_times" in meta:
        try:
            times = {int(frame): float(seconds) for frame, seconds in meta["frame_times"]}
        except (TypeError, ValueError) as error:
            raise AssetError(
                f"{folder / files.META}: frame_times must be pairs of frame and seconds ({error})"
            ) from error
        if missing := sorted(used - set(times)):
            raise AssetError(f"{folder / files.META}: frame_times does not hold source frame(s) {missing[:5]}")
        return times, float(rate), "meta.json"
    if rate == 0:
        raise AssetError(f"{folder / files.META}: neither frame times nor fps; pass fps=")
    times = {frame: frame / rate for frame in sorted(frames)}
    return times, float(rate), "frame index / fps, because the directory has nothing better"


def has_pixels(positions: PositionArray) -> NDArray[np.bool_]:
    """(K, ..., 3) positions -> (K,) True where at least one patch is not padding."""
    return np.asarray((positions[..., 0] >= 0).reshape(len(positions), -1).any(axis=1))


def is_done_without_mark(folder: Path) -> bool:
    """The public tool writes no _DONE; its meta.json comes last and carries its mark."""
    try:
        return "codec_selector_version" in files.read_meta(folder / files.META)
    except AssetError:
        return False
