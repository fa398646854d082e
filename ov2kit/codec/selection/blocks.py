"""Block selection: which blocks of a group's frames fill its P-canvases.

Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2) for the damped, stratified choice, and
the codec wheel of its release for the plain top-k. Letters: B clips or groups in a batch, T
frames, hb x wb blocks per frame, P P-canvases, n chosen blocks.

Both selectors share one interface, and break ties alike: the earlier frame, then raster order.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.selection.damping import damp_by_rank
from ov2kit.codec.selection.stratify import first_best, stratify
from ov2kit.errors import check_choice, check_number

Placement = Literal["time", "quantile"]
_LEAST_WEIGHT = 1e-6
#: (B, T, hb, wb) scores, (B, T) usable frames, blocks per canvas, P -> (B, P * blocks, 3) blocks, (B,) how many
_Choose = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]


class SaliencyBlockSelector(nn.Module):
    """Damp the blocks of each frame by rank, then fill each P-canvas from its own stretch of time.

    The r-th best block of a frame (from 0) counts 1 / sqrt(1 + rank_damping * r), so that one busy
    frame cannot take everything; a frame weighs the sum of what is positive of its damped scores,
    plus `peak_weight` times the best of them. See `stratify` for the rest.

    Args:
        p_canvases: P, canvases to fill where a call gives no other number.
        rank_damping: lambda; 0 damps nothing.
        peak_weight: alpha.
        placement: order of the result. ``"time"`` sorts all chosen blocks by (frame, row, col)
            before they are cut into canvases, as the release does; ``"quantile"`` keeps each
            canvas to the blocks of its own range and sorts within the canvas.
    """

    def __init__(
        self,
        p_canvases: int = 3,
        rank_damping: float = 0.35,
        peak_weight: float = 0.35,
        *,
        placement: Placement = "time",
    ) -> None:
        super().__init__()
        check_number("p_canvases", p_canvases, low=0, integer=True)
        check_number("rank_damping", rank_damping, low=0)
        check_number("peak_weight", peak_weight, low=0)
        check_choice("placement", placement, get_args(Placement))
        self.p_canvases = p_canvases
        self.rank_damping, self.peak_weight = rank_damping, peak_weight
        self.placement = placement

    def extra_repr(self) -> str:
        return (
            f"p_canvases={self.p_canvases}, rank_damping={self.rank_damping}, peak_weight={self.peak_weight}, "
            f"placement={self.placement!r}"
        )

    def forward(
        self,
        scores: Tensor,
        blocks_per_canvas: int | None = None,
        *,
        anchor: int = 0,
        good: Tensor | None = None,
        p_canvases: int | None = None,
    ) -> Tensor:
        """Choose the blocks of one group.

        Args:
            scores: (T, hb, wb), any real dtype; NaN counts as 0.
            blocks_per_canvas: hb * wb when omitted.
            anchor: frame that is kept whole, so never a candidate; all other frames are.
            good: (T,) bool, False for frames to leave out.
            p_canvases: P of this group; that of the constructor when omitted.

        Returns:
            (n, 3) long (frame, row, col), n = min(P * blocks_per_canvas, candidates). Canvas i is
            rows i * blocks_per_canvas and following, each in (frame, row, col) order; only the
            last can be short.

        Raises:
            ValueError: shapes do not fit, or `anchor` is no frame.
            OptionError: `p_canvases` or `blocks_per_canvas` is out of range.
        """
        p = self.p_canvases if p_canvases is None else p_canvases
        return _of_one(self._choose, scores, blocks_per_canvas, p, anchor, good)

    def forward_batch(
        self,
        scores: Tensor,
        lengths: Tensor | None = None,
        blocks_per_canvas: int | None = None,
        *,
        anchor: int | Tensor = 0,
        good: Tensor | None = None,
        p_canvases: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Choose the blocks of many groups of one frame size at once.

        Args:
            scores: (B, T, hb, wb), padded with anything after each group's frames.
            lengths: (B,) frames of each group; all T when omitted.
            blocks_per_canvas: hb * wb when omitted.
            anchor: one frame for all, or (B,).
            good: (B, T) bool, False for frames to leave out.
            p_canvases: P of every group; that of the constructor when omitted.

        Returns:
            (B, P * blocks_per_canvas, 3) long, as `forward` with rows of -1 at the end, and (B,)
            long number of blocks. Row for row equal to `forward` on each group.
        """
        p = self.p_canvases if p_canvases is None else p_canvases
        return _of_many(self._choose, scores, lengths, blocks_per_canvas, p, anchor, good)

    def damped(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(..., N) float64 scores -> damped ones by rank, and the (..., N) block at each rank."""
        return damp_by_rank(scores, self.rank_damping)

    def _choose(self, scores: Tensor, usable: Tensor, blocks: int, p_canvases: int) -> tuple[Tensor, Tensor]:
        per_frame = scores.shape[2] * scores.shape[3]
        damped, block = self.damped(_finite(scores).flatten(2))
        positive = damped.clamp(min=0)
        weights = (positive.sum(2) + self.peak_weight * positive.amax(2)).clamp_(min=_LEAST_WEIGHT)
        weights = torch.where(usable, weights, 0.0)
        damped.masked_fill_(~usable[..., None], -torch.inf)
        frames = torch.arange(scores.shape[1], device=scores.device)
        by_rank = stratify(
            frames.repeat_interleave(per_frame), damped.flatten(1), weights, p_canvases, blocks
        ).canvas.view_as(damped)
        canvas = torch.empty_like(by_rank).scatter_(2, block, by_rank).flatten(1)
        places = p_canvases * blocks
        if self.placement == "time":
            return _gather_blocks(canvas.clamp_(max=0), 1, places, scores.shape[2:])
        return _gather_blocks(canvas, p_canvases, places, scores.shape[2:])


class TopKBlockSelector(nn.Module):
    """The best blocks of all frames but the anchor, whatever their time: what the release runs.

    Args:
        p_canvases: P, canvases to fill where a call gives no other number.
    """

    def __init__(self, p_canvases: int = 3) -> None:
        super().__init__()
        check_number("p_canvases", p_canvases, low=0, integer=True)
        self.p_canvases = p_canvases

    def extra_repr(self) -> str:
        return f"p_canvases={self.p_canvases}"

    def forward(
        self,
        scores: Tensor,
        blocks_per_canvas: int | None = None,
        *,
        anchor: int = 0,
        good: Tensor | None = None,
        p_canvases: int | None = None,
    ) -> Tensor:
        """As `SaliencyBlockSelector.forward`: (T, hb, wb) -> (n, 3) long in (frame, row, col) order."""
        p = self.p_canvases if p_canvases is None else p_canvases
        return _of_one(self._choose, scores, blocks_per_canvas, p, anchor, good)

    def forward_batch(
        self,
        scores: Tensor,
        lengths: Tensor | None = None,
        blocks_per_canvas: int | None = None,
        *,
        anchor: int | Tensor = 0,
        good: Tensor | None = None,
        p_canvases: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `SaliencyBlockSelector.forward_batch`."""
        p = self.p_canvases if p_canvases is None else p_canvases
        return _of_many(self._choose, scores, lengths, blocks_per_canvas, p, anchor, good)

    def _choose(self, scores: Tensor, usable: Tensor, blocks: int, p_canvases: int) -> tuple[Tensor, Tensor]:
        flat = _finite(scores).masked_fill_(~usable[..., None, None], -torch.inf).flatten(1)
        places = p_canvases * blocks
        most = min(places, flat.shape[1])
        taken = first_best(flat, flat.new_full((len(flat), 1), most, dtype=torch.long), most)
        return _gather_blocks(taken.long() - 1, 1, places, scores.shape[2:])


def _of_one(
    choose: _Choose, scores: Tensor, blocks_per_canvas: int | None, p_canvases: int, anchor: int, good: Tensor | None
) -> Tensor:
    """Check one group, choose, and cut off the places that stay empty."""
    blocks = _check(scores, 3, blocks_per_canvas, p_canvases, good)
    usable = _usable(scores[None], anchor, good)
    chosen, _ = choose(scores[None], usable, blocks, p_canvases)
    return chosen[0, : _count(scores, usable, good, p_canvases * blocks)]


def _of_many(
    choose: _Choose,
    scores: Tensor,
    lengths: Tensor | None,
    blocks_per_canvas: int | None,
    p_canvases: int,
    anchor: int | Tensor,
    good: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Check a batch of groups and choose."""
    blocks = _check(scores, 4, blocks_per_canvas, p_canvases, good)
    return choose(scores, _usable(scores, anchor, good, lengths), blocks, p_canvases)


def _gather_blocks(canvas: Tensor, lots: int, places: int, grid: torch.Size) -> tuple[Tensor, Tensor]:
    """(B, N) lot of each block, blocks in (frame, row, col) order -> ((B, places, 3), (B,) how many).

    Lot by lot from 0 to `lots` - 1, the blocks of each in their order; -1 is left out.
    """
    if canvas.device.type == "cpu" and uses_kernels():
        from ov2kit.codec.compiled.selection import gather_blocks

        out = torch.empty(len(canvas), places, 3, dtype=torch.long)
        each = zip(canvas.contiguous().numpy(), out.numpy(), strict=True)
        return out, torch.tensor([gather_blocks(own, lots, grid[0], grid[1], found) for own, found in each])
    chosen = canvas >= 0
    slot = torch.full_like(canvas, places)
    start = torch.zeros_like(canvas[:, :1])
    for lot in range(lots):
        mine = canvas == lot
        slot = torch.where(mine, start + mine.cumsum(1) - 1, slot)
        start = start + mine.sum(1, keepdim=True)
    block = torch.arange(canvas.shape[1], device=canvas.device).expand_as(canvas)
    index = canvas.new_full((len(canvas), places + 1), -1).scatter_(1, slot, block)[:, :places]
    row, column = index.div(grid[1], rounding_mode="floor") % grid[0], index % grid[1]
    frame = index.div(grid[0] * grid[1], rounding_mode="floor")
    return torch.stack([frame, row, column], dim=2).masked_fill_((index < 0)[..., None], -1), chosen.sum(1)


def _usable(scores: Tensor, anchor: int | Tensor, good: Tensor | None, lengths: Tensor | None = None) -> Tensor:
    """(B, T) bool: frames that may give blocks."""
    rows, count = scores.shape[:2]
    if isinstance(anchor, int) and not 0 <= anchor < max(1, count):
        raise ValueError(f"anchor must be a frame from 0 to {count - 1}, got {anchor}")
    frames = torch.arange(count, device=scores.device)
    usable = (frames != torch.as_tensor(anchor, device=scores.device).reshape(-1, 1)).expand(rows, count)
    if lengths is not None:
        usable = usable & (frames < lengths.to(scores.device).reshape(-1, 1))
    return usable if good is None else usable & good.to(scores.device)


def _count(scores: Tensor, usable: Tensor, good: Tensor | None, places: int) -> int:
    """Blocks that will be chosen from one group; asks the device only where a mask was given."""
    frames = max(0, len(scores) - 1) if good is None else int(usable.sum())
    return min(places, frames * scores.shape[1] * scores.shape[2])


def _finite(scores: Tensor) -> Tensor:
    return scores.detach().to(torch.float64, copy=True).nan_to_num_(nan=0.0, posinf=1e30, neginf=-1e30)


def _check(scores: Tensor, ndim: int, blocks_per_canvas: int | None, p_canvases: int, good: Tensor | None) -> int:
    shape = "(T, hb, wb)" if ndim == 3 else "(B, T, hb, wb)"
    if scores.ndim != ndim or scores.shape[-1] * scores.shape[-2] == 0:
        raise ValueError(f"scores must be {shape} with at least one block, got {tuple(scores.shape)}")
    if good is not None and good.shape != scores.shape[:-2]:
        raise ValueError(f"good must mark each of the {tuple(scores.shape[:-2])} frames, got {tuple(good.shape)}")
    check_number("p_canvases", p_canvases, low=0, integer=True)
    blocks = scores.shape[-1] * scores.shape[-2] if blocks_per_canvas is None else blocks_per_canvas
    return check_number("blocks_per_canvas", blocks, low=1, integer=True)
