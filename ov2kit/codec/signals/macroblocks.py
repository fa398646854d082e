"""What stock FFmpeg reports about each macroblock, as features of the bits it cost.

Letters: T frames, R x C macroblocks of 16 coded pixels, k = 4 luma pixels per macroblock edge.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ov2kit.codec.compiled.jit import uses_kernels
from ov2kit.codec.signals.macroblock_inputs import MacroblockSignals
from ov2kit.codec.signals.macroblock_motion import QUARTERS
from ov2kit.codec.signals.macroblock_pixels import pixel_means
from ov2kit.codec.signals.macroblock_steps import motion_steps

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
        `FRAME_FEATURES` and `FRAME_MEANS`. In memory each feature is one piece, as the network takes them.
    """
    count, rows, cols = signals.vectors.shape
    maps = signals.bits.new_empty(NUM_MACROBLOCK_FEATURES, count, rows, cols, dtype=torch.float32)
    own = maps[: len(MACROBLOCK_FEATURES)]
    rms = _pixel_features(signals, own[:7])
    _motion_features(signals, own[7:15])
    _quantizer_features(signals.quantizer, own[15:21])
    step = (signals.quantizer * (1 / 6)).exp2_() / 4
    torch.mul(rms.mul_(8).div_(step).log1p_(), (signals.quantizer > 0) / 2, out=own[21])
    _around(maps, out=maps[len(MACROBLOCK_FEATURES) :])
    known = signals.quantizer.flatten(1)
    whole = torch.stack(
        [
            (signals.bits.to(maps.dtype) / (rows * cols) + 1e-3).log2() / 4,
            signals.intra.float(),
            signals.bidirectional.float(),
            signals.compared.float(),
            (known.amax(1) > 0).float(),
            known.mean(1) / 16,
            signals.distance.log2() / 4,
            *maps[list(FRAME_MEANS)].mean((2, 3)),
        ],
        dim=1,
    )
    return maps.transpose(0, 1), whole


def _pixel_features(signals: MacroblockSignals, out: Tensor) -> Tensor:
    """What luma and reference tell, into (7, T, R, C); returns (T, R, C) gray levels, the residual's rms."""
    pixel_means(signals.luma, signals.reference, signals.motion, out)
    rms = out[3].sqrt_().clone()
    torch.sub(1, out[4], out=out[4])
    out[4] *= signals.compared[:, None, None]
    for part in (out[:4], out[5:7]):
        part.log1p_()
    out[5] /= 2
    return rms


def _is_compiled(planes: Tensor) -> bool:
    return planes.device.type == "cpu" and uses_kernels()


def _around(maps: Tensor, out: Tensor) -> None:
    """(n, T, R, C) means of the planes `AROUND` over the 3 x 3 macroblocks around, fewer at the border."""
    if _is_compiled(out):
        from ov2kit.codec.compiled.macroblock_planes import around

        around(maps.numpy(), np.array(AROUND), out.numpy())
        return
    x = maps[list(AROUND)]
    rows, cols = (_with_neighbors(x.new_ones(side), 0) for side in x.shape[2:])
    torch.div(_with_neighbors(_with_neighbors(x, 2), 3), rows[:, None] * cols, out=out)


def _with_neighbors(x: Tensor, axis: int) -> Tensor:
    out = x.clone()
    inner = x.shape[axis] - 1
    out.narrow(axis, 0, inner).add_(x.narrow(axis, 1, inner))
    out.narrow(axis, 1, inner).add_(x.narrow(axis, 0, inner))
    return out


def _motion_features(signals: MacroblockSignals, out: Tensor) -> None:
    """What vectors tell, into (8, T, R, C); H.264 predicts each from the left, above and right above."""
    vectors, intra = signals.vectors, signals.holes / 4 * signals.compared[:, None, None]
    out[0] = intra
    out[5] = vectors.clamp(max=8) / 4
    torch.div(signals.future, vectors.clamp(min=1), out=out[6])
    if signals.motion is None:
        out[1:5], out[7] = 0, 0
        return
    length, off, spread = out[1], out[2], out[4]
    around = out.new_empty(2, 2, *out.shape[1:])
    motion_steps(signals.motion, (length, off, spread), around)
    out[3] = (off == 0) & (spread == 0) & (intra == 0) & (vectors > 0)
    around.log1p_()
    torch.add(around[0, 0], around[0, 1], out=out[7])
    out[7] += around[1, 0]
    out[7] += around[1, 1]
    out[7] /= 4
    length /= QUARTERS
    spread /= QUARTERS
    out[1:3].log1p_()
    spread.log1p_()


def _quantizer_features(quantizer: Tensor, out: Tensor) -> None:
    """What quantizers tell, into (6, T, R, C): a macroblock without coefficients repeats the one before it."""
    flat, into = quantizer.flatten(1), out.flatten(2)
    if _is_compiled(out):
        from ov2kit.codec.compiled.macroblock_planes import quantizer_features

        quantizer_features(flat.contiguous().numpy(), into.numpy())
        return
    step = torch.zeros_like(flat)
    torch.sub(flat[:, 1:], flat[:, :-1], out=step[:, 1:])
    changed, after, nearby = into[0], into[4], into[5]
    changed.copy_(step != 0)
    after[:, :-1] = changed[:, 1:]
    after[:, -1] = 0
    nearby.copy_(F.avg_pool1d(changed[:, None], 9, stride=1, padding=4)[:, 0])
    step /= 8
    torch.clamp(step, -2, 2, out=into[1])
    torch.clamp(step.abs_(), max=2, out=into[2])
    torch.sub(flat, flat.mean(1, keepdim=True), out=into[3])
    into[3].div_(8).clamp_(-3, 3)
