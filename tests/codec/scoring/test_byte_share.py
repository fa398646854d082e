"""Packet bytes shared among blocks: by their formula, whole, and after compensation."""

import numpy as np
import pytest
import torch

from ov2kit.codec import ByteShareSaliency, MotionResidualSaliency


def inputs(frames=3):
    generator = torch.Generator().manual_seed(5)
    luma = torch.randint(0, 256, (frames, 28, 56), dtype=torch.uint8, generator=generator)
    reference = torch.randint(0, 256, (frames, 28, 56), dtype=torch.uint8, generator=generator)
    return luma, reference, torch.tensor([700.0, 90.0, 4000.0])[:frames]


def test_follows_its_formula():
    luma, reference, nbytes = inputs()
    scores = ByteShareSaliency()(luma, reference, None, (2, 4), nbytes)
    residual = np.abs(luma.numpy().astype(int) - reference.numpy()).reshape(3, 2, 14, 4, 14).mean((2, 4))
    cost = np.log(1 + residual / 2)
    expected = cost / cost.sum((1, 2), keepdims=True) * nbytes.numpy()[:, None, None]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5)


def test_a_frame_sums_to_its_bytes_and_one_without_reference_to_nothing():
    luma, reference, nbytes = inputs()
    valid = torch.tensor([False, True, True])
    scores = ByteShareSaliency()(luma, reference, None, (2, 4), nbytes, valid)
    torch.testing.assert_close(scores.sum((1, 2)), torch.tensor([0.0, 90.0, 4000.0]))


def test_motion_serves_the_compensation():
    luma, _, nbytes = inputs(1)
    moved = luma.roll(3, dims=2)
    field = torch.full((1, 4, 7, 2), 0.0)
    field[..., 0] = 3.0
    module = ByteShareSaliency()
    still = module(luma, moved, field, (2, 4), nbytes)
    assert still[0, :, :3].sum() == 0  # explained by motion; only the border that wraps is not
    torch.testing.assert_close(still.sum(), nbytes[0])


def test_batch_equals_singles():
    luma, reference, nbytes = inputs()
    module = ByteShareSaliency()
    pair = module(luma[None].repeat(2, 1, 1, 1), reference[None].repeat(2, 1, 1, 1), None, (2, 4), nbytes.repeat(2, 1))
    assert torch.equal(pair[1], module(luma, reference, None, (2, 4), nbytes))


def test_the_old_spelling_warns_and_gives_the_same():
    luma, reference, nbytes = inputs()
    with pytest.warns(DeprecationWarning, match=r"use ByteShareSaliency\(\)"):
        old = MotionResidualSaliency(normalize="bytes")
    expected = ByteShareSaliency()(luma, reference, None, (2, 4), nbytes)
    assert torch.equal(old(luma, reference, None, (2, 4), nbytes), expected)
