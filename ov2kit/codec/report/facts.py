"""The numbers a report shows, from canvases and the packet table; nothing here draws.

Letters: K canvases of hb x wb blocks, F frames of the source, B bins of time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov2kit.canvases import Canvases
from ov2kit.codec.provenance.provenance import Provenance
from ov2kit.codec.video.packets import PacketTable
from ov2kit.errors import CanvasError

_BIN_SECONDS = 0.5
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BitCost:
    """The curve of bit cost over time.

    Args:
        energy: (B,) what was spent in each bin.
        bin_seconds: width of a bin.
        start_seconds: where bin 0 begins.
        unit: of `energy`.
        triggers: seconds at which a cut was requested.
        cuts: seconds at which it was made.
    """

    energy: Floats
    bin_seconds: float
    start_seconds: float
    unit: str
    triggers: list[float]
    cuts: list[float]


@dataclass(frozen=True)
class Uniform:
    """Whole frames at even steps that cost as many tokens, for comparison."""

    frames: Ints
    seconds: Floats
    tokens_per_frame: int


class Facts:
    """Everything counted once.

    Args:
        canvases: of one clip.
        table: packets of the video they were made from.

    Raises:
        CanvasError: several clips, no canvas, or frames that the video does not have.
    """

    def __init__(self, canvases: Canvases, table: PacketTable) -> None:
        if len(canvases) == 0 or len(canvases.clip_times()) > 1:
            raise CanvasError("a report shows the canvases of one clip; make one for each of canvases.split()")
        self.canvases, self.table = canvases, table
        m = canvases.merge
        blocks = canvases.positions[:, ::m, ::m].cpu().numpy().astype(np.int64)
        blocks[..., 1:] //= m
        self.blocks: Ints = np.where(blocks[..., :1] >= 0, blocks, -1)  # (K, hb, wb, 3) frame, block row, block col
        self.anchor: NDArray[np.bool_] = canvases.is_anchor.cpu().numpy()
        self.groups: Ints = canvases.groups.cpu().numpy().astype(np.int64)
        (self.times,) = canvases.clip_times()
        self.made = Provenance.of(canvases)
        if int(self.blocks[..., 0].max()) >= table.num_frames:
            raise CanvasError(
                f"the canvases show frame {int(self.blocks[..., 0].max())}, the video has {table.num_frames} frames; "
                "pass the video they were made from"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of blocks of a canvas."""
        return self.blocks.shape[1], self.blocks.shape[2]

    @cached_property
    def duration(self) -> float:
        return max(self.table.duration_seconds, *self.times.values(), 1e-3)

    @cached_property
    def frames(self) -> Ints:
        """Source frames that left at least one block, increasing."""
        used: Ints = np.unique(self.blocks[..., 0])
        return used[used >= 0]

    def seconds(self, frames: Ints) -> Floats:
        """Seconds of used frames."""
        return np.array([self.times[int(frame)] for frame in frames])

    @cached_property
    def tokens_of_frame(self) -> tuple[Ints, Ints]:
        """Tokens of each of `frames` on P-canvases, and on anchors."""
        counts = []
        for kind in (~self.anchor, self.anchor):
            shown = self.blocks[kind][..., 0].ravel()
            place = np.searchsorted(self.frames, shown[shown >= 0])
            counts.append(np.bincount(place, minlength=len(self.frames)))
        return counts[0], counts[1]

    def heat(self, group: int | None = None) -> Ints:
        """(hb, wb) how often each block position of the source was chosen for a P-canvas."""
        chosen = ~self.anchor if group is None else ~self.anchor & (self.groups == group)
        cells = self.blocks[chosen].reshape(-1, 3)
        cells = cells[cells[:, 0] >= 0]
        rows, columns = self.grid
        return np.bincount(cells[:, 1] * columns + cells[:, 2], minlength=rows * columns).reshape(rows, columns)

    @cached_property
    def group_ids(self) -> list[int]:
        return [int(group) for group in np.unique(self.groups)]

    @cached_property
    def group_spans(self) -> list[tuple[float, float]]:
        """Seconds of each group: as provenance has them, else from the first to the last frame shown."""
        spans = [group.seconds for group in self.made.groups or () if group.seconds is not None]
        if len(spans) == len(self.made.groups or ()) == len(self.group_ids):
            return spans
        shown = [self.blocks[self.groups == group][..., 0] for group in self.group_ids]
        seconds = [self.seconds(np.unique(frames[frames >= 0])) for frames in shown]
        return [(float(s.min()), float(s.max())) for s in seconds]

    @cached_property
    def group_bands(self) -> list[tuple[float, float]]:
        """Group spans without gaps, each up to the start of the next, for drawing."""
        starts = [start for start, _ in self.group_spans]
        return list(zip(starts, [*starts[1:], self.duration], strict=True))

    @cached_property
    def uniform(self) -> Uniform:
        """As many whole frames as the tokens pay for, at even steps over the video."""
        rows, columns = self.grid
        count = max(1, min(self.canvases.num_tokens // (rows * columns), self.table.num_frames))
        frames = np.unique(np.linspace(0, self.table.num_frames - 1, count).round().astype(np.int64))
        return Uniform(frames, self.table.frame_seconds[frames], rows * columns)

    def longest_gap(self, seconds: Floats) -> float:
        """Longest stretch of the clip without a frame, in seconds."""
        return float(np.diff(np.concatenate([[0.0], np.sort(seconds), [self.duration]])).max())

    def byte_share(self, frames: Ints) -> float:
        """Part of the coded bytes that belongs to the given frames."""
        nbytes = self.table.display("nbytes")
        return float(nbytes[frames].sum() / max(1, nbytes.sum()))

    @cached_property
    def bit_cost(self) -> BitCost:
        """As the grouping saw it, if provenance has it; else bytes of packets that are no keyframes, in bins."""
        seen = self.made.bit_cost
        if seen is not None and seen.energy and seen.bin_seconds:
            width, start = seen.bin_seconds, seen.start_seconds or 0.0
            triggers, cuts = ([start + (bin + 1) * width for bin in bins or ()] for bins in (seen.triggers, seen.cuts))
            unit = "bytes" if self.made.cost == "bytes" else "log1p(bytes)"
            return BitCost(np.asarray(seen.energy, dtype=np.float64), width, start, unit, triggers, cuts)
        seconds = self.table.frame_seconds
        start = float(seconds.min())
        nbytes = np.where(self.table.display("is_key"), 0, self.table.display("nbytes"))
        width = max(_BIN_SECONDS, self.duration / 2000)
        bins = np.clip(((seconds - start) / width).astype(np.int64), 0, None)
        cuts = [begin for begin, _ in self.group_spans[1:]]
        return BitCost(np.bincount(bins, weights=nbytes).astype(np.float64), width, start, "bytes", [], cuts)

    @cached_property
    def key_seconds(self) -> Floats:
        return np.asarray(self.table.frame_seconds[self.table.display("is_key")])

    def tokens_over_time(self, bins: int) -> tuple[Floats, Ints, Ints]:
        """(bins + 1,) edges in seconds, and tokens per bin: on P-canvases, on anchors."""
        edges = np.linspace(0.0, self.duration, bins + 1)
        seconds = self.seconds(self.frames).clip(0, self.duration)
        moving, whole = self.tokens_of_frame
        counts = [np.histogram(seconds, edges, weights=tokens)[0].astype(np.int64) for tokens in (moving, whole)]
        return edges, counts[0], counts[1]

    def telling_frames(self, count: int) -> list[int]:
        """Frames that gave most blocks to P-canvases: the best of each group first, then the next best."""
        moving, _ = self.tokens_of_frame
        seconds = self.seconds(self.frames)
        chosen: list[int] = []
        order = np.argsort(-moving, kind="stable")
        for apart in (self.duration / (2 * count), 0.0):
            for place in order.tolist():
                near = any(abs(seconds[place] - self.times[frame]) <= apart for frame in chosen)
                if len(chosen) < count and moving[place] > 0 and not near:
                    chosen.append(int(self.frames[place]))
        return sorted(chosen)


def text_rows(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested record as (dotted name, text) rows; long lists are cut."""
    if isinstance(tree, dict):
        return [
            row for key, value in tree.items() for row in text_rows(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(tree, list | tuple) and len(tree) > 12:
        return [(prefix, f"{', '.join(map(str, tree[:6]))} ... ({len(tree)} in all)"[:400])]
    return [(prefix, str(tree)[:400])]
