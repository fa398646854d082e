"""Attention by xformers' memory-efficient kernels with a block-diagonal bias (CUDA).

The names are probed where they are used and never at import: newer xformers releases keep their
attention in the package mslk, and xformers can be installed without its kernels.
"""

import functools
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ov2kit.encoders.backends.backend import Backend, kernel_reasons, one_line, trial
from ov2kit.encoders.backends.pairs import misfits
from ov2kit.encoders.backends.slices import slices
from ov2kit.segments import Segments

#: where `memory_efficient_attention` and `attn_bias.BlockDiagonalMask` live, oldest home first
HOMES = ("xformers.ops.fmha", "mslk.attention.fmha")


class _Kernels:
    """The two things that are called, from the first home that has both."""

    def __init__(self, attention: Callable[..., Tensor], mask: Any) -> None:
        self.attention = attention
        self.mask = mask


@functools.cache
def _kernels() -> _Kernels | str:
    missing = []
    for home in HOMES:
        try:
            found = _Kernels(
                import_module(home).memory_efficient_attention, import_module(f"{home}.attn_bias").BlockDiagonalMask
            )
            if (failure := _load_failure(home)) is not None:
                raise failure
            return found
        except Exception as error:  # a broken binary raises OSError and worse, not only ImportError
            missing.append(f"{home}: {one_line(error)}")
    return "; ".join(missing)


def _load_failure(home: str) -> BaseException | None:
    """What kept the compiled library of this home from loading, which xformers notes and only warns of.

    Without it slower kernels may still run; torch's own are better then.
    """
    package = home.partition(".")[0]
    failure = getattr(sys.modules.get(f"{package}._cpp_lib"), "_cpp_library_load_exception", None)
    return failure if isinstance(failure, BaseException) else None


@functools.lru_cache(maxsize=16)
def _bias(lengths: tuple[int, ...], device: torch.device) -> Any:
    """The bias of one forward pass, made once for all of its layers."""
    kernels = _kernels()
    if isinstance(kernels, str):
        raise RuntimeError(kernels)
    return kernels.mask.from_seqlens(list(lengths), device=device)


def _why_not(q: Tensor, segments: Segments) -> list[str]:
    reasons = kernel_reasons(q, head_dim_limit=256)
    if isinstance(missing := _kernels(), str):
        why = "; ".join(misfits().values()) or "pip install --constraint constraints-gpu.txt 'ov2kit[gpu]'"
        reasons.append(f"xformers attention cannot be imported ({missing}); {why}")
    if not reasons and (failure := trial(_run, q.device, q.dtype, q.shape[-1])):
        why = "; ".join(misfits().values()) or "xformers must be built for this torch and GPU"
        reasons.append(f"the kernels do not run here ({failure}); {why}")
    return reasons


def _run(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    kernels = _kernels()
    if isinstance(kernels, str):
        raise RuntimeError(kernels)
    if not len(q):
        return q
    if segments.keys is None:
        return kernels.attention(q[None], k[None], v[None], attn_bias=_bias(segments.lengths, q.device))[0]
    # Causal over groups: the bias cannot let runs of keys overlap, slices can.
    parts = zip(slices(q, segments.runs), slices(k, segments.keys), slices(v, segments.keys), strict=True)
    return torch.cat([kernels.attention(*(x[None] for x in part))[0] for part in parts])


XFORMERS = Backend("xformers", _why_not, _run)
