"""Call a linear layer; at inference on a CPU, a plain one through the kernel that is fastest there.

torch's own float32 `linear` calls the BLAS it was built with; oneDNN, which torch also carries,
multiplies the same numbers faster on the x86 CPUs we measured, and applies the GELU while they are
in cache, in bfloat16 too.
Everything else (training, other devices and dtypes, compiled code, and every layer that is more
than a `nn.Linear` as torch made it) is called.
"""

import functools
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module

# Smaller layers are not worth the way there.
_LEAST_WEIGHTS = 1 << 16
# What a module runs before, around or after its forward, and what torch runs for all modules.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def linear(x: Tensor, layer: nn.Module, act: nn.Module | None = None) -> Tensor:
    """`layer(x)`, followed by `act` if there is one.

    Args:
        x: (..., in_features).
        layer: any module that maps the last axis: adapters, hooks, quantized and sharded layers
            take effect.
        act: activation; a plain GELU is computed together with a plain layer.

    Returns:
        (..., out_features), equal to the plain composition up to float32 rounding.
    """
    gelu = act if act is not None and is_plain_gelu(act) else None
    if is_plain(layer) and _plain_cpu_inference(x, layer.weight) and _has_onednn():
        after: tuple[str, list[float], str] = ("none", [], "") if gelu is None else ("gelu", [], gelu.approximate)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), layer.weight, layer.bias, *after)
    else:
        out, gelu = layer(x), None
    return out if act is None or gelu is not None else act(out)


def is_plain(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether calling `layer` does what `nn.Linear` does and nothing else, so that skipping the call changes nothing.

    False for subclasses (adapters, quantized, sharded and parametrized layers are such), hooks on
    the layer or on all modules, a `forward` put on the instance, and weights that are more than a
    parameter.
    """
    return (
        type(layer) is nn.Linear
        and type(layer.weight) is nn.Parameter
        and (layer.bias is None or type(layer.bias) is nn.Parameter)
        and _is_as_made(layer)
    )


def is_plain_gelu(act: nn.Module) -> TypeGuard[nn.GELU]:
    """Whether calling `act` is a GELU, exact (erf form) or approximated by tanh, and nothing else."""
    return type(act) is nn.GELU and _is_as_made(act)


def _is_as_made(module: nn.Module) -> bool:
    """Whether no hook and no `forward` was put on a module since it was made."""
    return (
        "forward" not in vars(module)
        and not any(getattr(module, hooks) for hooks in _HOOKS)
        and not any(getattr(torch_module, f"_global{hooks}") for hooks in _HOOKS)
    )


def floating_dtype(module: nn.Module, otherwise: torch.dtype) -> torch.dtype:
    """The dtype `module` computes in: of its first floating-point parameter, `otherwise` if it has none.

    Not of `module.weight`: a quantized layer keeps integers there, or a method.
    """
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), otherwise)


@functools.cache
def _has_onednn() -> bool:
    """Whether the operation exists and computes what `linear` does; probed once, on 2 x 2 numbers."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        one = torch.eye(2)
        found = {
            name: torch.ops.mkldnn._linear_pointwise(one, one, torch.ones(2), "gelu", [], name)
            for name in ("none", "tanh")
        }
    except (AttributeError, RuntimeError):
        return False
    return all(torch.allclose(got, F.gelu(one + 1, approximate=name), atol=1e-5) for name, got in found.items())


@functools.cache
def _has_bfloat16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _plain_cpu_inference(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.is_grad_enabled()
        and x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _has_bfloat16()))
        and weight.numel() >= _LEAST_WEIGHTS
        and not torch.is_autocast_enabled("cpu")
        and type(x) is Tensor
        # Function transforms and forward-mode derivatives know `linear` only.
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )
