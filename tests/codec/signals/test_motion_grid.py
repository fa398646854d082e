"""Motion vectors on a grid against blocks painted one by one."""

import numpy as np
import torch

from ov2kit.codec.signals.motion_grid import rasterize_motion


def vectors_of(rows):
    """rows of (source, w, h, dst_x, dst_y, motion_x, motion_y, motion_scale)"""
    names = ("source", "w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")
    kinds = ("<i4", "u1", "u1", "<i2", "<i2", "<i4", "<i4", "<u2")
    return np.array([tuple(row) for row in rows], dtype=list(zip(names, kinds, strict=True)))


def test_vectors_land_where_their_blocks_are():
    vectors = vectors_of(
        [
            (-1, 16, 16, 8, 8, 6, -10, 4),  # top left macroblock
            (-1, 16, 8, 24, 4, 8, 0, 4),  # upper half of the next
            (-1, 8, 16, 4, 24, 0, 3, 2),  # left half of the one below, in half pels
            (1, 8, 8, 12, 20, 4, -8, 4),  # future alone: reversed
            (1, 8, 8, 12, 28, 40, 40, 4),  # future beside a past entry: ignored, whatever the order
            (-1, 8, 8, 12, 28, -4, 0, 4),
            (1, 16, 16, 8, 8, 99, 99, 4),
            (-1, 16, 16, 40, 24, 20, 20, 4),  # sticks out to the right and below
        ]
    )
    field = rasterize_motion(vectors, np.zeros(8, dtype=np.int64), 1, (30, 36))[0]
    assert field.shape == (4, 5, 2)
    assert field.dtype == torch.float32
    nan = float("nan")
    x = [[1.5, 1.5, 2, 2, nan], [1.5, 1.5, nan, nan, nan], [0, -1, nan, nan, 5], [0, -1, nan, nan, 5]]
    y = [[-2.5, -2.5, 0, 0, nan], [-2.5, -2.5, nan, nan, nan], [1.5, 2, nan, nan, 5], [1.5, 0, nan, nan, 5]]
    torch.testing.assert_close(field, torch.tensor([x, y]).permute(1, 2, 0), equal_nan=True, rtol=0, atol=0)


def test_rasterizing_many_frames_equals_painting_blocks_one_by_one():
    rng = np.random.default_rng(0)
    rows, frames = [], []
    for frame in range(5):
        for y in range(0, 64, 16):
            for x in range(-16, 112, 16):
                kind = [(16, 16), (16, 8), (8, 16), (8, 8)][rng.integers(4)]
                for dy in range(0, 16, kind[1]):
                    for dx in range(0, 16, kind[0]):
                        if rng.random() < 0.8:
                            vector = rng.integers(-90, 90, 2)
                            center = (x + dx + kind[0] // 2, y + dy + kind[1] // 2)
                            rows.append((rng.choice([-1, 1]), *kind, *center, *vector, 4))
                            frames.append(frame)
    order = rng.permutation(len(rows))
    rows, frames = [rows[i] for i in order], np.array(frames)[order]
    slow = np.full((5, 64, 96, 2), np.nan, dtype=np.float32)
    for past in (False, True):
        for row, frame in zip(rows, frames, strict=True):
            source, w, h, cx, cy, mx, my, scale = row
            if (source < 0) == past:
                area = slow[frame, max(0, cy - h // 2) : cy + h // 2, max(0, cx - w // 2) : max(0, cx + w // 2)]
                area[...] = np.array([mx, my]) / scale * (1 if past else -1)
    field = rasterize_motion(vectors_of(rows), frames, 5, (64, 96))
    np.testing.assert_array_equal(field.numpy(), slow[:, ::8, ::8])
    coarse = rasterize_motion(vectors_of(rows), frames, 5, (64, 96), cell=16)
    assert coarse.shape == (5, 4, 6, 2)


def test_no_vectors_is_a_field_of_holes():
    field = rasterize_motion(vectors_of([]), np.zeros(0, dtype=np.int64), 2, (17, 33))
    assert field.shape == (2, 3, 5, 2)
    assert field.isnan().all()
