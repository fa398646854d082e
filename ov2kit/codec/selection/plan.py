"""Groups of a video as the tokenizer works on them: frames, canvases, candidates, anchor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ov2kit.codec.selection.candidates import Anchor, Candidates, choose_candidates
from ov2kit.codec.selection.whole_frames import share_whole_frames
from ov2kit.codec.video.packets import PacketTable


@dataclass(frozen=True)
class GroupPlan:
    """One group before its blocks are chosen.

    Args:
        start: first frame, display index.
        stop: one past its last frame.
        canvases: I and P canvases it may fill.
        candidates: (n,) display indices to decode, increasing.
        anchor: display index of the frame shown whole.
        whole: canvases that hold a whole frame, the anchor's among them.
    """

    start: int
    stop: int
    canvases: int
    candidates: np.ndarray
    anchor: int
    whole: int = 1


def packet_columns(table: PacketTable, frames: np.ndarray | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """What every grouping takes, from the packets of a video.

    Args:
        table: the packets.
        frames: display indices to keep; all when omitted.

    Returns:
        (T,) float64 seconds, (T,) bytes and (T,) bool key flags, in display order.
    """
    chosen = slice(None) if frames is None else frames
    return (
        torch.from_numpy(table.frame_seconds[chosen]),
        torch.from_numpy(table.display("nbytes")[chosen]),
        torch.from_numpy(table.display("is_key")[chosen]),
    )


def frame_spans(seconds: Tensor, frame_seconds: np.ndarray) -> list[tuple[int, int]]:
    """(G, 2) groups in seconds -> [start, stop) frames; groups without a frame are left out."""
    starts = np.searchsorted(frame_seconds, seconds[:, 0].cpu().numpy() - 1e-9, side="left")
    starts[0] = 0
    stops = np.append(starts[1:], len(frame_seconds))
    return [(int(a), int(b)) for a, b in zip(starts, stops, strict=True) if b > a]


def plan_groups(
    table: PacketTable,
    spans: Sequence[tuple[int, int]],
    total_canvases: int,
    canvases_per_group: int,
    candidates_per_canvas: int,
    kind: Candidates,
    anchor: Anchor,
    allowed: Callable[[np.ndarray], np.ndarray] | None = None,
    frame_share: float | None = None,
) -> list[GroupPlan]:
    """Share the canvases out and choose what to decode.

    Args:
        spans: [start, stop) frames of each group.
        total_canvases: budget of the whole video.
        allowed: keeps those of the given frames that may be candidates.
        frame_share: of the canvases that hold whole frames, see `share_whole_frames`.
    """
    nbytes = np.where(table.display("is_key"), 0, table.display("nbytes"))
    frames = np.array([stop - start for start, stop in spans])
    energy = np.array([nbytes[start:stop].sum() for start, stop in spans])
    shares = share_canvases(total_canvases, canvases_per_group, frames, energy)
    whole = share_whole_frames(shares, frame_share)
    plans = []
    for (start, stop), share, frames_whole in zip(spans, shares.tolist(), whole.tolist(), strict=True):
        count = share * candidates_per_canvas
        chosen, first = choose_candidates(table, start, stop, count, kind=kind, anchor=anchor, allowed=allowed)
        plans.append(GroupPlan(start, stop, share, chosen, first, frames_whole))
    return plans


def share_canvases(total: int, per_group: int, frames: np.ndarray, energy: np.ndarray) -> np.ndarray:
    """Canvases of each group: `per_group` each, and the remainder where the bits are.

    A group of n frames fills at most n canvases. The remainder goes, one canvas at a
    time, to the group with most energy per P-canvas (D'Hondt), the earlier of equals.

    Args:
        total: canvases in all, at least one per group.
        per_group: canvases of an ordinary group, I and P.
        frames: (G,) frames in each group, at least 1.
        energy: (G,) bytes spent on each group.

    Returns:
        (G,) int64, each at least 1 and at most its frames; the sum is at most `total`.
    """
    shares: np.ndarray = np.minimum(min(per_group, total // len(frames)), frames).astype(np.int64)
    weight = np.asarray(energy, dtype=np.float64) + 1e-9 * (1.0 + float(np.sum(energy)))
    spare = total - int(shares.sum())
    while spare > 0 and (shares < frames).any():
        claim = np.where(shares < frames, weight / shares, -1.0)
        shares[int(np.argmax(claim))] += 1
        spare -= 1
    return shares
