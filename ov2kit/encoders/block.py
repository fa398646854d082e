"""One pre-norm transformer block over packed tokens.

Source: `LlavaOnevision2VisionLayer` (layer_norm1, self_attn, layer_norm2, mlp, two residuals).
Letters: N tokens, C width.
"""

import torch
from torch import Tensor, nn

from ov2kit.encoders.attention import Rotation
from ov2kit.encoders.windows import Windows
from ov2kit.errors import check_number, check_type
from ov2kit.segments import Segments


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        norm1: module (N, C) -> (N, C) before the attention.
        attention: module called with (x, segments, rotation), such as `GroupVisibleAttention`.
        norm2: module before the perceptron.
        mlp: module (N, C) -> (N, C).
        drop_path: probability to skip a branch, drawn per segment while training.
    """

    def __init__(
        self, norm1: nn.Module, attention: nn.Module, norm2: nn.Module, mlp: nn.Module, *, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        for name, module in (("norm1", norm1), ("attention", attention), ("norm2", norm2), ("mlp", mlp)):
            check_type(name, module, nn.Module, "a module")
        check_number("drop_path", drop_path, low=0, below=1)
        self.layer_norm1 = norm1
        self.self_attn = attention
        self.layer_norm2 = norm2
        self.mlp = mlp
        self.drop_path = drop_path

    def forward(self, x: Tensor, segments: Segments | Windows, rotation: Rotation | None = None) -> Tensor:
        """x: (N, C), packed -> (N, C). `segments` and `rotation` as the attention wants them."""
        x = self._add(x, self.self_attn(self.layer_norm1(x), segments, rotation), segments)
        return self._add(x, self.mlp(self.layer_norm2(x)), segments)

    def _add(self, x: Tensor, branch: Tensor, segments: Segments | Windows) -> Tensor:
        if self.training and self.drop_path:
            seen = segments.base if isinstance(segments, Windows) else segments
            kept = torch.rand(len(seen.lengths), 1, device=x.device) >= self.drop_path
            branch = branch * (kept / (1 - self.drop_path)).to(x.dtype)[seen.ids()]
        return x + branch
