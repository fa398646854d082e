"""Rotate queries and keys by the angles of their positions.

Sources: `apply_rotary_pos_emb_vision` and the vision `rotate_half` of LLaVA-OneVision-2 (pairing
"release"); RoFormer (arXiv 2104.09864), equations 15 and 34 ("interleaved"); GPT-NeoX ("half").
Letters: N tokens, H heads, D head_dim.

A pair (x, y) of channels becomes (x cos1 - y sin1, y cos2 + x sin2). The pairings differ in which
channels are a pair and in whether both use one angle:

=============  ==================  =====================================
pairing        pair                angle of channel j, F = D / 2
=============  ==================  =====================================
release        (2i, 2i + 1)        j mod F, so the two angles differ
interleaved    (2i, 2i + 1)        j // 2, one angle: an exact rotation
half           (i, i + F)          j mod F, one angle: an exact rotation
=============  ==================  =====================================

"release" keeps neither the norm of a vector nor makes q.k depend on position differences alone;
the released weights were trained with it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ov2kit.positional.pairing import Pairing, pairing_of, unmarked

# Numbers per step of the eager loop: a step and its temporaries then stay in a core's cache.
_STEP_NUMBERS = 1 << 18
# Below this many numbers the plain form is faster: fewer operations, and all of it is in cache.
_PLAIN_NUMBERS = 1 << 18


def apply_rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, pairing: Pairing | None = None
) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys.

    Computed in float32 (float64 for float64 inputs) and cast back. Gradients flow to `q` and `k`
    without keeping either for the backward pass; to `cos` and `sin` too if they require them.

    Args:
        q: (N, H, D) or (..., N, H, D), any strides.
        k: like q; the number of heads may differ.
        cos: (N, D) or (..., N, D), as a position module gives them.
        sin: like cos.
        pairing: which channels form a pair, see the table above. What position modules make knows
            its own, so it may be left out; plain tensors need it.

    Returns:
        New tensors of the shapes and dtypes of `q` and `k`.

    Raises:
        ValueError: unknown pairing, another one than `cos` and `sin` were made for, or shapes that
            do not fit.
    """
    return rotate(q, cos, sin, pairing=pairing), rotate(k, cos, sin, pairing=pairing)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, pairing: Pairing | None = None) -> Tensor:
    """`apply_rope` for one tensor (..., N, H, D)."""
    cos, sin, pairing = _checked(x, cos, sin, pairing)
    if torch.compiler.is_compiling() or cos.requires_grad or sin.requires_grad or x.device.type not in ("cpu", "cuda"):
        return _rotate_plain(x, cos, sin, pairing)
    return _Rotate.apply(x, cos, sin, pairing)  # type: ignore[no-any-return]


def rotate_for_inference(x: Tensor, cos: Tensor, sin: Tensor, *, pairing: Pairing | None = None) -> Tensor:
    """`rotate` for a tensor that nobody else holds: turned where it is if that is the faster way.

    Args:
        x: (N, H, D); overwritten or left alone.

    Returns:
        (N, H, D), x itself or a new tensor. No gradient passes through.
    """
    if x.device.type == "cuda" or (x.device.type == "cpu" and x.numel() > _PLAIN_NUMBERS):
        return rotate_(x, cos, sin, pairing=pairing)
    cos, sin, pairing = _checked(x, cos, sin, pairing)
    with torch.no_grad():
        return _rotate_plain(x, cos, sin, pairing)


def rotate_(x: Tensor, cos: Tensor, sin: Tensor, *, pairing: Pairing | None = None) -> Tensor:
    """`rotate` in place, for inference: no gradient passes through.

    Args:
        x: (N, H, D), changed and returned. A view of a larger tensor is fine, so queries and keys
            of one projection can be rotated by one call.
    """
    cos, sin, pairing = _checked(x, cos, sin, pairing)
    if x.ndim != 3:
        raise ValueError(f"rotate_ needs x (N, heads, head_dim), got {tuple(x.shape)}")
    with torch.no_grad():
        return _rotate_steps(x, cos, sin, pairing, out=x)


def _checked(x: Tensor, cos: Tensor, sin: Tensor, pairing: Pairing | None) -> tuple[Tensor, Tensor, Pairing]:
    """Plain cos and sin, and how to apply them."""
    pairing = pairing_of(cos, sin, pairing)
    if x.ndim < 3 or x.shape[-1] % 2 or cos.shape != sin.shape or cos.shape != (*x.shape[:-2], x.shape[-1]):
        raise ValueError(
            "rope needs x (..., N, heads, head_dim) with even head_dim and cos, sin (..., N, head_dim), "
            f"got x {tuple(x.shape)}, cos {tuple(cos.shape)}, sin {tuple(sin.shape)}"
        )
    return unmarked(cos), unmarked(sin), pairing


def _rotate_plain(x: Tensor, cos: Tensor, sin: Tensor, pairing: Pairing) -> Tensor:
    """The definition, in operations that a compiler fuses and autograd follows."""
    exact = x if x.dtype == torch.float64 else x.float()
    if pairing == "half":
        first, second = exact.chunk(2, dim=-1)
        partner = torch.cat((-second, first), dim=-1)
    else:
        partner = torch.stack((-exact[..., 1::2], exact[..., ::2]), dim=-1).flatten(-2)
    return (exact * cos.unsqueeze(-2) + partner * sin.unsqueeze(-2)).to(x.dtype)


class _Rotate(torch.autograd.Function):
    """Rotation is linear in x, so backward needs cos and sin but not x."""

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor, pairing: Pairing) -> Tensor:
        return _rotate_steps(x, cos, sin, pairing, out=torch.empty_like(x, memory_format=torch.contiguous_format))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Pairing], output: Tensor) -> None:
        _, cos, sin, ctx.pairing = inputs
        ctx.save_for_backward(cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        # The transpose of [[c1, -s1], [s2, c2]] is [[c1, s2], [-s1, c2]]: the partners trade sines.
        return rotate(grad, cos, -_partner(sin, ctx.pairing), pairing=ctx.pairing), None, None, None


def _partner(x: Tensor, pairing: Pairing) -> Tensor:
    """x with the two channels of every pair exchanged."""
    if pairing == "half":
        return x.roll(x.shape[-1] // 2, dims=-1)
    return _paired(x).flip(-1).flatten(-2)


def _rotate_steps(x: Tensor, cos: Tensor, sin: Tensor, pairing: Pairing, out: Tensor) -> Tensor:
    """Write the rotated x to `out`, which may be x: in one kernel, or a few tokens at a time."""
    if x.device.type == "cuda":
        from ov2kit.positional import triton_rotation  # here because Triton is slow to import

        if triton_rotation.takes(x, out):
            return triton_rotation.rotate_in_one_kernel(x, cos, sin, pairing, out)
    exact = torch.promote_types(x.dtype, torch.float32)
    cos, sin = cos.to(exact).flatten(0, -2), sin.to(exact).flatten(0, -2)
    source = x.flatten(0, -3) if x.ndim > 3 else x
    target = out.flatten(0, -3) if x.ndim > 3 else out
    if pairing == "half":
        for part, c, s, into in _steps(source, cos.unsqueeze(-2), sin.unsqueeze(-2), target):
            first, second = part.to(exact).chunk(2, dim=-1)
            (c1, c2), (s1, s2) = c.chunk(2, dim=-1), s.chunk(2, dim=-1)
            new_first = torch.addcmul(first * c1, second, s1, value=-1)
            new_second = torch.addcmul(second * c2, first, s2)
            into[..., : x.shape[-1] // 2] = new_first
            into[..., x.shape[-1] // 2 :] = new_second
        return out
    # As complex numbers z = x + iy, every real 2 x 2 map is a z + b conj(z): two products that run
    # over whole vectors, where reading every second channel would not. b = 0 is a plain rotation.
    c, s = _paired(cos), _paired(sin)
    (c1, c2), (s1, s2) = c.unbind(-1), s.unbind(-1)
    if pairing == "interleaved":
        for part, a, into in _steps(source, torch.complex(c1, s1).unsqueeze(-2), target):
            into.copy_(torch.view_as_real(torch.view_as_complex(_paired(part.to(exact))) * a).flatten(-2))
        return out
    a, b_conj = torch.complex((c1 + c2) / 2, (s1 + s2) / 2), torch.complex((c1 - c2) / 2, (s1 - s2) / 2)
    conjugate = (1 - 2 * (torch.arange(x.shape[-1], device=x.device) % 2)).to(exact)
    for part, a_part, b_part, into in _steps(source, a.unsqueeze(-2), b_conj.unsqueeze(-2), target):
        z = torch.view_as_complex(_paired(part.to(exact)))
        turned, other = (torch.view_as_real(z * factor).flatten(-2) for factor in (a_part, b_part))
        into.copy_(turned.addcmul_(other, conjugate))  # b conj(z) = conj(conj(b) z)
    return out


def _paired(x: Tensor) -> Tensor:
    """(..., D) -> (..., D/2, 2) with strides that complex numbers accept."""
    if x.stride(-1) != 1 or x.storage_offset() % 2 or any(stride % 2 for stride in x.stride()[:-1]):
        x = x.clone(memory_format=torch.contiguous_format)
    return x.view(*x.shape[:-1], x.shape[-1] // 2, 2)


def _steps(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of every tensor, few enough to stay in cache on a CPU, all at once on a GPU."""
    x = tensors[0]
    rows = max(1, _STEP_NUMBERS // max(1, x.shape[1] * x.shape[2])) if x.device.type == "cpu" else len(x)
    if len(x):
        yield from zip(*(torch.split(t, rows) for t in tensors), strict=True)
