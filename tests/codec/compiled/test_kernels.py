"""Kernels give what torch and numpy give, to the last bit: for numbers at random, and for whole canvases."""

import numpy as np
import pytest
import torch

from ov2kit.codec import CodecTokenizer
from ov2kit.codec.scoring.maps import percentile
from ov2kit.codec.scoring.residual import clipped_sums, count_levels
from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.codec.selection.blocks import SaliencyBlockSelector, TopKBlockSelector
from ov2kit.codec.selection.packing import CanvasPacker
from ov2kit.codec.selection.stratify import stratify
from ov2kit.codec.signals.compensate import residual_of
from ov2kit.codec.signals.motion_grid import rasterize_frames
from ov2kit.codec.video.vectors import VECTOR
from tests.paths import SAMPLE


@pytest.mark.parametrize("seed", range(12))
def test_residuals(both, rng, seed):
    rng.manual_seed(seed)
    count, height, width, rows, columns = (int(torch.randint(1, most, (), generator=rng)) for most in (5, 70, 90, 9, 9))
    luma, reference = (torch.randint(0, 256, (count, height, width), generator=rng).byte() for _ in range(2))
    spread = (0.0, 0.4, 3.0, 60.0)[seed % 4]  # no motion, less than a pixel, some, further than the margin
    motion = torch.randn(count, rows, columns, 2, generator=rng) * spread
    if seed % 3 == 0:
        motion = motion.round()
    motion[torch.rand(motion.shape[:3], generator=rng) < 0.2] = torch.nan
    motion[0, 0, 0, 0] = (torch.inf, -torch.inf, 0.0625)[seed % 3]
    for sampling in ("bilinear", "nearest"):
        plain, compiled = both(lambda how=sampling: residual_of(luma, reference, motion, how))
        assert torch.equal(plain, compiled)
    turned = residual_of(luma.mT.contiguous().mT, reference.flip(1).flip(1), motion.flip(2).flip(2))
    assert torch.equal(turned, residual_of(luma, reference, motion))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 1001])
def test_levels(both, rng, size):
    values = torch.randint(0, 256, (3, size), generator=rng).byte()
    plain, compiled = both(lambda: count_levels(values))
    assert torch.equal(plain, compiled)
    assert compiled.sum(1).tolist() == [size] * 3


@pytest.mark.parametrize("q", [0.0, 37.5, 50.0, 95.0, 99.9, 100.0])
@pytest.mark.parametrize("size", [1, 2, 7, 300])
def test_percentiles_of_what_counts(both, rng, q, size):
    values = (torch.randn(4, 5, size, generator=rng) * 3).round() / 4  # many equal ones
    counted = torch.rand(4, 5, size, generator=rng) < 0.6
    counted[0, 0], counted[0, 1], counted[0, 2] = False, True, False
    counted[0, 2, size // 2] = True
    plain, compiled = both(lambda: percentile(values.masked_fill(~counted, torch.nan), q, counted))
    assert torch.equal(plain, compiled)
    for found, row, mark in zip(compiled.flatten(), values.flatten(0, 1), counted.flatten(0, 1), strict=True):
        expected = np.percentile(row[mark].double().numpy(), q) if mark.any() else 0.0
        assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("q", [50.0, 95.0, 99.99, 100.0])
@pytest.mark.parametrize("normalize", ["frame", "group"])
def test_levels_that_map_to_one(both, rng, q, normalize):
    luma, reference = (torch.randint(0, 256, (5, 28, 56), generator=rng).byte() for _ in range(2))
    reference[1] = luma[1]
    valid = torch.tensor([True, True, False, True, False])
    saliency = MotionResidualSaliency(normalize=normalize, q=q)
    for mask in (valid, torch.zeros(5, dtype=torch.bool)):
        plain, compiled = both(lambda mask=mask: saliency(luma, reference, None, (2, 4), valid=mask))
        assert torch.equal(plain, compiled)
    difference = (luma.int() - reference.int()).abs()[valid].double().numpy()
    gray = np.percentile(difference, q) if normalize == "group" else np.percentile(difference[2], q)
    gray = max(1.0, np.float32(gray))
    shown = saliency(luma, reference, None, (2, 4), valid=valid)[3]
    expected = np.minimum(difference[2], gray).reshape(2, 14, 4, 14).sum((1, 3)) / gray
    assert shown.numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("full", [0.0, 1.0, 12.0, 12.3456, 254.99, 255.0, 300.5])
def test_clipped_sums(both, rng, full):
    residual = torch.randint(0, 256, (2, 3, 56, 84), generator=rng).byte()
    tops = torch.full((2, 3, 1, 1), max(full, 1e-3))
    tops[1, 2] = 17.25
    plain, compiled = both(lambda: clipped_sums(residual, tops, (2, 3)))
    assert torch.equal(plain, compiled)
    blocks = residual.view(2, 3, 2, 28, 3, 28).double().minimum(tops[..., None, None].double()).sum((3, 5))
    assert torch.equal(compiled, blocks.float() / tops)


@pytest.mark.parametrize("seed", range(8))
def test_motion_fields(both, seed):
    rng = np.random.default_rng(seed)
    frames = []
    for count in rng.integers(0, 400, 6):
        vectors = np.zeros(count, VECTOR)
        vectors["source"] = rng.choice([-2, -1, 1], count) if seed % 2 else -1
        vectors["w"], vectors["h"] = rng.choice([4, 8, 16, 32], (2, count))
        vectors["dst_x"], vectors["dst_y"] = rng.integers(-40, 200, (2, count))  # also outside of the picture
        vectors["motion_x"], vectors["motion_y"] = rng.integers(-300, 300, (2, count))
        vectors["motion_scale"] = rng.choice([0, 1, 2, 4], count)
        frames.append(vectors if count % 5 else None)
    for cell in (8, 16):
        plain, compiled = both(lambda cell=cell: rasterize_frames(frames, (96, 130), cell))
        assert np.array_equal(plain.numpy(), compiled.numpy(), equal_nan=True)
    assert all(field.isnan().all() for field in both(lambda: rasterize_frames([None, None], (96, 130))))


@pytest.mark.parametrize("seed", range(20))
def test_selections(both, seed):
    rng = np.random.default_rng(seed)
    groups, count, blocks, canvases, most = (int(rng.integers(1, high)) for high in (3, 12, 9, 5, 20))
    frames = torch.arange(count).repeat_interleave(blocks)
    scores = torch.from_numpy(rng.integers(-2, 5, (groups, count * blocks)).astype(np.float64))  # many equal ones
    if seed % 2:
        scores += torch.from_numpy(rng.random(scores.shape))
    usable = torch.from_numpy(rng.random((groups, count)) < 0.8)
    scores[~usable.repeat_interleave(blocks, 1)] = -torch.inf
    weights = torch.where(usable, torch.from_numpy(rng.random((groups, count)) + 1e-6), 0.0)
    plain, compiled = both(lambda: stratify(frames, scores, weights, canvases, most))
    assert torch.equal(plain.turn, compiled.turn)
    assert torch.equal(plain.canvas, compiled.canvas)
    assert torch.equal(plain.focus, compiled.focus)


@pytest.mark.parametrize("seed", range(12))
def test_blocks_of_many_groups(both, seed):
    rng = np.random.default_rng(seed)
    groups, count, rows, columns, canvases = (int(rng.integers(1, high)) for high in (4, 9, 5, 6, 4))
    scores = torch.from_numpy(rng.integers(-1, 6, (groups, count, rows, columns)).astype(np.float64))
    lengths = torch.from_numpy(rng.integers(1, count + 1, groups))
    good = torch.from_numpy(rng.random((groups, count)) < 0.9)
    selectors = SaliencyBlockSelector(), SaliencyBlockSelector(placement="quantile"), TopKBlockSelector()
    for selector in selectors:
        plain, compiled = both(
            lambda selector=selector: selector.forward_batch(scores, lengths, good=good, p_canvases=canvases)
        )
        assert torch.equal(plain[0], compiled[0])
        assert torch.equal(plain[1], compiled[1])


@pytest.mark.parametrize("seed", range(12))
def test_packing(both, seed):
    rng = np.random.default_rng(seed)
    groups, count, rows, columns, canvases = (int(rng.integers(1, high)) for high in (3, 7, 4, 5, 4))
    packer, places = CanvasPacker(2, 2), rows * columns
    frames = torch.from_numpy(rng.integers(0, 256, (groups, count, 3, 4 * rows, 4 * columns), dtype=np.uint8))
    full = int(rng.integers(0, canvases * places + 1))
    blocks = torch.from_numpy(rng.integers(0, (count, rows, columns), (groups, full, 3)))
    if full:
        blocks[0, int(rng.integers(full)) :] = -1  # a group with fewer
    times, anchor = torch.arange(count).expand(groups, -1) * 3 + 7, torch.from_numpy(rng.integers(0, count, groups))
    lots = torch.from_numpy(np.sort(rng.integers(0, canvases, (groups, full))))
    loose = all(np.bincount(row).max(initial=0) <= places for row in lots.numpy())
    for canvas in (None, lots) if loose else (None,):
        plain, compiled = both(
            lambda canvas=canvas: packer.forward_batch(frames, times, anchor, blocks, canvas, p_canvases=canvases)
        )
        assert all(torch.equal(*pair) for pair in zip(plain, compiled, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("preset", ["paper", "release", "event"])
def test_canvases(both, preset, threads):
    plain, compiled = both(lambda: CodecTokenizer(8, preset=preset, threads=threads)(SAMPLE))
    assert torch.equal(plain.images, compiled.images)
    assert torch.equal(plain.positions, compiled.positions)
    assert plain.signal == compiled.signal
