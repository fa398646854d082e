"""Attention by torch's own variable-length flash kernel (CUDA, block-diagonal segments).

Source: `torch.nn.attention.varlen.varlen_attn`, torch 2.10 and newer.
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ov2kit.encoders.backends.backend import Backend, kernel_reasons, one_line, trial
from ov2kit.segments import Segments


@functools.cache
def _kernel() -> Callable[..., Any] | Exception:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except Exception as error:
        return error
    return varlen_attn


def _why_not(q: Tensor, segments: Segments) -> list[str]:
    reasons = kernel_reasons(q, head_dim_limit=256)
    kernel = _kernel()
    if isinstance(kernel, Exception):
        reasons.append(f"torch.nn.attention.varlen.varlen_attn cannot be imported: {one_line(kernel)}")
    if not reasons and (failure := trial(_run, q.device, q.dtype, q.shape[-1])):
        reasons.append(f"the kernel does not run here ({failure})")
    if segments.keys is not None:
        # One key run per segment, laid end to end: earlier groups would have to be copied G times.
        reasons.append("segments see keys of other segments (causal), the kernel takes block-diagonal ones")
    return reasons


def _run(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    kernel = _kernel()
    if isinstance(kernel, Exception):
        raise kernel
    sums, longest = segments.cu_seqlens, segments.max_length
    if not len(q):
        return q
    # The kernel wants every head's channels in a row; a transposed or sliced layout is fine for q, k, v.
    out = kernel(q, k, v, sums, sums, longest, longest)
    return out if isinstance(out, Tensor) else out[0]


VARLEN = Backend("varlen", _why_not, _run)
