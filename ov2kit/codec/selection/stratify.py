"""Cut time into stretches of equal weight, and fill one P-canvas from each.

Source: LLaVA-OneVision-2 (arXiv 2605.25979, section 2.2). Letters: B clips or groups in a batch, T frames, N
candidates, P P-canvases.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels

_STEPS = 3  # in its range, near its center, anywhere


@dataclass(frozen=True)
class StratifiedChoice:
    """What `stratify` chose, in the order of its candidates; tensors on the device of the scores.

    Args:
        canvas: (B, N) long P-canvas of each candidate, -1 where it was not chosen.
        turn: (B, N) long order of picking: sort the chosen by (turn, score descending).
        focus: (B, P, 3) long first and last frame of each canvas's range, and its center.
    """

    canvas: Tensor
    turn: Tensor
    focus: Tensor


def stratify(
    frames: Tensor,
    scores: Tensor,
    frame_weights: Tensor,
    p_canvases: int,
    blocks_per_canvas: int,
) -> StratifiedChoice:
    """Cut time into ranges of equal weight and fill one canvas from each.

    The cumulative weight of the frames is cut into P equal quantiles. Canvas p takes the best free
    candidates of its range (both ends included, so neighbors share a frame); if too few, of the
    frames within the range's length of its center; then of all frames.

    Args:
        frames: (N,) long frame of each candidate, ascending; candidates of a frame in the order
            that breaks ties.
        scores: (B, N) float64; -inf marks what is no candidate.
        frame_weights: (B, T) float64; positive for frames with candidates, 0 for the others.
        p_canvases: P.
        blocks_per_canvas: how many blocks fill a canvas.
    """
    if scores.device.type == "cpu" and uses_kernels():
        return _compiled(frames, scores, frame_weights, p_canvases, blocks_per_canvas)
    count = scores.shape[1]
    listed = frame_weights > 0
    in_time = torch.arange(frame_weights.shape[1], device=scores.device)
    first = torch.where(listed, in_time, len(in_time)).amin(1, keepdim=True).clamp_(max=len(in_time) - 1)
    last = torch.where(listed, in_time, -1).amax(1, keepdim=True).clamp_(min=0)
    # With fewer candidates than places, cut only as many ranges as there are canvases to fill.
    candidates = (scores > -torch.inf).sum(1, keepdim=True)
    used = (-(-candidates // blocks_per_canvas)).clamp_(1, max(1, p_canvases))
    cumulated = frame_weights.cumsum(1)
    cumulated = cumulated / cumulated[:, -1:].clamp(min=1e-300)
    edges = torch.arange(p_canvases, device=scores.device, dtype=torch.float64)
    quantiles = torch.stack([edges, edges + 1, edges + 0.5], dim=1).flatten() / used
    below = (cumulated[:, None] < quantiles[:, :, None]).sum(2)  # searchsorted, left
    focus = below.clamp_(first, last).view(len(scores), p_canvases, 3)

    low, high, center = focus.unbind(2)
    radius = high + 1 - low
    near, anywhere = (center - radius, center + radius), (first.expand_as(low), last.expand_as(low))
    ranges = torch.stack([torch.stack(each, dim=2) for each in ((low, high), near, anywhere)], dim=2)
    turn = _turns(frames, scores, ranges, min(blocks_per_canvas, count))
    canvas = torch.where(turn < 0, -1, turn.div(_STEPS, rounding_mode="floor"))
    return StratifiedChoice(canvas, turn, focus)


def _compiled(frames: Tensor, scores: Tensor, weights: Tensor, p_canvases: int, blocks: int) -> StratifiedChoice:
    from ov2kit.codec.compiled import selection as kernels

    turn, canvas = torch.empty(2, *scores.shape, dtype=torch.long)
    focus = torch.empty(len(scores), p_canvases, 3, dtype=torch.long)
    given = (scores.contiguous().numpy(), weights.contiguous().numpy())
    own = frames.contiguous().numpy()
    for each in zip(*given, turn.numpy(), canvas.numpy(), focus.numpy(), strict=True):
        kernels.stratify(own, *each[:2], blocks, *each[2:])
    return StratifiedChoice(canvas, turn, focus)


def _turns(frames: Tensor, scores: Tensor, ranges: Tensor, most: int) -> Tensor:
    """See `StratifiedChoice.turn`; (B, P, steps, 2) first and last frames that canvases take from, step by step."""
    left = scores.clone()  # -inf once taken
    turn = torch.full_like(scores, -1, dtype=torch.long)
    for p in range(ranges.shape[1]):
        room = torch.full((len(scores), 1), most, device=scores.device)
        for step in range(_STEPS):
            begin, end = ranges[:, p, step, :1], ranges[:, p, step, 1:]
            near = left.masked_fill((frames < begin) | (frames > end), -torch.inf)
            taken = first_best(near, room, most)
            left.masked_fill_(taken, -torch.inf)
            turn.masked_fill_(taken, p * _STEPS + step)
            room = room - taken.sum(1, keepdim=True)
            if not room.is_cuda and not room.any():  # on a device it is cheaper to go on than to ask
                break
    return turn


def first_best(scores: Tensor, room: Tensor, most: int) -> Tensor:
    """(B, N) bool: the `room` (B, 1) <= `most` best scores above -inf, the first of equals."""
    if most == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    best = scores.topk(most, dim=1).values
    least = best.gather(1, (room - 1).clamp(min=0))  # the score of the last to be taken
    above = scores > least
    equal = (scores == least) & (least > -torch.inf)
    spare = room - above.sum(1, keepdim=True)
    return (above | (equal & (equal.cumsum(1) <= spare))) & (room > 0)
