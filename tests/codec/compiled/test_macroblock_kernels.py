"""What macroblocks are estimated from is the same to the last bit with kernels and without."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from ov2kit.codec import BitCostMap, CodecTokenizer
from ov2kit.codec.signals.macroblock_inputs import EDGE, MacroblockSignals
from ov2kit.codec.signals.macroblock_motion import vector_planes
from ov2kit.codec.signals.macroblocks import macroblock_features
from ov2kit.codec.video.vectors import VECTOR
from tests.clips import shared_clip


def signals_of(rng, count, rows, cols, spread, kept):
    """Signals of noise; vectors as long as `spread`, and a share of macroblocks that has none."""
    shape = count, rows, cols
    luma, reference = rng.integers(0, 256, (2, count, rows * EDGE, cols * EDGE), dtype=np.uint8)
    motion = rng.normal(size=(2, 2, 2, *shape)) * spread * (rng.random((1, 2, 2, *shape)) < kept)
    reference[:, : 2 * EDGE] = luma[:, : 2 * EDGE]
    return MacroblockSignals(
        luma=torch.from_numpy(luma),
        reference=torch.from_numpy(reference),
        motion=torch.from_numpy(motion.round().clip(-8191, 8191).astype(np.int16)) if spread else None,
        holes=torch.from_numpy(rng.integers(0, 5, shape)).float(),
        vectors=torch.from_numpy(rng.integers(0, 12, shape)).float(),
        future=torch.from_numpy(rng.integers(0, 3, shape)).float(),
        quantizer=torch.from_numpy(rng.choice([-6, 0, 20, 20, 20, 22, 51], shape)).float(),
        bits=torch.from_numpy(rng.integers(100, 90000, count)).double(),
        intra=torch.from_numpy(rng.random(count) < 0.3),
        bidirectional=torch.from_numpy(rng.random(count) < 0.3),
        compared=torch.from_numpy(rng.random(count) < 0.7),
        distance=torch.from_numpy(rng.integers(1, 5, count)).float(),
    )


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 7), (5, 1), (2, 2), (9, 23)])
@pytest.mark.parametrize(("spread", "kept"), [(0, 1), (3, 0.2), (60, 0.7), (9000, 1)])
def test_features(both, rows, cols, spread, kept):
    signals = signals_of(np.random.default_rng(rows * cols), 3, rows, cols, spread, kept)
    (plain, plain_whole), (compiled, compiled_whole) = both(lambda: macroblock_features(signals))
    assert compiled.isfinite().all()
    for feature in range(plain.shape[1]):
        assert torch.equal(plain[:, feature], compiled[:, feature]), feature
    assert torch.equal(plain_whole, compiled_whole)


def test_features_of_signals_that_are_views(both):
    """Turned luma and motion of every other frame: kernels take what is one piece in memory."""
    signals = signals_of(np.random.default_rng(3), 4, 6, 6, 20, 0.5)
    held = {field.name: getattr(signals, field.name) for field in fields(signals)}
    held |= {name: held[name].mT for name in ("luma", "reference", "quantizer", "holes")}
    every = {name: value[:, :, :, ::2] if name == "motion" else value[::2] for name, value in held.items()}
    plain, compiled = both(lambda: macroblock_features(MacroblockSignals(**every))[0])
    assert torch.equal(plain, compiled)


@pytest.mark.parametrize("seed", range(12))
def test_vectors(both, seed):
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(1, 12, 2)
    edges = [[8, 16], [4, 8, 16, 32], [0, 1, 7, 8, 9, 15, 16, 17, 64, 248, 255]][seed % 3]
    frames = []
    for t, count in enumerate(rng.integers(0, 300, 5)):
        vectors = np.zeros(count, VECTOR)
        vectors["source"] = rng.choice([-2, -1, 1], count) if seed % 2 else -1
        vectors["w"], vectors["h"] = rng.choice(edges, (2, count))
        vectors["dst_x"], vectors["dst_y"] = rng.integers(-300, 500, (2, count))  # also outside of the picture
        vectors["motion_x"], vectors["motion_y"] = rng.integers(-300, 300, (2, count))
        far = rng.random(count) < 0.1
        vectors["motion_x"][far] = rng.choice([-(2**30), -8192, 8191, 2**30], far.sum())
        vectors["motion_scale"] = rng.choice([0, 1, 2, 4], count) if seed % 4 else 4
        if t != 2:
            frames.append((t, vectors))
    plain, compiled = both(lambda: vector_planes(frames, 5, (rows, cols)))
    for name, one, other in zip(("motion", "holes", "vectors", "future"), plain, compiled, strict=True):
        assert torch.equal(one, other), name
    assert compiled[2].sum() == sum(len(vectors) for _, vectors in frames)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["bbb_bframes.mp4", "bbb_mpeg4.mp4", "nasa_hevc10.mp4"])
def test_canvases(both, name, threads):
    """B-frames, vectors of half a pixel, and neither vectors nor quantizers."""
    plain, compiled = both(lambda: CodecTokenizer(8, preset="release", threads=threads)(shared_clip(name)))
    assert torch.equal(plain.images, compiled.images)
    assert torch.equal(plain.positions, compiled.positions)
    assert plain.signal == "bit-cost, estimated"


def test_bits(both):
    model = BitCostMap()
    signals = signals_of(np.random.default_rng(7), 3, 17, 30, 40, 0.5)
    plain, compiled = both(lambda: model(*macroblock_features(signals), signals.bits))
    assert torch.equal(plain, compiled)
    assert torch.equal(compiled.double().sum((1, 2)), signals.bits)
