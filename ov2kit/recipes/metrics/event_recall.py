"""What canvases show of events whose blocks are known: which, how often, how soon, and what else they show.

Letters: hb x wb blocks of a frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from ov2kit.errors import check_number, check_order

#: frame index -> (hb, wb) bool
FrameBlocks = Mapping[int, NDArray[np.bool_]]
_COVERED = 0.25  # of a block, for it to bear the event
_MOMENTS = 4
_HALF = 0.5


@dataclass(frozen=True)
class EventShown:
    """What canvases show of one event.

    Args:
        once: at least half of its blocks in one frame.
        twice: the same in two frames at least.
        recall: share of its (block, moment) pairs, the event being cut into four equal moments.
        delay: seconds from its start to the first frame that shows a block of it; None where none does.
    """

    once: bool
    twice: bool
    recall: float
    delay: float | None


def blocks_of_mask(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.bool_]:
    """Blocks that bear what a mask covers: those that it covers to a quarter, or the one with most of it.

    Args:
        mask: (H, W) bool.
        grid: (hb, wb).

    Returns:
        (hb, wb) bool, none where the mask is empty.
    """
    share = block_shares(mask, grid)
    bears: NDArray[np.bool_] = share >= _COVERED
    return bears if bears.any() else (share > 0) & (share == share.max())


def block_shares(mask: NDArray[np.bool_], grid: tuple[int, int]) -> NDArray[np.float64]:
    """(H, W) bool -> (hb, wb) share of each block that the mask covers; blocks may cut pixels."""
    rows, columns = (_parts(side, count) for side, count in zip(mask.shape, grid, strict=True))
    shares: NDArray[np.float64] = rows @ mask.astype(np.float64) @ columns.T
    return shares


def _parts(pixels: int, blocks: int) -> NDArray[np.float64]:
    """(blocks, pixels) share of each block that lies in each pixel, along one axis; rows sum to 1."""
    edges = np.arange(blocks + 1) * pixels / blocks
    at = np.arange(pixels)
    inside = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    return inside.clip(min=0) * blocks / pixels


def shown_blocks(positions: Tensor, merge: int, grid: tuple[int, int]) -> dict[int, NDArray[np.bool_]]:
    """Blocks that canvases show, by frame.

    Args:
        positions: (K, rows, columns, 3) source frame, row and column of each patch; -1 is padding.
        merge: patches per block edge.
        grid: (hb, wb) blocks of a frame.

    Raises:
        OptionError: `merge` is no whole number from 1 on.
    """
    check_number("merge", merge, low=1, integer=True)
    flat = positions[:, ::merge, ::merge].reshape(-1, 3).cpu().numpy()
    shown: dict[int, NDArray[np.bool_]] = {}
    for frame, row, column in flat[flat[:, 0] >= 0]:
        blocks = shown.setdefault(int(frame), np.zeros(grid, dtype=bool))
        blocks[row // merge, column // merge] = True
    return shown


def event_shown(
    shown: FrameBlocks, event: FrameBlocks, start: float, stop: float, seconds: Sequence[float] | NDArray[np.float64]
) -> EventShown:
    """What is shown of one event.

    Args:
        shown: blocks on canvases, see `shown_blocks`.
        event: blocks that bear the event in each of its frames.
        start: seconds at which it begins.
        stop: seconds at which it is over.
        seconds: time of each frame of the video.

    Raises:
        OptionError: it is over before it begins.
        ValueError: the event has no block in any frame.
    """
    check_number("start", start, low=0)
    check_number("stop", stop, above=0)
    check_order("start", start, "stop", stop)
    bearing = {frame: blocks for frame, blocks in event.items() if blocks.any()}
    if not bearing:
        raise ValueError("an event needs at least one block in one frame")
    times = 0
    first: float | None = None
    due: dict[int, NDArray[np.bool_]] = {}
    seen: dict[int, NDArray[np.bool_]] = {}
    for frame in sorted(bearing):
        blocks = bearing[frame]
        both = blocks & shown.get(frame, np.zeros_like(blocks))
        times += bool(both.sum() >= _HALF * blocks.sum())
        if both.any() and first is None:
            first = float(seconds[frame]) - start
        place = (float(seconds[frame]) - start) / max(stop - start, 1e-9)
        moment = min(max(int(place * _MOMENTS), 0), _MOMENTS - 1)
        due[moment] = due.get(moment, np.zeros_like(blocks)) | blocks
        seen[moment] = seen.get(moment, np.zeros_like(blocks)) | both
    recall = sum(int(each.sum()) for each in seen.values()) / sum(int(each.sum()) for each in due.values())
    return EventShown(times >= 1, times >= 2, recall, first)


def background_share(shown: FrameBlocks, events: Sequence[FrameBlocks]) -> float:
    """Share of the shown blocks that bear no event; 0 where nothing is shown."""
    total = sum(int(blocks.sum()) for blocks in shown.values())
    useful = 0
    for frame, blocks in shown.items():
        bearing = np.zeros_like(blocks)
        for event in events:
            if frame in event:
                bearing |= event[frame]
        useful += int((blocks & bearing).sum())
    return 1 - useful / total if total else 0.0


class EventRecall(Metric):
    """`event_shown` of many events, summed."""

    is_differentiable = False
    full_state_update = False
    once: Tensor
    twice: Tensor
    recall: Tensor
    delay: Tensor
    seen: Tensor
    events: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("once", "twice", "seen", "events"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("recall", "delay"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, events: Sequence[EventShown]) -> None:
        """Add events."""
        for event in events:
            self.once += event.once
            self.twice += event.twice
            self.recall += event.recall
            self.events += 1
            if event.delay is not None:
                self.seen += 1
                self.delay += event.delay

    def compute(self) -> dict[str, Tensor]:
        """() float64 each; 0 where there is nothing to divide by.

        ``events``; the shares of events shown ``once`` and ``twice``, and of those of which any block is ``seen``;
        the mean ``recall``; and the mean ``delay`` in seconds of those that are seen.
        """
        count = self.events.clamp(min=1).double()
        found = {name: getattr(self, name) / count for name in ("once", "twice", "seen", "recall")}
        return {"events": self.events.double(), **found, "delay": self.delay / self.seen.clamp(min=1)}
