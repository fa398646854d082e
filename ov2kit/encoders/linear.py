"""Linear layers at inference on a CPU, through the kernel that is fastest there.

torch's own float32 `linear` calls the BLAS it was built with; oneDNN, which torch also carries,
multiplies the same numbers faster on the x86 CPUs we measured, and applies the GELU while they are
in cache, in bfloat16 too.
Everything else (training, other devices and dtypes, compiled code) takes torch's usual way.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Smaller layers are not worth the way there.
_LEAST_WEIGHTS = 1 << 16


@functools.cache
def _has_onednn() -> bool:
    """Whether the operation exists and computes what `linear` does; probed once, on 2 x 2 numbers."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        one = torch.eye(2)
        got = torch.ops.mkldnn._linear_pointwise(one, one, torch.ones(2), "gelu", [], "none")
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(got, F.gelu(one + 1), atol=1e-5)


@functools.cache
def _has_bfloat16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def linear(x: Tensor, layer: nn.Linear, *, gelu: bool = False) -> Tensor:
    """`layer(x)`, followed by the exact GELU if asked for.

    Args:
        x: (..., in_features).
        layer: read, not called: forward hooks do not run.
        gelu: apply GELU (erf form) to the result.

    Returns:
        (..., out_features), equal to the plain composition up to float32 rounding.
    """
    weight, bias = layer.weight, layer.bias
    if _plain_cpu_inference(x, weight) and _has_onednn():
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.contiguous(), weight, bias, *(("gelu", [], "none") if gelu else ("none", [], ""))
        )
        return out
    out = F.linear(x, weight, bias)
    return F.gelu(out) if gelu else out


def _plain_cpu_inference(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _has_bfloat16()))
        and weight.numel() >= _LEAST_WEIGHTS
        and not torch.is_autocast_enabled("cpu")
        and type(x) is Tensor
        and type(weight) in (Tensor, nn.Parameter)
    )
