"""Saliency against a slow re-derivation."""

from typing import get_args

import numpy as np
import pytest
import torch

from ov2kit.codec.scoring.camera_motion import Compensation
from ov2kit.codec.scoring.saliency import MotionResidualSaliency
from ov2kit.codec.signals.resample import upsample

SIZE, GRID, CELLS = (28, 42), (4, 6), (6, 9)


def clip(frames=5, seed=0, holes=0.2):
    generator = torch.Generator().manual_seed(seed)
    luma = torch.randint(0, 256, (frames, *SIZE), generator=generator, dtype=torch.uint8)
    reference = torch.randint(0, 256, (frames, *SIZE), generator=generator, dtype=torch.uint8)
    field = torch.randn(frames, *CELLS, 2, generator=generator) * 4
    field[torch.rand(frames, *CELLS, generator=generator) < holes] = float("nan")
    nbytes = torch.rand(frames, generator=generator) * 1e4 + 10
    valid = torch.arange(frames) > 0
    return luma, reference, field, nbytes, valid


def slow_scores(luma, reference, field, nbytes, valid, *, fusion, weights, normalize, bit_cost_weight, distance):
    """The same in numpy float64, pixel by pixel."""
    frames, (h, w) = len(luma), SIZE
    luma, reference = luma.numpy().astype(float), reference.numpy().astype(float)
    y, x = np.mgrid[:h, :w]
    cells = field.numpy().astype(float)[:, y * CELLS[0] // h, x * CELLS[1] // w]
    moved = np.round(np.nan_to_num(cells) * 8) / 8  # positions are eighths of a pixel
    residual = np.zeros((frames, h, w))
    for t in range(frames):
        px, py = x + moved[t, ..., 0], y + moved[t, ..., 1]
        x0, y0 = np.floor(px).astype(int), np.floor(py).astype(int)
        fx, fy = px - x0, py - y0
        left, right = (np.clip(x0 + i, 0, w - 1) for i in (0, 1))  # the border is repeated
        top, bottom = (np.clip(y0 + i, 0, h - 1) for i in (0, 1))
        upper = reference[t, top, left] * (1 - fx) + reference[t, top, right] * fx
        lower = reference[t, bottom, left] * (1 - fx) + reference[t, bottom, right] * fx
        residual[t] = np.abs(luma[t] - np.floor(upper * (1 - fy) + lower * fy + 0.5))
    own = field.numpy().astype(float) / distance.numpy()[:, None, None, None]
    own -= np.nanmedian(own, axis=(1, 2), keepdims=True)
    length = np.nan_to_num(np.hypot(own[..., 0], own[..., 1]))
    good = valid.numpy()
    maps = []
    for values, least in ((length, 1e-6), (residual, 1.0)):
        if normalize == "frame":
            scale = np.percentile(values.reshape(frames, -1), 95, axis=1)[:, None, None]
        else:
            scale = np.percentile(values[good], 95)
        maps.append(np.clip(values / np.maximum(scale, least), 0, 1))
    moving, rest = maps[0][:, y * CELLS[0] // h, x * CELLS[1] // w], maps[1]
    fused = {
        "mean": (weights[0] * moving + weights[1] * rest) / sum(weights),
        "sum": np.clip(weights[0] * moving + weights[1] * rest, 0, 1),
        "max": np.maximum(moving, rest),
        "geomean": np.sqrt(moving * rest),
    }[fusion]
    blocks = fused.reshape(frames, GRID[0], h // GRID[0], GRID[1], w // GRID[1]).sum((2, 4))
    blocks *= (1 + bit_cost_weight * nbytes.numpy() / np.percentile(nbytes.numpy()[good], 99))[:, None, None]
    return torch.from_numpy(blocks * good[:, None, None])


@pytest.mark.parametrize("normalize", ["frame", "group"])
@pytest.mark.parametrize("fusion", ["mean", "sum", "max", "geomean"])
def test_scores_match_a_slow_rederivation(normalize, fusion):
    luma, reference, field, nbytes, valid = clip()
    distance = torch.tensor([1.0, 1.0, 2.0, 3.0, 1.0])
    module = MotionResidualSaliency(
        fusion=fusion, weights=(0.7, 1.6), normalize=normalize, bit_cost_weight=0.5, compensation="median"
    )
    mine = module(luma, reference, field, GRID, nbytes, valid, distance=distance)
    assert mine.dtype == torch.float32
    assert mine.shape == (5, *GRID)
    slow = slow_scores(
        luma, reference, field, nbytes, valid,
        fusion=fusion, weights=(0.7, 1.6), normalize=normalize, bit_cost_weight=0.5, distance=distance,
    )  # fmt: skip
    torch.testing.assert_close(mine.double(), slow, rtol=2e-4, atol=2e-4)
    assert not mine[0].any()


def test_whole_pixel_motion_explains_a_moved_picture():
    """The content came from (x + 3, y - 2): with that vector there is no residual, without it there is."""
    picture = torch.randint(0, 256, (1, 40, 60), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    reference, luma = picture[:, 6:34, 6:48], picture[:, 4:32, 9:51]
    field = torch.tensor([3.0, -2.0]).expand(1, *CELLS, 2)
    module = MotionResidualSaliency("none", weights=(0.0, 1.0), normalize="clip")
    scale = torch.tensor([1.0, 40.0])
    inner = module(luma, reference, field, GRID, scale=scale)[0, 1:, :-1]
    assert inner.max() == 0
    assert module(luma, reference, field * 0, GRID, scale=scale)[0, 1:, :-1].min() > 10
    nearest = MotionResidualSaliency("none", weights=(0.0, 1.0), normalize="clip", sampling="nearest")
    assert nearest(luma, reference, field, GRID, scale=scale)[0, 1:, :-1].max() == 0


def test_still_frames_are_not_lifted_unless_asked():
    """Frame 1 differs by one gray level, frame 2 by a hundred: only per-frame scales make them alike."""
    reference = torch.full((3, *SIZE), 100, dtype=torch.uint8)
    luma = reference.clone()
    luma[1] += 1
    luma[2] += 100
    valid = torch.tensor([False, True, True])
    by_group = MotionResidualSaliency(normalize="group")(luma, reference, None, GRID, valid=valid)
    assert by_group[1].max() < 0.02 * by_group[2].min()
    by_frame = MotionResidualSaliency(normalize="frame")(luma, reference, None, GRID, valid=valid)
    assert torch.equal(by_frame[1], by_frame[2])


@pytest.mark.parametrize("compensation", get_args(Compensation))
@pytest.mark.parametrize("normalize", ["frame", "group"])
def test_batches_equal_singles(normalize, compensation):
    clips = [clip(seed=seed) for seed in range(3)]
    clips[2][4][:] = False  # a group without any reference
    module = MotionResidualSaliency(compensation, normalize=normalize, bit_cost_weight=1.0)
    luma, reference, field, nbytes, valid = (torch.stack(part) for part in zip(*clips, strict=True))
    batch = module(luma, reference, field, GRID, nbytes, valid)
    for i, (own_luma, own_reference, own_field, own_bytes, own_valid) in enumerate(clips):
        single = module(own_luma, own_reference, own_field, GRID, own_bytes, own_valid)
        torch.testing.assert_close(batch[i], single, rtol=1e-6, atol=1e-6)
    assert not batch[2].any()
    if normalize == "frame":
        alone = module(luma[1, 3:4], reference[1, 3:4], field[1, 3:4], GRID, nbytes[1, 3:4], nbytes_scale=1.0)
        together = module(luma[1], reference[1], field[1], GRID, nbytes[1], valid[1], nbytes_scale=1.0)
        torch.testing.assert_close(alone[0], together[3], rtol=1e-6, atol=1e-6)


def test_scales_of_a_sample_serve_the_clip():
    luma, reference, field, _, valid = clip()
    module = MotionResidualSaliency(normalize="clip")
    scale = module.scales(luma, reference, field, valid)
    assert scale.shape == (2,)
    by_clip = module(luma, reference, field, GRID, valid=valid, scale=scale)
    by_group = MotionResidualSaliency(normalize="group")(luma, reference, field, GRID, valid=valid)
    torch.testing.assert_close(by_clip, by_group, rtol=0, atol=0)
    with pytest.raises(ValueError, match="needs scale="):
        module(luma, reference, field, GRID)


def test_external_maps_replace_the_scores_of_their_frames():
    luma, reference, field, _, valid = clip()
    maps = torch.rand(5, 8, 12, generator=torch.Generator().manual_seed(9))
    maps[3] = float("nan")
    module = MotionResidualSaliency()
    plain = module(luma, reference, field, GRID, valid=valid)
    mixed = module(luma, reference, field, GRID, valid=valid, external=maps)
    own = upsample(maps, *SIZE).unflatten(1, (4, 7)).unflatten(3, (6, 7)).sum((2, 4))
    torch.testing.assert_close(mixed[[0, 1, 2, 4]], own[[0, 1, 2, 4]])
    assert torch.equal(mixed[3], plain[3])


def test_nothing_is_written_to_what_came_in():
    given = clip()
    before = [part.clone() for part in given]
    for fusion in ("mean", "max"):
        module = MotionResidualSaliency("none", fusion, bit_cost_weight=1.0)
        first = module(*given[:3], GRID, *given[3:])
        assert torch.equal(module(*given[:3], GRID, *given[3:]), first)
        module(given[0], given[1], None, GRID, *given[3:])
    for now, then in zip(given, before, strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0, equal_nan=True)


def test_saliency_says_what_is_wrong():
    luma, reference, field, _, _ = clip()
    with pytest.raises(ValueError, match=r"28 x 42 does not divide into a grid of \(5, 6\)"):
        MotionResidualSaliency()(luma, reference, field, (5, 6))
    with pytest.raises(ValueError, match=r"T=5, got \(4, 6, 9, 2\)"):
        MotionResidualSaliency()(luma, reference, field[:4], GRID)
    with pytest.raises(ValueError, match="uint8, got"):
        MotionResidualSaliency()(luma.float(), reference, field, GRID)
    with pytest.raises(ValueError, match="needs nbytes"):
        MotionResidualSaliency(bit_cost_weight=1.0)(luma, reference, field, GRID)
    with pytest.raises(ValueError, match="unknown fusion 'product'; known: mean"):
        MotionResidualSaliency(fusion="product")


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("normalize", ["frame", "group"])
def test_saliency_on_a_gpu_is_close_to_the_cpu(normalize):
    luma, reference, field, nbytes, valid = clip(frames=9)
    module = MotionResidualSaliency(normalize=normalize, bit_cost_weight=1.0)
    here = module(luma, reference, field, GRID, nbytes, valid)
    there = module(luma.cuda(), reference.cuda(), field.cuda(), GRID, nbytes.cuda(), valid.cuda())
    assert there.is_cuda
    # A prediction halfway between two gray levels may round to either: one level in 49 pixels.
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=0.05)
