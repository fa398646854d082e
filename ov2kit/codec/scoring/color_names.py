"""Which colors a block has, by their names: features that need no model.

Letters: N blocks of 3 x h x w pixels.
"""

import torch
from torch import Tensor, nn

COLOR_NAMES = ("black", "white", "gray", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
_BLACK, _WHITE, _GRAY, _RED, _ORANGE, _BROWN, _YELLOW, _GREEN, _BLUE, _PURPLE, _PINK = range(len(COLOR_NAMES))
#: degrees at which a hue ends, and its name
_HUES = (
    (15, _RED),
    (45, _ORANGE),
    (70, _YELLOW),
    (165, _GREEN),
    (255, _BLUE),
    (290, _PURPLE),
    (345, _PINK),
    (360, _RED),
)
_DARK, _PALE, _BRIGHT, _DIM = 0.2, 0.18, 0.8, 0.6


class ColorNames(nn.Module):
    """(N, 3, h, w) RGB in [0, 1] -> (N, 11) share of the pixels that one calls black, white, ..., see `COLOR_NAMES`.

    By hue, saturation and value; brown is dark orange, and what is too dark or too pale for a hue is black, gray or
    white.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> COLOR_NAMES[int(ColorNames()(red).argmax())]
        'red'
    """

    def forward(self, blocks: Tensor) -> Tensor:
        if blocks.ndim != 4 or blocks.shape[1] != 3:
            raise ValueError(f"blocks must be (N, 3, h, w), got {tuple(blocks.shape)}")
        value, _ = blocks.max(1)
        spread = value - blocks.min(1).values
        saturation = spread / value.clamp(min=1e-6)
        red, green, blue = blocks.unbind(1)
        safe = spread.clamp(min=1e-6)
        sector = torch.where(
            value == red,
            ((green - blue) / safe) % 6,
            torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
        )
        edges = torch.tensor([float(end) for end, _ in _HUES], device=blocks.device)
        names = torch.tensor([name for _, name in _HUES], device=blocks.device)
        hue = names[torch.bucketize(sector * 60, edges, right=True).clamp(max=len(_HUES) - 1)]
        hue = torch.where((hue == _ORANGE) & (value < _DIM), _BROWN, hue)
        pale = torch.where(value > _BRIGHT, _WHITE, _GRAY)
        name = torch.where(value < _DARK, _BLACK, torch.where(saturation < _PALE, pale, hue))
        return nn.functional.one_hot(name.flatten(1), len(COLOR_NAMES)).float().mean(1)
