"""Self-attention within local windows of patches.

Letters: N tokens, C width, H heads, D = C / H.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from ov2kit.encoders.attention import Rotation, check_attention, self_attention
from ov2kit.encoders.backends.choose import BackendName
from ov2kit.encoders.ordering import permute
from ov2kit.encoders.windows import Span, Windows, spatial_windows
from ov2kit.errors import (
    OptionError,
    check_choice,
    check_flag,
    check_number,
    check_numbers,
    check_type,
    factory_kwargs,
)
from ov2kit.positional.pairing import Pairing, pairing_of
from ov2kit.segments import Segments


class WindowedAttention(nn.Module):
    """`GroupVisibleAttention` cut down to windows; the same weights, the same key names.

    Args:
        width: C.
        heads: H; divides `width`.
        window: (rows, columns) of patches per window.
        shift: move the window borders by half a window, for every second layer.
        span: "canvas" or "segment", see `spatial_windows`.
        merge: patches per block edge of the token layout.
        qkv_bias: bias of the fused projection.
        proj_bias: bias of the output projection.
        pairing: how `rotation` is applied, as in `GroupVisibleAttention`.
        backend: as in `GroupVisibleAttention`.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `heads` does not divide `width`, or an unknown backend.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: tuple[int, int] = (8, 8),
        *,
        shift: bool = False,
        span: Span = "canvas",
        merge: int = 2,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        pairing: Pairing | None = None,
        backend: BackendName = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_attention(width, heads, qkv_bias, proj_bias, pairing, backend)
        check_numbers("window", window, length=2, low=1, integer=True)
        check_flag("shift", shift)
        check_choice("span", span, get_args(Span))
        check_number("merge", merge, low=1, integer=True)
        factory = factory_kwargs(device, dtype)
        self.heads = heads
        self.window = window
        self.shift = (window[0] // 2, window[1] // 2) if shift else (0, 0)
        self.span: Span = span
        self.merge = merge
        self.pairing: Pairing | None = pairing
        self.backend: BackendName = backend
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias, **factory)
        self.proj = nn.Linear(width, width, bias=proj_bias, **factory)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, window={self.window}, shift={self.shift}, span={self.span!r}"

    def windows(self, segments: Segments, grid_thw: Tensor | Sequence[Sequence[int]]) -> Windows:
        """The windows of these canvases; make them once and give them to every layer that shares them."""
        return spatial_windows(segments, grid_thw, self.window, shift=self.shift, merge=self.merge, span=self.span)

    def forward(
        self,
        x: Tensor,
        segments: Segments | Windows,
        rotation: Rotation | None = None,
        *,
        grid_thw: Tensor | Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """Attention output for packed tokens, in the order they came.

        Args:
            x: (N, C) in block layout.
            segments: what `self.windows(segments, grid_thw)` made, or segments without windows.
            rotation: (cos, sin), each (N, D), in the order of x; None for no rotation.
            grid_thw: rows (t, h, w) of the packed canvases; only with segments without windows.

        Returns:
            (N, C).

        Raises:
            ValueError: segments without windows and no grid to cut them by.
        """
        if isinstance(segments, Segments):
            if grid_thw is None:
                raise ValueError("windowed attention needs grid_thw to know where windows are, got None")
            segments = self.windows(segments, grid_thw)
        order = segments.order
        pairing, turned = self.pairing, None
        if rotation is not None:
            pairing = pairing_of(*rotation, self.pairing)
            turned = (rotation[0][order], rotation[1][order])
        out = self_attention(
            permute(x, order, segments.inverse),
            self.qkv,
            self.proj,
            segments.segments,
            turned,
            heads=self.heads,
            pairing=pairing,
            backend=self.backend,
        )
        return permute(out, segments.inverse, order)


def shifted_blocks(depth: int, global_layers: Iterable[int], shift: bool) -> dict[int, bool]:
    """The blocks of a stack that have windows: number -> whether its windows are shifted (every second one).

    Args:
        depth: of the stack.
        global_layers: blocks without windows.
        shift: False to shift none.

    Raises:
        OptionError: `global_layers` are no numbers of blocks.
    """
    check_type("global_layers", global_layers, Iterable, "numbers of blocks")
    listed = global_layers if isinstance(global_layers, str | Mapping) else list(global_layers)
    without = frozenset(check_numbers("global_layers", listed, low=0, integer=True))
    if without - set(range(depth)):
        raise OptionError(f"global_layers must be blocks 0 to {depth - 1}, got {sorted(without)}")
    return {block: shift and turn % 2 == 1 for turn, block in enumerate(i for i in range(depth) if i not in without)}


def seen_by(
    attention: nn.Module,
    segments: Segments,
    grid_thw: Tensor | Sequence[Sequence[int]] | None,
    made: dict[tuple[int, int], Windows],
) -> Segments | Windows:
    """What an attention module takes as segments; windows are made once per shift."""
    if not isinstance(attention, WindowedAttention):
        return segments
    if grid_thw is None:
        raise ValueError("an encoder with windows needs grid_thw to know where they are, got None")
    if attention.shift not in made:
        made[attention.shift] = attention.windows(segments, grid_thw)
    return made[attention.shift]
