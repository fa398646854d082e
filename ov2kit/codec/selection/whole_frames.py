"""More whole frames than the anchor: how many canvases of each group, and at which moments.

Groups are short where much happens, so whole frames at equal steps within each group are dense where
the groups are.
"""

import numpy as np

#: of a hybrid where nobody says how much
FRAME_SHARE = 0.5


def share_whole_frames(canvases: np.ndarray, frame_share: float | None) -> np.ndarray:
    """Canvases of each group that hold a whole frame.

    Args:
        canvases: (G,) canvases of each group, at least 1.
        frame_share: of all canvases, up to 1; None for the anchors alone.

    Returns:
        (G,) int64, from 1 to all of the group. They add up to the share, rounded, where it is at least one a
        group; each group gets its part of it, give or take one, the earlier of equals first.
    """
    whole = np.ones(len(canvases), dtype=np.int64)
    if frame_share is None:
        return whole
    wanted = canvases * frame_share
    whole = np.maximum(whole, np.floor(wanted + 1e-9).astype(np.int64))
    spare = round(float(wanted.sum())) - int(whole.sum())
    for group in np.argsort(whole - wanted, kind="stable")[: max(0, spare)]:
        whole[group] += 1
    result: np.ndarray = np.minimum(whole, canvases)
    return result


def place_whole_frames(seconds: np.ndarray, anchor: int, count: int) -> np.ndarray:
    """Which frames of a group are shown whole: the anchor, and those nearest to equal steps of time.

    Args:
        seconds: (T,) increasing time of each frame.
        anchor: place of the anchor.
        count: frames, at least 1 and at most T.

    Returns:
        (count,) int64 places, increasing, the anchor among them.
    """
    if count == 1:
        return np.array([anchor])
    first, last = float(seconds[0]), float(seconds[-1])
    step = (last - first) / count
    phase = (float(seconds[anchor]) - first) % step if step > 0 else 0.0
    wanted = first + phase + step * np.arange(count)
    free = np.ones(len(seconds), dtype=bool)
    free[anchor] = False
    nearest = int(np.abs(wanted - seconds[anchor]).argmin())
    places = [anchor]
    for moment in np.delete(wanted, nearest):
        place = int(np.where(free, np.abs(seconds - moment), np.inf).argmin())
        free[place] = False
        places.append(place)
    return np.sort(np.array(places))
