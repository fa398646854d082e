"""The motion of the camera, taken out of fields of which it is known."""

from typing import get_args

import pytest
import torch

from ov2kit.codec.scoring.camera_motion import Compensation, remove_global_motion


def camera(zoom=0.0, turn=0.0, pan=(0.0, 0.0), size=(23, 40)):
    y, x = torch.meshgrid(torch.arange(size[0]) - 11.0, torch.arange(size[1]) - 20.0, indexing="ij")
    return torch.stack([pan[0] + zoom * x - turn * y, pan[1] + zoom * y + turn * x], dim=2)


@pytest.mark.parametrize("field", [camera(0.08), camera(turn=0.1), camera(0.05, -0.07, (3.0, -2.0))])
def test_affine_compensation_follows_the_camera(field):
    field = field.clone()
    field[2:7, 5:12] += torch.tensor([6.0, -5.0])  # an object of its own
    field[15:18, 30:35] = float("nan")
    own = remove_global_motion(field, "affine")
    length = own.norm(dim=2)
    known = ~length.isnan()
    assert torch.equal(~known, field.isnan().any(2))
    still = known.clone()
    still[2:7, 5:12] = False
    assert length[still].max() < 0.25
    assert length[2:7, 5:12].min() > 7  # of 7.8
    assert remove_global_motion(field, "median").norm(dim=2)[still].max() > 1  # what a pan model leaves


@pytest.mark.parametrize("compensation", get_args(Compensation))
def test_a_pan_is_removed_and_an_empty_field_survives(compensation):
    pan = camera(pan=(4.0, -1.5))
    pan[3, 4] = float("nan")
    left = remove_global_motion(torch.stack([pan, torch.full_like(pan, float("nan"))]), compensation)
    if compensation == "none":
        torch.testing.assert_close(left[0], pan, equal_nan=True)
    else:
        assert left[0].nan_to_num(nan=0.0).abs().max() < 1e-2
    assert left[1].isnan().all()
