"""J and F of masks, against loops over pixels."""

import math

import numpy as np
import pytest
import torch

from ov2kit.recipes.metrics import JAndF, boundaries, boundary_f, box_similarity, mask_similarity, region_iou


def random_masks(seed, frames=4, size=(14, 19)):
    """Blobs: low-pass noise above a level, with an empty and a full frame."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(frames, 1, *size, generator=generator)
    masks = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)[:, 0] > 0.36 + 0.02 * seed % 0.1
    if seed % 3 == 0:
        masks[0] = False
    return masks


def outline_by_loops(mask):
    height, width = mask.shape
    pixels = set()
    for y in range(height):
        for x in range(width):
            near = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(v < height and u < width and mask[v, u] != mask[y, x] for v, u in near):
                pixels.add((y, x))
    return pixels


def f_by_loops(mine, true, radius):
    a, b = outline_by_loops(mine), outline_by_loops(true)
    if not a and not b:
        return 1.0
    if not a or not b:
        return 0.0

    def share(these, those):
        return sum(any(math.dist(p, q) <= radius for q in those) for p in these) / len(these)

    precision, recall = share(a, b), share(b, a)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_j_and_f_agree_with_loops(seed):
    mine, true = random_masks(seed), random_masks(seed + 10)
    for radius in (1, 2, 3.0):
        made = boundary_f(mine, true, tolerance=radius)
        wanted = [f_by_loops(a, b, radius) for a, b in zip(mine.numpy(), true.numpy(), strict=True)]
        np.testing.assert_allclose(made.numpy(), wanted, rtol=0, atol=1e-12)
    wanted = []
    for a, b in zip(mine.numpy(), true.numpy(), strict=True):
        either = sum(bool(p or q) for p, q in zip(a.flat, b.flat, strict=True))
        both = sum(bool(p and q) for p, q in zip(a.flat, b.flat, strict=True))
        wanted.append(both / either if either else 1.0)
    np.testing.assert_allclose(region_iou(mine, true).numpy(), wanted, rtol=0, atol=1e-12)


def test_the_outline_is_one_pixel_on_the_upper_left_side():
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[2:4, 2:5] = True
    drawn = ["".join(".#"[v] for v in row) for row in boundaries(mask).int().tolist()]
    assert drawn == [".......", ".####..", ".#..#..", ".####..", ".......", "......."]


def test_the_tolerance_is_a_share_of_the_diagonal_rounded_up():
    true = torch.zeros(480, 854, dtype=torch.bool)  # ceil(0.008 * 979.6) = 8 pixels
    true[:, :400] = True
    for shift, wanted in ((8, 1.0), (9, 0.0)):
        assert boundary_f(torch.roll(true, shift, 1) | true, true).item() == wanted
    assert boundary_f(torch.roll(true, 9, 1) | true, true, tolerance=9).item() == 1.0


def test_a_disk_not_a_square():
    mine, true = torch.zeros(2, 20, 20, dtype=torch.bool)
    mine[5, 5] = True  # outline: (4, 4), (4, 5), (5, 4), (5, 5); shifted by (3, 3) its distance is 4.24 - 1.41
    true[8, 8] = True
    assert boundary_f(mine, true, tolerance=2).item() == pytest.approx(f_by_loops(mine.numpy(), true.numpy(), 2))
    assert boundary_f(mine, true, tolerance=2).item() < boundary_f(mine, true, tolerance=3).item()


def test_nothing_and_everything():
    nothing = torch.zeros(3, 8, 9, dtype=torch.bool)
    something = nothing.clone()
    something[:, 2:5, 2:5] = True
    assert region_iou(nothing, nothing).tolist() == boundary_f(nothing, nothing).tolist() == [1.0] * 3
    assert region_iou(nothing, something).tolist() == boundary_f(nothing, something).tolist() == [0.0] * 3
    assert region_iou(something, something).tolist() == boundary_f(something, something).tolist() == [1.0] * 3


def test_frames_are_averaged_before_objects():
    long_track = torch.zeros(4, 8, 8, dtype=torch.bool)
    long_track[:, :4] = True
    wrong = torch.zeros_like(long_track)
    metric = JAndF()
    metric.update(long_track, long_track)  # four frames of 1
    metric.update(wrong[:1], long_track[:1])  # one frame of 0
    made = metric.compute()
    assert (made["j"], made["f"], made["j&f"], made["j_recall"]) == (0.5, 0.5, 0.5, 0.5)

    metric = JAndF()
    metric.update(torch.stack([long_track, wrong]), torch.stack([long_track, long_track]))
    assert metric.compute()["j"] == 0.5
    half = wrong.clone()
    half[:, :3] = True  # J = 3/4 in every frame
    metric = JAndF(skip_ends=True)
    wrong_ends = torch.cat([wrong[:1], half, wrong[:1]])
    metric.update(wrong_ends, torch.cat([long_track[:1], long_track, long_track[:1]]))
    assert metric.compute()["j"] == 0.75
    assert metric.compute()["j_recall"] == 1


def test_refusals():
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"got \(2, 4, 4\) and \(1, 4, 4\)"):
        region_iou(masks, masks[:1])
    with pytest.raises(ValueError, match=r"bool, got torch\.float32"):
        boundary_f(masks.float(), masks.float())
    with pytest.raises(ValueError, match="skip_ends=False"):
        JAndF(skip_ends=True).update(masks, masks)


def test_similarity_of_boxes_and_of_the_masks_they_fill_agree():
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 12, (9, 2), generator=generator)
    boxes = torch.cat([corner, corner + torch.randint(0, 8, (9, 2), generator=generator)], dim=1)
    y, x = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    masks = torch.stack([(x >= a) & (x < c) & (y >= b) & (y < d) for a, b, c, d in boxes.tolist()])
    by_box, by_mask = box_similarity(boxes[:5], boxes[5:]), mask_similarity(masks[:5], masks[5:])
    assert by_box.shape == (5, 4)
    torch.testing.assert_close(by_box, by_mask, rtol=0, atol=1e-12)
    assert by_box.max() > 0
    assert box_similarity(boxes[:0], boxes).shape == (0, 9)
    with pytest.raises(ValueError, match=r"\(boxes, 4\).*got \(3,\)"):
        box_similarity(torch.zeros(3), boxes)
