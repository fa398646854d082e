"""The rotation of `ov2kit.positional.rotation` as one CUDA kernel, written in Triton.

In torch's own operations a rotation reads and writes its tensor some ten times, in float32; here
every number is read once and written once. Only for CUDA tensors, and only where Triton is
installed (torch's CUDA builds bring it) and can build a kernel.
Letters: N tokens, H heads, D head_dim, F = D / 2 pairs.
"""

import functools

import torch
from torch import Tensor

from ov2kit.positional.pairing import Pairing

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

# Heads turned by one program: enough to hide the loads of a token's cosines and sines.
_HEADS = 16


if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator, unused-ignore]
    def _turn(  # type: ignore[no-untyped-def]
        x,  # Triton takes any other annotation than its own for a variable of this file
        out,
        cos,
        sin,
        heads,
        x_token,
        x_head,
        out_token,
        out_head,
        pairs: tl.constexpr,
        padded: tl.constexpr,
        many: tl.constexpr,
        half: tl.constexpr,
        exact: tl.constexpr,
    ):
        token = tl.program_id(0).to(tl.int64)
        head = tl.program_id(1) * many + tl.arange(0, many)
        at = x + token * x_token + head[:, None] * x_head
        into = out + token * out_token + head[:, None] * out_head
        row = token * 2 * pairs
        if half:  # the two channels of a pair are a run of channels each
            first = tl.arange(0, padded)
            second = first + pairs
            there = first < pairs
            mask = (head < heads)[:, None] & there[None, :]
            c1 = tl.load(cos + row + first, there, 0).to(exact)[None, :]
            c2 = tl.load(cos + row + second, there, 0).to(exact)[None, :]
            s1 = tl.load(sin + row + first, there, 0).to(exact)[None, :]
            s2 = tl.load(sin + row + second, there, 0).to(exact)[None, :]
            a = tl.load(at + first[None, :], mask, 0).to(exact)
            b = tl.load(at + second[None, :], mask, 0).to(exact)
            tl.store(into + first[None, :], a * c1 - b * s1, mask)
            tl.store(into + second[None, :], b * c2 + a * s2, mask)
        else:  # they are neighbors: whole rows are read, since every second channel would come ten times slower
            channel = tl.arange(0, 2 * padded)
            there = channel < 2 * pairs
            mask = (head < heads)[:, None] & there[None, :]
            c1, c2 = tl.split(tl.reshape(tl.load(cos + row + channel, there, 0).to(exact), (1, padded, 2)))
            s1, s2 = tl.split(tl.reshape(tl.load(sin + row + channel, there, 0).to(exact), (1, padded, 2)))
            a, b = tl.split(tl.reshape(tl.load(at + channel[None, :], mask, 0).to(exact), (many, padded, 2)))
            turned = tl.join(a * c1 - b * s1, b * c2 + a * s2)
            tl.store(into + channel[None, :], tl.reshape(turned, (many, 2 * padded)), mask)


def rotate_in_one_kernel(x: Tensor, cos: Tensor, sin: Tensor, pairing: Pairing, out: Tensor) -> Tensor:
    """Write the rotated x to `out`.

    Args:
        x: (N, H, D) on a CUDA device, channels in a row.
        cos: (N, D).
        sin: (N, D).
        pairing: which channels form a pair.
        out: (N, H, D), channels in a row; may be x.

    Returns:
        `out`.
    """
    n, heads, channels = x.shape
    if x.numel():
        exact = tl.float64 if x.dtype == torch.float64 else tl.float32
        pairs = channels // 2
        with torch.cuda.device(x.device):
            _turn[n, triton.cdiv(heads, _HEADS)](
                x,
                out,
                cos.contiguous(),
                sin.contiguous(),
                heads,
                *(x.stride(0), x.stride(1), out.stride(0), out.stride(1)),
                pairs=pairs,
                padded=triton.next_power_of_2(pairs),
                many=_HEADS,
                half=pairing == "half",
                exact=exact,
            )
    return out


def takes(x: Tensor, out: Tensor) -> bool:
    """Whether `rotate_in_one_kernel` can rotate x into out."""
    return x.ndim == out.ndim == 3 and x.stride(-1) == out.stride(-1) == 1 and _runs(x.device)


@functools.cache
def _runs(device: torch.device) -> bool:
    """Whether a kernel can be built and gives right numbers here; only a call shows it."""
    if triton is None:
        return False
    x = torch.tensor([[[1.0, 2.0]]], device=device)
    cos, sin = torch.tensor([[0.0, 1.0]], device=device), torch.tensor([[1.0, 0.0]], device=device)
    try:
        got = rotate_in_one_kernel(x, cos, sin, "interleaved", torch.empty_like(x))
    except Exception:  # no compiler, no driver, too old a GPU: torch's operations do the same
        return False
    return got.flatten().tolist() == [-2.0, 2.0]
