"""Self-attention over a packed sequence, visible within segments.

Source: `VisionAttention` of LLaVA-OneVision-2 (fused qkv, scale D ** -0.5, no mask in a segment).
Letters: N tokens, C width, H heads, D = C / H.
"""

import torch
from torch import Tensor, nn

from ov2kit.encoders.backends.attend import attend
from ov2kit.encoders.backends.choose import BackendName, Choice, check_name, choose
from ov2kit.encoders.linear import floating_dtype, is_plain, linear
from ov2kit.errors import check_choice, check_divides, check_flag, factory_kwargs
from ov2kit.positional.pairing import PAIRINGS, Pairing
from ov2kit.positional.rotation import rotate, rotate_for_inference
from ov2kit.segments import Segments

Rotation = tuple[Tensor, Tensor]


class GroupVisibleAttention(nn.Module):
    """Multi-head attention in which tokens of one segment see each other and nothing else.

    Args:
        width: C.
        heads: H; divides `width`.
        qkv_bias: bias of the fused projection.
        proj_bias: bias of the output projection.
        pairing: how `rotation` is applied, see `ov2kit.positional.rotation`. A rotation of a position
            module knows its own and is refused if it is another; plain cosines and sines need it.
        backend: "auto", or a name from `attention_backends()`, which is then never swapped.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `heads` does not divide `width`, or an unknown backend.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        pairing: Pairing | None = None,
        backend: BackendName = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_attention(width, heads, qkv_bias, proj_bias, pairing, backend)
        factory = factory_kwargs(device, dtype)
        self.heads = heads
        self.head_dim = width // heads
        self.pairing: Pairing | None = pairing
        self.backend: BackendName = backend
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias, **factory)
        self.proj = nn.Linear(width, width, bias=proj_bias, **factory)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, head_dim={self.head_dim}, pairing={self.pairing!r}, backend={self.backend!r}"

    def forward(self, x: Tensor, segments: Segments | Tensor, rotation: Rotation | None = None) -> Tensor:
        """Attention output for packed tokens.

        Args:
            x: (N, C).
            segments: who sees whom; covers all N tokens. Or `cu_seqlens` (G+1,), which are read back
                to the host once per call.
            rotation: (cos, sin), each (N, D), from a position module; None for no rotation.

        Returns:
            (N, C).

        Raises:
            ValueError: shapes do not fit, or the rotation was made for another pairing.
            RuntimeError: the backend asked for cannot run.
        """
        if isinstance(segments, Tensor):
            segments = Segments.from_cu_seqlens(segments)
        return self_attention(
            x, self.qkv, self.proj, segments, rotation, heads=self.heads, pairing=self.pairing, backend=self.backend
        )

    def choice(self, segments: Segments) -> Choice:
        """Which backend runs for these segments with the weights as they are, and why not the others."""
        device = next((p.device for p in self.parameters()), segments.cu_seqlens.device)
        dtype = floating_dtype(self.qkv, torch.get_default_dtype())
        q = torch.empty(segments.num_tokens, self.heads, self.head_dim, dtype=dtype, device=device)
        return choose(q, segments, self.backend)


def check_attention(
    width: int, heads: int, qkv_bias: bool, proj_bias: bool, pairing: Pairing | None, backend: BackendName
) -> None:
    """What every attention module checks of its arguments.

    Raises:
        ValueError: names the argument.
    """
    check_divides("heads", heads, "width", width)
    check_flag("qkv_bias", qkv_bias)
    check_flag("proj_bias", proj_bias)
    if pairing is not None:
        check_choice("pairing", pairing, PAIRINGS)
    check_name(backend)


def self_attention(
    x: Tensor,
    qkv: nn.Module,
    proj: nn.Module,
    segments: Segments,
    rotation: Rotation | None,
    *,
    heads: int,
    pairing: Pairing | None,
    backend: BackendName,
) -> Tensor:
    """Project, rotate, attend, project: (N, C) -> (N, C)."""
    if x.ndim != 2:
        raise ValueError(f"packed tokens must be (N, width), got {tuple(x.shape)}")
    fused = linear(x, qkv)
    fused = fused.reshape(len(x), 3, heads, fused.shape[-1] // (3 * heads))
    if rotation is None:
        q, k, v = fused.unbind(1)
    elif torch.is_grad_enabled() or torch.compiler.is_compiling() or not is_plain(qkv):
        q, k, v = fused.unbind(1)
        q, k = rotate(q, *rotation, pairing=pairing), rotate(k, *rotation, pairing=pairing)
    else:
        # Queries and keys lie side by side and nobody else holds them: turn both at once.
        both = fused.flatten(1, 2)[:, : 2 * heads]
        both = rotate_for_inference(both, *rotation, pairing=pairing)
        q, k, v = both[:, :heads], both[:, heads:], fused[:, 2]
    return linear(attend(q, k, v, segments, backend).flatten(1), proj)
