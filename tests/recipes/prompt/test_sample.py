"""Layouts, samples and batches: the currency between processor, data and model."""

import pytest
import torch

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.recipes import Sample, VisualLayout, collate, pack
from tests.paths import SAMPLE


@pytest.fixture(scope="module")
def canvases():
    codec = CodecTokenizer(8, max_pixels=20_000)(SAMPLE)
    frames = FrameTokenizer(6, max_pixels=20_000, group=4)(SAMPLE)
    image = ImageTokenizer(max_pixels=8_000)(frames.images[0])
    return codec, frames, image


def sample(tokens: int, canvases=None, first: int = 1) -> Sample:
    ids = torch.arange(first, first + tokens)
    if canvases is None:
        return Sample(ids, ids.clone(), torch.zeros(0, 588), torch.zeros(0, 3, dtype=torch.int32), VisualLayout())
    layout = VisualLayout.from_canvases(canvases)
    return Sample(ids, ids.clone(), canvases.pixel_values(), canvases.flat_positions(), layout)


def test_a_layout_tells_the_same_segments_as_its_canvases(canvases):
    for one in canvases:
        layout = VisualLayout.from_canvases(one)
        assert layout.num_patches == len(one.pixel_values())
        assert layout.segments() == one.segments()
        assert layout.segments("window", 4) == one.segments(4)
        assert layout.grid_thw() == [tuple(row) for row in one.grid_thw().tolist()]


def test_segments_of_several_clips_never_cross_from_one_to_the_next(canvases):
    codec, frames, image = canvases
    layout = VisualLayout.cat([VisualLayout.from_canvases(c) for c in (codec, frames, image, image)])
    a, b = codec.grid[0] * codec.grid[1], image.grid[0] * image.grid[1]
    assert layout.segments("full").lengths == (8 * a, 6 * a, b, b)
    assert layout.segments("group").lengths == (4 * a, 4 * a, 4 * a, 2 * a, b, b)
    assert layout.segments("window", 3).lengths == (3 * a, 3 * a, 2 * a, 3 * a, 3 * a, b, b)
    assert layout.segments("canvas").lengths == (a,) * 14 + (b, b)
    assert layout.grid_thw() == [(8, *codec.grid), (6, *frames.grid), (1, *image.grid), (1, *image.grid)]


def test_cat_keeps_clips_of_a_part_apart(canvases):
    codec = VisualLayout.from_canvases(canvases[0])
    twice = VisualLayout.cat([codec, codec])
    assert VisualLayout.cat([twice, VisualLayout(), codec]).clips == (0,) * 8 + (1,) * 8 + (2,) * 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((((2, 2),), (0, 1), (0,)), "one entry per canvas, got 1, 2 and 1"),
        ((((2, 2),) * 2, (0, 0), (1, 0)), "never go back"),
        ((((2, 2),) * 2, (1, 0), (0, 0)), "never go back"),
    ],
)
def test_a_broken_layout_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VisualLayout(*arguments)


def test_unknown_visibility_and_window(canvases):
    layout = VisualLayout.from_canvases(canvases[0])
    with pytest.raises(ValueError, match="unknown visibility 'all'; known: group, window, canvas, full"):
        layout.segments("all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        layout.segments("window", 0)


@pytest.mark.parametrize("side", ["right", "left"])
def test_collate_pads_on_the_asked_side_and_loses_nothing(canvases, side):
    samples = [sample(5, canvases[0]), sample(3, first=20), sample(4, canvases[1], first=30)]
    batch = collate(samples, pad_id=99, side=side)
    assert batch.input_ids.shape == (3, 5)
    for row, one in enumerate(samples):
        kept = batch.attention_mask[row].bool()
        assert torch.equal(batch.input_ids[row][kept], one.input_ids)
        assert torch.equal(batch.labels[row][kept], one.labels)
        assert (batch.input_ids[row][~kept] == 99).all()
        assert (batch.labels[row][~kept] == -100).all()
    assert batch.attention_mask[1].tolist() == ([1, 1, 1, 0, 0] if side == "right" else [0, 0, 1, 1, 1])
    assert torch.equal(batch.pixel_values, torch.cat([canvases[0].pixel_values(), canvases[1].pixel_values()]))
    assert batch.layout.num_patches == len(batch.positions)
    assert batch.position_ids is None


def test_pack_restarts_positions_and_learns_nothing_across_borders():
    batch = pack([sample(3), sample(2, first=10)], pad_id=99, length=8)
    assert batch.input_ids.tolist() == [[1, 2, 3, 10, 11, 99, 99, 99]]
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert batch.labels.tolist() == [[-100, 2, 3, -100, 11, -100, -100, -100]]
    with pytest.raises(ValueError, match="2 samples of 5 tokens do not fit into a packed row of 4"):
        pack([sample(3), sample(2)], pad_id=99, length=4)


def test_a_sample_whose_parts_disagree_is_refused(canvases):
    ids = torch.arange(3)
    with pytest.raises(ValueError, match="clip-7: pixel_values, positions and layout must cover the same patches"):
        Sample(ids, ids, torch.zeros(4, 588), torch.zeros(4, 3), VisualLayout(), name="clip-7")
    with pytest.raises(ValueError, match=r"got \(3,\) and \(2,\)"):
        Sample(ids, ids[:2], torch.zeros(0, 588), torch.zeros(0, 3), VisualLayout())
    with pytest.raises(ValueError, match="at least one sample"):
        collate([], 0)


def test_a_batch_moves_as_a_whole(canvases):
    batch = pack([sample(3, canvases[2])], pad_id=0).to("meta")
    tensors = (batch.input_ids, batch.attention_mask, batch.labels, batch.pixel_values, batch.positions)
    assert {tensor.device.type for tensor in (*tensors, batch.position_ids)} == {"meta"}
    assert batch.layout == VisualLayout.from_canvases(canvases[2])
