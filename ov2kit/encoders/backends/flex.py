"""Attention by torch's FlexAttention, compiled, with a block mask made from the run lengths.

The mask is built block by block on the host, (N / 128)^2 flags, never N x N. Source:
`torch.nn.attention.flex_attention`. By name only: the first call of a new kind compiles for
tens of seconds, which "auto" should not spring on anyone.
"""

import functools
import os
import shutil
from typing import Any

import torch
from torch import Tensor

from ov2kit.encoders.backends.backend import Backend, one_line
from ov2kit.segments import Segments

_BLOCK = 128


@functools.cache
def _flex() -> Any:
    try:
        from torch.nn.attention import flex_attention
    except Exception as error:
        return error
    return flex_attention


@functools.cache
def _compiled() -> Any:
    return torch.compile(_flex().flex_attention, dynamic=True)


def _why_not(q: Tensor, segments: Segments) -> list[str]:
    reasons = []
    if isinstance(error := _flex(), Exception):
        reasons.append(f"torch.nn.attention.flex_attention cannot be imported: {one_line(error)}")
    if q.device.type not in ("cpu", "cuda"):
        reasons.append(f"tensors are on {q.device.type}, the kernel needs cpu or cuda")
    if q.device.type == "cpu" and q.requires_grad and torch.is_grad_enabled():
        reasons.append("gradients are wanted, the kernel has no backward on cpu")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        reasons.append("there is no C++ compiler, which torch.compile needs")
    if q.dtype == torch.float64:
        reasons.append("dtype is torch.float64, the kernel takes float32 and below")
    if q.device.type == "cuda" and (q.shape[-1] < 16 or q.shape[-1] & (q.shape[-1] - 1)):
        reasons.append(f"head_dim is {q.shape[-1]}, the kernel takes powers of 2 from 16 on")
    return reasons


def _block_flags(runs: tuple[tuple[int, int], ...], keys: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """(blocks, blocks) bool twice: blocks with something to see, and those where all is seen."""
    blocks = -(-runs[-1][1] // _BLOCK)
    some, full = torch.zeros(2, blocks, blocks, dtype=torch.bool)
    for (start, end), (first, last) in zip(runs, keys, strict=True):
        some[start // _BLOCK : (end - 1) // _BLOCK + 1, first // _BLOCK : (last - 1) // _BLOCK + 1] = True
        full[-(-start // _BLOCK) : end // _BLOCK, -(-first // _BLOCK) : last // _BLOCK] = True
    return some & ~full, full


def _listed(flags: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Flags -> how many blocks per row, and which, as FlexAttention wants them (1, 1, ...)."""
    counts = flags.sum(-1, dtype=torch.int32)
    order = flags.to(torch.int8).argsort(dim=-1, descending=True, stable=True).to(torch.int32)
    return counts[None, None].to(device), order[None, None].to(device)


@functools.lru_cache(maxsize=16)
def _block_mask(runs: tuple[tuple[int, int], ...], keys: tuple[tuple[int, int], ...], device: torch.device) -> Any:
    n = runs[-1][1]
    counts = torch.tensor([end - start for start, end in runs])
    first, last = (torch.repeat_interleave(torch.tensor(side), counts).to(device) for side in zip(*keys, strict=True))
    some, full = _block_flags(runs, keys)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key >= first[query]) & (key < last[query])

    return _flex().BlockMask.from_kv_blocks(
        *_listed(some, device), *_listed(full, device), BLOCK_SIZE=_BLOCK, mask_mod=sees, seq_lengths=(n, n)
    )


def _run(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    if not len(q):
        return q
    mask = _block_mask(segments.runs, segments.keys or segments.runs, q.device)
    out = _compiled()(*(x.transpose(0, 1)[None] for x in (q, k, v)), block_mask=mask)
    return out[0].transpose(0, 1)  # type: ignore[no-any-return]


FLEX = Backend("flex", _why_not, _run, auto=False)
