"""Overlapping slices of a packed sequence, with a backward pass that costs what the slices hold.

torch's own slice gives back a gradient of the whole sequence, zeros but for one run: with S slices
that is S times the sequence, which the sums over all of them then pass over again.
Letters: N tokens, H heads, D head_dim.
"""

from typing import Any

import torch
from torch import Tensor

Bounds = tuple[int, int]  # [start, end) of tokens


def slices(x: Tensor, runs: tuple[Bounds, ...]) -> tuple[Tensor, ...]:
    """`x[start:end]` for every run, as views; runs may overlap.

    Args:
        x: (N, H, D).
        runs: [start, end) of tokens.
    """
    if not (torch.is_grad_enabled() and x.requires_grad):
        return tuple(x[start:end] for start, end in runs)
    parts: tuple[Tensor, ...] = _Slices.apply(x, runs)
    return parts


class _Slices(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, runs: tuple[Bounds, ...]) -> tuple[Tensor, ...]:
        return tuple(x[start:end] for start, end in runs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[Bounds, ...]], output: tuple[Tensor, ...]) -> None:
        x, ctx.runs = inputs
        ctx.shape = x.shape
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, None]:
        given = [(run, grad) for run, grad in zip(ctx.runs, grads, strict=True) if grad is not None]
        if not given:
            return None, None
        runs, parts = zip(*given, strict=True)
        return _Sum.apply(ctx.shape, runs, *parts), None


class _Sum(torch.autograd.Function):
    """The parts added up at their runs: the transpose of `slices`."""

    @staticmethod
    def forward(shape: torch.Size, runs: tuple[Bounds, ...], *parts: Tensor) -> Tensor:
        total = parts[0].new_zeros(shape)
        for (start, end), part in zip(runs, parts, strict=True):
            total[start:end] += part
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.runs = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return (None, None, *slices(grad, ctx.runs))
