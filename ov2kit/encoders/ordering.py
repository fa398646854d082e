"""The order of packed tokens: equal lengths side by side, and the way there and back.

Segments of equal length side by side are a batch that is a view and not a copy; the encoder sorts
once for all of its blocks. Letters: N tokens.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ov2kit.segments import Segments


def equal_lengths_together(segments: Segments) -> tuple[Segments, Tensor, Tensor] | None:
    """Segments sorted by length, if that brings equal ones together.

    Returns:
        (sorted segments, order (N,) int64 with `x[order]` in their order, its inverse), or None if
        equal lengths are neighbors already or segments see one another.
    """
    if segments.keys is not None or are_together(segments.lengths):
        return None
    by_length = sorted(range(len(segments.lengths)), key=segments.lengths.__getitem__)
    order, inverse = token_order(segments.runs, by_length)
    device = segments.cu_seqlens.device
    together = Segments.from_lengths((segments.lengths[i] for i in by_length), device)
    return together, order.to(device), inverse.to(device)


def are_together(lengths: tuple[int, ...]) -> bool:
    """Whether equal lengths are neighbors."""
    return sum(a != b for a, b in pairwise(lengths)) < len(set(lengths))


def token_order(runs: tuple[tuple[int, int], ...], by: list[int]) -> tuple[Tensor, Tensor]:
    """Order of the tokens when the runs come as in `by`, and its inverse; each (N,) int64 on the host."""
    order = torch.cat([torch.arange(*runs[i]) for i in by])
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    return order, inverse


def permute(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """`x[order]` along the first axis, for an order that holds every token once.

    The gradient is `grad[inverse]`: torch, which cannot know that no token repeats, would add up
    into zeros one row at a time.
    """
    if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and x.requires_grad):
        return x.index_select(0, order)
    out: Tensor = _Permute.apply(x, order, inverse)
    return out


class _Permute(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        return x.index_select(0, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return permute(grad, inverse, order), None, None
