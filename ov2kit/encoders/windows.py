"""Spatial windows as an order of tokens and segments, without a mask.

Tokens are sorted so that those of one window lie side by side; a window is then a segment like
any other, at native resolution, with smaller windows at the borders and nothing wrapped around.
Source: shifted windows (Swin, arXiv 2103.14030, section 3.2), with the cyclic shift and its mask
replaced by border windows.
Letters: N tokens; t, h, w canvases, patch rows and patch columns of one grid row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from ov2kit.errors import check_choice, check_number, check_numbers
from ov2kit.geometry import check_grids, to_block_layout
from ov2kit.segments import Segments

Span = Literal["canvas", "segment"]


@dataclass(frozen=True)
class Windows:
    """The order in which windows are segments, and the way back.

    Args:
        order: (N,) int64; `x[order]` has the tokens of each window side by side.
        inverse: (N,) int64; `y[inverse]` undoes it.
        segments: who sees whom in that order.
        base: who sees whom without windows, in the order that tokens come in.
    """

    order: Tensor = field(repr=False)
    inverse: Tensor = field(repr=False)
    segments: Segments
    base: Segments


def spatial_windows(
    segments: Segments,
    grid_thw: Tensor | Sequence[Sequence[int]],
    window: tuple[int, int],
    *,
    shift: tuple[int, int] = (0, 0),
    merge: int = 2,
    span: Span = "canvas",
) -> Windows:
    """Cut the visibility of `segments` down to windows of patches. Host work, once per forward.

    Args:
        segments: who sees whom without windows: by group, per canvas, causal, ...
        grid_thw: rows (t, h, w) in patches that the packed tokens come from, in block layout.
        window: (rows, columns) of patches per window.
        shift: (rows, columns) by which the window borders move down and right.
        merge: patches per block edge of the layout.
        span: "canvas" keeps a window within one canvas; "segment" joins the same window of all
            canvases that see each other, so causal segments stay causal in time.

    Returns:
        Order and segments on the device of `segments`.

    Raises:
        ValueError: the grid does not have the tokens of `segments`, a window below 1 patch, or
            visibility other than block-diagonal or causal.
    """
    rows = check_grids("grid_thw", grid_thw)
    check_numbers("window", window, length=2, low=1, integer=True)
    check_numbers("shift", shift, length=2, low=0, integer=True)
    check_number("merge", merge, low=1, integer=True)
    check_choice("span", span, get_args(Span))
    if sum(t * h * w for t, h, w in rows) != segments.num_tokens:
        raise ValueError(f"grid_thw {rows} has another number of patches than segments: {segments.num_tokens}")
    ends = [end for _, end in segments.runs]
    keys = segments.keys or segments.runs
    if [end for _, end in keys] != ends:
        raise ValueError("spatial windows compose with block-diagonal and causal segments only")

    stride = max((w for _, _, w in rows), default=0) + 2
    places: list[Tensor] = []
    canvases: list[Tensor] = []
    before = 0  # canvases
    for t, h, w in rows:
        down = (torch.arange(h) - shift[0] % window[0]).div(window[0], rounding_mode="floor") + 1
        right = (torch.arange(w) - shift[1] % window[1]).div(window[1], rounding_mode="floor") + 1
        place = (down[:, None] * stride + right).expand(t, h, w)
        canvas = torch.arange(t)[:, None, None].expand(t, h, w) + before
        before += t
        places.append(to_block_layout(place, merge))
        canvases.append(to_block_layout(canvas, merge))
    place = torch.cat(places) if places else torch.zeros(0, dtype=torch.int64)
    canvas = torch.cat(canvases) if canvases else torch.zeros(0, dtype=torch.int64)
    counts = torch.tensor(segments.lengths, dtype=torch.int64)
    segment = torch.repeat_interleave(torch.arange(len(counts)), counts)
    # What one segment sees before itself has the same first key: those segments share their windows.
    first_key = torch.tensor([first for first, _ in keys], dtype=torch.int64)[segment]

    within = (segment, canvas, place) if span == "canvas" else (first_key, place, segment)
    _, label = torch.unique(torch.stack(within, dim=1), dim=0, return_inverse=True)
    order = label.argsort(stable=True)
    lengths = torch.bincount(label).tolist() if len(label) else []
    device = segments.cu_seqlens.device
    windowed = Segments.from_lengths(lengths, device)
    if span == "segment" and segments.keys is not None:
        first_of_run = order[torch.tensor([start for start, _ in windowed.runs])]
        shared = torch.stack((first_key[first_of_run], place[first_of_run]), dim=1)
        windowed = windowed.causal(torch.unique_consecutive(shared, dim=0, return_counts=True)[1].tolist())
    return Windows(order.to(device), order.argsort().to(device), windowed, segments)
