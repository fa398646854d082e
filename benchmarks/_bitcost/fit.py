"""Fit the coefficients of `BitCostMap` on samples."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks._bitcost.samples import Sample
from ov2kit.codec.signals.bit_cost import BitCostMap
from ov2kit.codec.signals.macroblock_inputs import Moved
from ov2kit.codec.signals.macroblocks import AROUND, FRAME_FEATURES, FRAME_MEANS, MACROBLOCK_FEATURES

HIDDEN = (48, 24)
BATCH = 24  # pieces of frames
PIECE = (16, 20)  # macroblocks at most
_RATE = 3e-3
_AREAS = 0.4  # weight of the error over areas
_WITHOUT_QUANTIZER = 0.15  # of the pieces are fitted as if it was not told
_QUANTIZER = [i for i, name in enumerate(MACROBLOCK_FEATURES) if "quantizer" in name]
_LOCAL = _QUANTIZER + [len(MACROBLOCK_FEATURES) + i for i, f in enumerate(AROUND) if f in _QUANTIZER]
_WHOLE = [i for i, name in enumerate(FRAME_FEATURES) if "quantizer" in name]
_WHOLE += [len(FRAME_FEATURES) + i for i, f in enumerate(FRAME_MEANS) if f in _QUANTIZER]


def fit(samples: Sequence[Sample], signal: Moved, seed: int, steps: int) -> BitCostMap:
    """Coefficients for one signal; clips count alike, whatever their length.

    The loss is the squared error of log(1 + bits), over macroblocks and over areas of 2 x 2.
    """
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    model = BitCostMap(signal, hidden=HIDDEN)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    local, whole = _scales(samples)
    frames = [(s, t) for s in samples for t in range(len(s.bits)) if s.bits[t].sum() > 0]
    share = np.array([1 / len(s.bits) for s, _ in frames])
    share /= share.sum()
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps)
    for _ in range(steps):
        pieces = [_piece(*frames[i], draw) for i in draw.choice(len(frames), BATCH, p=share)]
        loss = _loss(model, pieces, local, whole)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():  # the scales become part of the first layer
        model.bias -= model.local @ (local[0] / local[1]) + model.whole @ (whole[0] / whole[1])
        model.local /= local[1]
        model.whole /= whole[1]
    return model.requires_grad_(False)


def estimate(model: BitCostMap, sample: Sample) -> Tensor:
    """(T, R, C) bits, a few frames at a time."""
    parts = [slice(i, i + 8) for i in range(0, len(sample.bits), 8)]
    return torch.cat([model(sample.features[p].float(), sample.whole[p], sample.packets[p]) for p in parts])


def _scales(samples: Sequence[Sample]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Mean and deviation of each feature, of macroblocks and of frames."""
    local = torch.cat([s.features.permute(0, 2, 3, 1).flatten(0, 2)[::41].float() for s in samples])
    whole = torch.cat([s.whole for s in samples])
    near, far = ((x.mean(0), x.std(0).clamp(min=1e-2)) for x in (local, whole))
    return near, far


def _piece(sample: Sample, frame: int, draw: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of a part of a frame: features (N, F), frame features (G,), true bits (N,), areas (N,), bits to deal out ()."""
    rows, cols = sample.bits.shape[1:]
    top, left = (
        2 * int(draw.integers(0, max(0, side - most) // 2 + 1)) for side, most in zip((rows, cols), PIECE, strict=True)
    )
    at = (slice(top, top + PIECE[0]), slice(left, left + PIECE[1]))
    bits = sample.bits[frame][at]
    features = sample.features[frame][:, *at].flatten(1).T.float()
    whole = sample.whole[frame].clone()
    if sample.quantizer and draw.random() < _WITHOUT_QUANTIZER:
        features[:, _LOCAL], whole[_WHOLE] = 0.0, 0.0
    wide = (bits.shape[1] + 1) // 2
    area = (torch.arange(bits.shape[0])[:, None] // 2 * wide + torch.arange(bits.shape[1]) // 2).flatten()
    dealt = bits.sum() * float(sample.packets[frame]) / sample.bits[frame].sum()
    return features, whole, bits.flatten(), area, dealt


def _loss(model: BitCostMap, pieces: list, local: tuple[Tensor, Tensor], whole: tuple[Tensor, Tensor]) -> Tensor:
    lengths = torch.tensor([len(p[2]) for p in pieces])
    owner = torch.repeat_interleave(torch.arange(len(pieces)), lengths)
    features = (torch.cat([p[0] for p in pieces]) - local[0]) / local[1]
    common = (torch.stack([p[1] for p in pieces]) - whole[0]) / whole[1]
    x = torch.relu(features @ model.local.T + (common @ model.whole.T + model.bias)[owner])
    logits = torch.relu(x @ model.second.T + model.second_bias) @ model.last
    truth, dealt = torch.cat([p[2] for p in pieces]), torch.stack([p[4] for p in pieces])
    peak = torch.full((len(pieces),), -torch.inf).scatter_reduce_(0, owner, logits.detach(), "amax")
    powers = (logits - peak[owner]).exp()
    total = torch.zeros(len(pieces)).index_add_(0, owner, powers)
    found = powers / total[owner] * dealt[owner]
    weight = (1 / lengths)[owner] / len(pieces)
    ends = torch.cumsum(torch.tensor([0] + [int(p[3].max()) + 1 for p in pieces]), 0)
    area = torch.cat([p[3] for p in pieces]) + ends[:-1][owner]
    count = int(ends[-1])
    sums = [torch.zeros(count).index_add_(0, area, v) for v in (found, truth, weight)]
    single = ((found.log1p() - truth.log1p()).square() * weight).sum()
    return single + _AREAS * ((sums[0].log1p() - sums[1].log1p()).square() * sums[2]).sum()
