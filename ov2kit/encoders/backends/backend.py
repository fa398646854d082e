"""What an attention backend is: a name, the reasons it cannot run, and a function.

Who sees whom is `Segments`; a backend is only how. Letters: N tokens, H heads, D head_dim.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ov2kit.segments import Segments

Attend = Callable[[Tensor, Tensor, Tensor, Segments], Tensor]

#: Largest absolute difference between a backend and `eager` in float64, for inputs of unit variance,
#: forward and backward; half precision pays for rounding the probabilities and the output.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@dataclass(frozen=True)
class Backend:
    """One way to compute softmax(q k^T / sqrt(D)) v within segments.

    Args:
        name: what callers ask for.
        why_not: (q, segments) -> every reason it cannot run, [] when it can.
        run: (q, k, v, segments) -> out, all (N, H, D); gradients flow.
        auto: whether "auto" may choose it.
    """

    name: str
    why_not: Callable[[Tensor, Segments], list[str]]
    run: Attend
    auto: bool = True


def kernel_reasons(q: Tensor, *, head_dim_limit: int) -> list[str]:
    """Why a half-precision CUDA kernel cannot take q."""
    reasons = []
    if q.device.type != "cuda":
        reasons.append(f"tensors are on {q.device.type}, the kernel needs cuda")
    if q.dtype not in (torch.float16, torch.bfloat16):
        reasons.append(f"dtype is {q.dtype}, the kernel takes float16 or bfloat16")
    if q.shape[-1] % 8 or q.shape[-1] > head_dim_limit:
        reasons.append(f"head_dim is {q.shape[-1]}, the kernel takes multiples of 8 up to {head_dim_limit}")
    return reasons


@functools.lru_cache(maxsize=64)
def trial(run: Attend, device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """Why `run` fails on 16 tokens in two segments, or None if it does not.

    A package can be there, and its functions too, without the kernels for this GPU or this torch;
    only a call shows it.
    """
    segments = Segments.from_lengths([8, 8], device)
    q = torch.zeros(16, 1, head_dim, device=device, dtype=dtype)
    try:
        with torch.no_grad():
            run(q, q, q, segments)
    except Exception as error:
        return one_line(error)
    return None


def one_line(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
