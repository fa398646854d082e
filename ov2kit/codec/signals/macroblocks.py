"""What stock FFmpeg reports about each macroblock, as features of the bits it cost.

Letters: T frames, R x C macroblocks of 16 coded pixels, k = 4 luma pixels per macroblock edge.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.codec.signals.compensate import residual_of
from ov2kit.codec.signals.macroblock_inputs import EDGE, MACROBLOCK, MacroblockSignals

# Of each macroblock. "log" is log(1 + x); residual is |luma - reference moved along the vectors|.
MACROBLOCK_FEATURES = (
    "residual mean, log",
    "difference mean, log",
    "smaller of both, log",
    "residual rms, log",
    "residual is 0, share",
    "residual maximum, log / 2",
    "gradient, log",
    "intra share",
    "vector length, log",
    "vector less its prediction, log",
    "vector is its prediction",
    "spread of vectors inside, log",
    "vectors / 4",
    "future share",
    "steps between vectors, log",
    "quantizer changes",
    "change of quantizer / 8",
    "size of that / 8",
    "quantizer less frame mean / 8",
    "quantizer changes after it",
    "quantizer changes, share of the 9 around in order",
    "residual rms over quantizer step, log / 2",
)
# Averaged over the 3 x 3 macroblocks around as well.
AROUND_NAMES = (
    "smaller of both, log", "residual rms, log", "residual is 0, share", "gradient, log", "intra share",
    "vector less its prediction, log", "vector is its prediction", "vectors / 4", "quantizer changes",
)  # fmt: skip
AROUND = tuple(MACROBLOCK_FEATURES.index(name) for name in AROUND_NAMES)
# Of the whole frame; the last ones are means over its macroblocks.
FRAME_FEATURES = (
    "packet bits per macroblock, log2 / 4", "is I", "is B", "is compared", "quantizer is known", "quantizer mean / 16",
    "frames to the reference, log2 / 4",
)  # fmt: skip
FRAME_MEANS = tuple(i for i in AROUND if MACROBLOCK_FEATURES[i] != "vector less its prediction, log")
NUM_MACROBLOCK_FEATURES = len(MACROBLOCK_FEATURES) + len(AROUND)
NUM_FRAME_FEATURES = len(FRAME_FEATURES) + len(FRAME_MEANS)


def macroblock_features(signals: MacroblockSignals) -> tuple[Tensor, Tensor]:
    """Features of every macroblock and of every frame.

    Returns:
        (T, F, R, C) float32 of `MACROBLOCK_FEATURES` and the means `AROUND`, and (T, G) float32 of
        `FRAME_FEATURES` and `FRAME_MEANS`.
    """
    residual = residual_of(signals.luma, signals.reference, signals.motion * (EDGE / MACROBLOCK))
    difference = _distance(signals.luma, signals.reference)
    left = residual.float()
    pixels = EDGE * EDGE
    left_mean, plain_mean = _sums(left) / pixels, _sums(difference.float()) / pixels
    rms = (_sums(left.square()) / pixels).sqrt_()
    step = (signals.quantizer * (1 / 6)).exp2() / 4
    count, rows, cols = left_mean.shape
    maps = left.new_empty(count, NUM_MACROBLOCK_FEATURES, rows, cols)
    local = (
        left_mean.log1p(),
        plain_mean.log1p(),
        torch.minimum(left_mean, plain_mean).log1p_(),
        rms.log1p(),
        _sums((residual == 0).float()) * (signals.compared[:, None, None] / pixels),
        _maxima(residual).float().log1p_() / 2,
        (_gradient_sums(signals.luma) / pixels).log1p_(),
        *_motion_features(signals),
        *_quantizer_features(signals.quantizer),
        (rms * 8 / step).log1p_() * (signals.quantizer > 0) / 2,
    )
    for place, values in enumerate(local):
        maps[:, place] = values
    maps[:, len(MACROBLOCK_FEATURES) :] = _around(maps[:, AROUND])
    quantizer_known = signals.quantizer.flatten(1).amax(1) > 0
    whole = torch.stack(
        [
            (signals.bits.to(maps.dtype) / (rows * cols) + 1e-3).log2() / 4,
            signals.intra.float(),
            signals.bidirectional.float(),
            signals.compared.float(),
            quantizer_known.float(),
            signals.quantizer.flatten(1).mean(1) / 16,
            signals.distance.log2() / 4,
        ],
        dim=1,
    )
    return maps, torch.cat([whole, maps[:, FRAME_MEANS].mean((2, 3))], dim=1)


def _around(x: Tensor) -> Tensor:
    """(T, n, R, C) means over the 3 x 3 macroblocks around, fewer at the border."""
    count = x.new_ones(1, 1, *x.shape[2:])
    for axis in (2, 3):
        x, count = (_with_neighbors(y, axis) for y in (x, count))
    return x / count


def _with_neighbors(x: Tensor, axis: int) -> Tensor:
    out = x.clone()
    inner = x.shape[axis] - 1
    out.narrow(axis, 0, inner).add_(x.narrow(axis, 1, inner))
    out.narrow(axis, 1, inner).add_(x.narrow(axis, 0, inner))
    return out


def _sums(x: Tensor) -> Tensor:
    """(T, R k, C k) float32 -> (T, R, C)."""
    lines: Tensor = x.view(len(x), -1, EDGE, x.shape[2]).sum(2)
    return (lines[:, :, ::4] + lines[:, :, 1::4]).add_(lines[:, :, 2::4]).add_(lines[:, :, 3::4])


def _maxima(x: Tensor) -> Tensor:
    """(T, R k, C k) -> (T, R, C)."""
    lines = x.view(len(x), -1, EDGE, x.shape[2]).amax(2)
    return lines.view(len(x), lines.shape[1], -1, EDGE).amax(3)


def _gradient_sums(x: Tensor) -> Tensor:
    """(T, R k, C k) uint8 -> (T, R, C) sums of |step to the right| + |step down|; 0 at the last column and row."""
    steps = torch.zeros_like(x)
    steps[:, :, :-1] = _distance(x[:, :, 1:], x[:, :, :-1])
    across = _sums(steps.float())
    steps[:, :-1] = _distance(x[:, 1:], x[:, :-1])
    steps[:, -1] = 0
    return across + _sums(steps.float())


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| of uint8, without leaving it."""
    return torch.maximum(a, b).sub_(torch.minimum(a, b))


def _motion_features(signals: MacroblockSignals) -> tuple[Tensor, ...]:
    """(T, R, C) each; vectors are compared with H.264's prediction from the left, above and right above."""
    planes = signals.motion.permute(3, 0, 1, 2).contiguous()  # x and y: (2, T, 2 R, 2 C)
    holes = planes[0].isnan()
    planes.nan_to_num_(nan=0.0)
    rows, cols = signals.vectors.shape[1:]
    own = planes[:, :, ::2, ::2].contiguous()
    edged = F.pad(planes, (1, 2, 1, 0))  # zero vectors: one cell left and above, two to the right
    left, above, right = (
        cells[:, :, :rows, :cols] for cells in (edged[:, :, 1::2, ::2], edged[:, :, ::2, 1::2], edged[:, :, ::2, 3::2])
    )
    low, high = torch.minimum(left, above), torch.maximum(left, above)
    off = _length(own - torch.maximum(low, torch.minimum(high, right)))
    resting = ((low == 0) & (high == 0)).all(0) | (left == 0).all(0) | (above == 0).all(0)
    off = torch.where(resting, off.minimum(_length(own)), off)
    others = (planes[:, :, ::2, 1::2], planes[:, :, 1::2, ::2], planes[:, :, 1::2, 1::2])
    spread = torch.stack([_length(own - other) for other in others]).amax(0)
    steps = _length(planes[..., 1:] - planes[..., :-1]), _length(planes[:, :, 1:] - planes[:, :, :-1])
    around = F.pad(steps[0], (1, 0)) + F.pad(steps[1], (0, 0, 1, 0))
    intra = _quarters(holes.float()) * (signals.compared[:, None, None] / 4)
    vectors = signals.vectors
    whole = (off == 0) & (spread == 0) & (intra == 0) & (vectors > 0)
    return (
        intra,
        _length(own).log1p_(),
        (4 * off).log1p_(),
        whole.float(),
        spread.log1p_(),
        vectors.clamp(max=8) / 4,
        signals.future / vectors.clamp(min=1),
        _quarters((4 * around).log1p_()) / 4,
    )


def _length(vectors: Tensor) -> Tensor:
    """(2, ...) -> (...): |x| + |y|."""
    return vectors[0].abs() + vectors[1].abs()


def _quarters(cells: Tensor) -> Tensor:
    """(T, 2 R, 2 C) -> (T, R, C) sums."""
    return (cells[:, ::2, ::2] + cells[:, ::2, 1::2]).add_(cells[:, 1::2, ::2]).add_(cells[:, 1::2, 1::2])


def _quantizer_features(quantizer: Tensor) -> tuple[Tensor, ...]:
    """(T, R, C) each: a macroblock without coefficients repeats the quantizer before it."""
    flat = quantizer.flatten(1)
    step = torch.zeros_like(flat)
    step[:, 1:] = flat[:, 1:] - flat[:, :-1]
    changed = (step != 0).float()
    after = torch.zeros_like(changed)
    after[:, :-1] = changed[:, 1:]
    nearby = F.avg_pool1d(changed[:, None], 9, stride=1, padding=4)[:, 0]
    relative = flat - flat.mean(1, keepdim=True)
    found = (
        changed, (step / 8).clamp_(-2, 2), (step.abs() / 8).clamp_(max=2), (relative / 8).clamp_(-3, 3), after, nearby
    )  # fmt: skip
    return tuple(x.view_as(quantizer) for x in found)
