"""Candidate frames: which frames of a group are decoded and scored at all.

More where the bytes are, but some everywhere: half of the sampling mass is even over the group's
frames, half follows their bytes. Keyframes are no candidates (their bytes only tell where keyframes
are, and they have no motion), except as anchors.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from ov2kit.codec.video.packets import PacketTable

Candidates = Literal["bitcost", "uniform", "all"]
Anchor = Literal["first", "mid", "keyframe", "sharpest"]


def choose_candidates(
    table: PacketTable,
    start: int,
    stop: int,
    count: int,
    *,
    kind: Candidates = "bitcost",
    anchor: Anchor = "first",
    allowed: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, int]:
    """Frames of [start, stop) to decode, the anchor among them.

    Args:
        table: packet table of the video.
        start: first frame of the group, in display order.
        stop: one past its last frame.
        count: most frames to choose, at least 1.
        kind: spread by bytes, evenly, or every frame.
        anchor: which frame is shown whole; "sharpest" is decided once the candidates are decoded
            and is the first frame until then.

    Returns:
        (n,) int64 display indices, increasing, and the place of the anchor among them.
    """
    frames = np.arange(start, stop)
    is_key = table.display("is_entry")[start:stop]
    first = choose_anchor(frames, is_key, anchor)
    others = frames[(frames != first) & ~is_key]
    if len(others) < count - 1:  # all-intra video, or a short group: keyframes are better than nothing
        others = frames[frames != first]
    if allowed is not None:
        others = allowed(others)
    if kind != "all" and len(others) > count - 1:
        others = others[_spread(table, others, count - 1, even=kind == "uniform")]
    return np.sort(np.append(others, first)), first


def choose_anchor(frames: np.ndarray, is_key: np.ndarray, anchor: Anchor) -> int:
    """The one of (n,) display indices that is shown whole; "sharpest" is the first for now."""
    if anchor == "mid":
        return int(frames[len(frames) // 2])
    if anchor == "keyframe" and is_key.any():
        return int(frames[np.argmax(is_key)])
    return int(frames[0])


def _spread(table: PacketTable, frames: np.ndarray, count: int, *, even: bool) -> np.ndarray:
    """Places of `count` frames at equal steps of cumulative mass; gaps are filled by mass."""
    if count <= 0:
        return np.zeros(0, dtype=np.int64)
    nbytes = table.display("nbytes")[frames].astype(np.float64)
    mass = np.full(len(frames), 1.0 / len(frames))
    if not even and nbytes.sum() > 0:
        mass = 0.5 * mass + 0.5 * nbytes / nbytes.sum()
    steps = (np.arange(count) + 0.5) / count
    places = np.unique(np.searchsorted(np.cumsum(mass) / mass.sum(), steps).clip(max=len(frames) - 1))
    if len(places) < count:
        rest = np.setdiff1d(np.arange(len(frames)), places)
        by_mass = rest[np.argsort(-mass[rest], kind="stable")]
        places = np.sort(np.append(places, by_mass[: count - len(places)]))
    return places


def uniform_off_keyframes(table: PacketTable, count: int) -> np.ndarray:
    """(n,) frames at equal steps over the video, moved to a neighbor where they hit a keyframe.

    Source: frame sampling of the released codec front end.
    """
    total = table.num_frames
    places = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    is_key = table.display("is_entry")
    taken = set(places.tolist())
    out = []
    for place in places.tolist():
        moved = place
        if is_key[place] and place > 0:
            for neighbor in (place + 1, place - 1):
                if 0 <= neighbor < total and not is_key[neighbor] and neighbor not in taken:
                    moved = neighbor
                    taken.add(neighbor)
                    break
        out.append(moved)
    return np.array(sorted(out), dtype=np.int64)
