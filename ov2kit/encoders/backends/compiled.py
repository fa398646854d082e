"""Attention as one opaque operation inside compiled code.

`torch.compile` sees a single node for all segments: no graph break, no call per segment in the
graph, and no new compilation when the lengths change, because they arrive as a host tensor. The
backward pass computes the attention again instead of keeping what the backends keep.
"""

from typing import Any, cast

import torch
from torch import Tensor

from ov2kit.encoders.backends.choose import BackendName, choose
from ov2kit.segments import Segments


def _segments(table: Tensor, cu_seqlens: Tensor) -> Segments:
    rows = table.tolist()
    return Segments(
        tuple(end - start for start, end, _, _ in rows), cu_seqlens, tuple((first, last) for _, _, first, last in rows)
    )


def _autograd_works_here() -> Any:
    """Inside an operation torch records nothing; this lets the recomputation be recorded again."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in ("AutogradFunctionality", "AutogradCPU", "AutogradCUDA", "ADInplaceOrView"):
        excluded = excluded.remove(getattr(torch._C.DispatchKey, key))
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded)


@torch.library.custom_op("ov2kit::attend", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor, table: Tensor, cu_seqlens: Tensor, backend: str) -> Tensor:
    segments = _segments(table, cu_seqlens)
    out = choose(q, segments, cast(BackendName, backend)).backend.run(q, k, v, segments).contiguous()
    return out.clone() if out is q else out


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, table: Tensor, cu_seqlens: Tensor, backend: str) -> Tensor:
    return torch.empty_like(v, memory_format=torch.contiguous_format)


@torch.library.custom_op("ov2kit::attend_backward", mutates_args=())
def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, table: Tensor, cu_seqlens: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    segments = _segments(table, cu_seqlens)
    with _autograd_works_here(), torch.enable_grad():
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        out = choose(q, segments, cast(BackendName, backend)).backend.run(q, k, v, segments)
        grads = torch.autograd.grad(out, (q, k, v), grad)
    return grads[0].contiguous(), grads[1].contiguous(), grads[2].contiguous()


@_attend_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, table: Tensor, cu_seqlens: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    plain = torch.contiguous_format
    return (
        torch.empty_like(q, memory_format=plain),
        torch.empty_like(k, memory_format=plain),
        torch.empty_like(v, memory_format=plain),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return (*_attend_backward(grad, *ctx.saved_tensors, ctx.backend), None, None, None)


_attend.register_autograd(_backward, setup_context=_keep)


def attend_opaque(q: Tensor, k: Tensor, v: Tensor, segments: Segments, backend: BackendName) -> Tensor:
    """`attend` as one node of a compiled graph."""
    out: Tensor = _attend(q, k, v, segments.table, segments.cu_seqlens, backend)
    return out
