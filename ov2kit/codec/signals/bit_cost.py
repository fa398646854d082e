"""BitCostMap: how many bits an encoder spent on each macroblock, estimated from what stock FFmpeg tells.

A small network gives each macroblock a weight; the packet's bits are dealt out by it, so that a
frame's map sums to what the packet really holds. benchmarks/calibrate_bitcost.py fits the
coefficients against a patched decoder; docs/bitcost.md says how well it does.
Letters: T frames, R x C macroblocks of 16 coded pixels, F features of each, G features of a frame.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ov2kit.codec.signals.macroblock_inputs import MACROBLOCK, Moved, macroblock_grid, macroblock_signals
from ov2kit.codec.signals.macroblocks import NUM_FRAME_FEATURES, NUM_MACROBLOCK_FEATURES, macroblock_features
from ov2kit.codec.video.frame import Frame
from ov2kit.errors import OptionError, check_choice, check_numbers, check_type

COEFFICIENTS = Path(__file__).with_name("coefficients") / "bit_cost.safetensors"
_PARTS = ("local", "whole", "bias", "second", "second_bias", "last")
_STEPS_PER_BIT = 64  # maps are whole 64ths of a bit, so that they add up without rounding
_MACROBLOCKS_AT_ONCE = 32768
_MACROBLOCKS_HELD = 16384  # by a stream


class BitCostMap(nn.Module):
    """Deal the bits of each packet out to its frame's macroblocks.

    Args:
        signal: which coefficients: for frames with the stream's ``"vectors"`` (H.264, MPEG), with
            ``"estimated"`` motion, or with the plain luma ``"difference"`` alone.
        hidden: widths of the two hidden layers, for coefficients yet to be fitted; by default
            those that come with the package are loaded.
        path: another coefficients file.

    Raises:
        ValueError: an unknown signal, or a file that does not fit these features.

    Example:
        >>> features = torch.zeros(2, NUM_MACROBLOCK_FEATURES, 23, 40)
        >>> frame_features = torch.zeros(2, NUM_FRAME_FEATURES)
        >>> BitCostMap()(features, frame_features, torch.tensor([9000.0, 1200.0])).sum((1, 2))
        tensor([9000., 1200.])
    """

    local: Tensor  # (H, F)
    whole: Tensor  # (H, G)
    bias: Tensor  # (H,)
    second: Tensor  # (K, H)
    second_bias: Tensor  # (K,)
    last: Tensor  # (K,)

    def __init__(
        self,
        signal: Moved = "vectors",
        *,
        hidden: tuple[int, int] | None = None,
        path: Path | str | None = None,
    ) -> None:
        super().__init__()
        check_choice("signal", signal, get_args(Moved))
        check_numbers("hidden", hidden, length=2, low=1, integer=True, optional=True)
        check_type("path", path, (str, os.PathLike), "a path", optional=True)
        self.signal: Moved = signal
        if hidden is None:
            found, self.about = load_coefficients(signal, path or COEFFICIENTS)
        else:
            found, self.about = _fresh(*hidden), {}
        for name in _PARTS:
            self.register_parameter(name, nn.Parameter(found[name], requires_grad=False))

    def extra_repr(self) -> str:
        return f"signal={self.signal!r}, hidden=({len(self.bias)}, {len(self.last)})"

    def weights(self, features: Tensor, whole: Tensor) -> Tensor:
        """(..., F, R, C) and (..., G) -> (..., R, C) logarithm of each macroblock's weight, up to a constant."""
        lead, (rows, cols) = features.shape[:-3], features.shape[-2:]
        x = features.movedim(-3, 0).reshape(features.shape[-3], -1)
        common = self.whole @ whole.reshape(-1, whole.shape[-1]).T + self.bias[:, None]
        first = (self.local @ x).view(len(self.bias), -1, rows * cols)
        first.add_(common[..., None]).relu_()
        second = torch.addmm(self.second_bias[:, None], self.second, first.view(len(self.bias), -1)).relu_()
        return (self.last @ second).view(*lead, rows, cols)

    def forward(self, features: Tensor, whole: Tensor, bits: Tensor) -> Tensor:
        """Bits per macroblock.

        Args:
            features: (..., F, R, C) float32 of `macroblock_features`.
            whole: (..., G) float32 of the same.
            bits: (...,) bits of each frame's packet; whole numbers.

        Returns:
            (..., R, C) float32 bits, whole 64ths. Those of a frame add up to `bits` exactly.
        """
        logits = self.weights(features, whole).flatten(-2)
        total = bits.to(logits.device, torch.float64)[..., None] * _STEPS_PER_BIT
        steps = (logits.double().softmax(-1) * total).floor()
        steps.scatter_add_(-1, steps.argmax(-1, keepdim=True), total - steps.sum(-1, keepdim=True))
        return (steps / _STEPS_PER_BIT).float().view(*features.shape[:-3], *features.shape[-2:])

    def of_frames(self, frames: Sequence[Frame], coded_size: tuple[int, int], *, threads: int = 1) -> Tensor:
        """(T, R, C) float32 bits of frames decoded as `macroblock_signals` says, on the grid of `coded_size`.

        Works on `threads` batches at a time; the result does not depend on it.
        """
        step = _frames_at_once(coded_size, _MACROBLOCKS_AT_ONCE)
        parts = [frames[start : start + step] for start in range(0, len(frames), step)]

        def estimated(part: Sequence[Frame]) -> Tensor:
            signals = macroblock_signals(part, self.signal, coded_size).to(self.bias.device)
            bits: Tensor = self(*macroblock_features(signals), signals.bits)
            return bits

        if threads == 1 or len(parts) == 1:
            return torch.cat([estimated(part) for part in parts])
        with ThreadPoolExecutor(threads, thread_name_prefix="ov2kit-bits") as pool:
            return torch.cat(list(pool.map(estimated, parts)))

    def stream(self, frames: Iterable[Frame], coded_size: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
        """(frame index, (R, C) float32 bits) of each frame, in order; a few frames are held at a time."""
        source = iter(frames)
        while held := list(islice(source, _frames_at_once(coded_size, _MACROBLOCKS_HELD))):
            for frame, bits in zip(held, self.of_frames(held, coded_size), strict=True):
                yield frame.index, bits


def _frames_at_once(coded_size: tuple[int, int], macroblocks: int) -> int:
    rows, cols = macroblock_grid(coded_size)
    return max(1, macroblocks // (rows * cols))


def load_coefficients(signal: str, path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of one signal, and the file's account of how they were made.

    Raises:
        ValueError: the file lacks the signal or was fitted for other features.
    """
    if not Path(path).is_file():
        raise OptionError(f"path must be a file of coefficients, there is none at {path}")
    with safe_open(str(path), "pt") as file:
        names = set(file.keys())
        if missing := [part for part in _PARTS if f"{signal}.{part}" not in names]:
            raise ValueError(f"{path} has no {', '.join(missing)} for signal {signal!r}; it holds {sorted(names)}")
        found = {part: file.get_tensor(f"{signal}.{part}") for part in _PARTS}
        about = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    shapes = found["local"].shape[1], found["whole"].shape[1]
    if shapes != (NUM_MACROBLOCK_FEATURES, NUM_FRAME_FEATURES):
        raise ValueError(
            f"{path} was fitted for {shapes[0]} features per macroblock and {shapes[1]} per frame; this version has "
            f"{NUM_MACROBLOCK_FEATURES} and {NUM_FRAME_FEATURES}: fit it again with benchmarks/calibrate_bitcost.py"
        )
    return found, about


def _fresh(first: int, second: int) -> dict[str, Tensor]:
    """Starting values for a fit, as for linear layers followed by ReLU."""
    inputs = NUM_MACROBLOCK_FEATURES + NUM_FRAME_FEATURES

    def normal(rows: int, cols: int, fan: int) -> Tensor:
        return torch.randn(rows, cols) * math.sqrt(2 / fan)

    return {
        "local": normal(first, NUM_MACROBLOCK_FEATURES, inputs),
        "whole": normal(first, NUM_FRAME_FEATURES, inputs),
        "bias": torch.zeros(first),
        "second": normal(second, first, first),
        "second_bias": torch.zeros(second),
        "last": normal(1, second, 2 * second)[0],
    }


def bits_on_grid(maps: Tensor, picture: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Bits per macroblock -> bits per block of any grid over the picture; nothing is lost.

    Args:
        maps: (..., R, C) bits, not turned.
        picture: (height, width) in coded pixels; what macroblocks hold outside of it falls to
            their part inside.
        grid: (hb, wb) blocks.

    Returns:
        (..., hb, wb) float32.
    """
    rows = _overlaps(maps.shape[-2], picture[0], grid[0], maps)
    cols = _overlaps(maps.shape[-1], picture[1], grid[1], maps)
    dealt: Tensor = (rows / rows.sum(0)) @ (maps @ (cols / cols.sum(0)).T)
    return dealt


def mean_on_grid(maps: Tensor, picture: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """As `bits_on_grid`, but (..., hb, wb) means over each block's area: for scores rather than amounts."""
    rows = _overlaps(maps.shape[-2], picture[0], grid[0], maps)
    cols = _overlaps(maps.shape[-1], picture[1], grid[1], maps)
    means: Tensor = (rows / rows.sum(1, keepdim=True)) @ (maps @ (cols / cols.sum(1, keepdim=True)).T)
    return means


def _overlaps(cells: int, length: int, blocks: int, like: Tensor) -> Tensor:
    """(blocks, cells) pixels that each block shares with each macroblock along one axis."""
    edges = torch.arange(cells + 1, device=like.device, dtype=torch.float64).mul_(MACROBLOCK).clamp_(max=length)
    starts = torch.arange(blocks + 1, device=like.device, dtype=torch.float64) * (length / blocks)
    shared = torch.minimum(edges[1:], starts[1:, None]) - torch.maximum(edges[:-1], starts[:-1, None])
    return shared.clamp_(min=0).to(like.dtype)
