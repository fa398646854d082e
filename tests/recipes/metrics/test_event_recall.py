"""What canvases show of events: values by hand, and from pixels that were painted."""

import numpy as np
import pytest
import torch

from ov2kit.codec import CanvasPacker, SaliencyBlockSelector
from ov2kit.recipes.metrics import (
    EventRecall,
    EventShown,
    background_share,
    block_shares,
    blocks_of_mask,
    event_shown,
    shown_blocks,
)


def blocks(*places, grid=(3, 4)):
    found = np.zeros(grid, dtype=bool)
    for place in places:
        found[place] = True
    return found


def test_shares_of_blocks_that_cut_pixels():
    """7 x 10 pixels on 3 x 4 blocks, against every pixel cut into 12 x 12 parts of its own."""
    mask = np.random.default_rng(0).random((7, 10)) < 0.4
    fine = mask.repeat(12, axis=0).repeat(12, axis=1)  # 84 x 120: blocks of 28 x 30 parts
    expected = fine.reshape(3, 28, 4, 30).mean(axis=(1, 3))
    np.testing.assert_allclose(block_shares(mask, (3, 4)), expected, atol=1e-12)


def test_a_block_bears_an_event_from_a_quarter_on_and_the_best_where_none_does():
    mask = np.zeros((30, 40), dtype=bool)
    mask[0:5, 0:5] = True  # 25 of 100 pixels
    mask[0:4, 10:16] = True  # 24
    assert (blocks_of_mask(mask, (3, 4)) == blocks((0, 0))).all()
    mask[0:5, 0:5] = False
    assert (blocks_of_mask(mask, (3, 4)) == blocks((0, 1))).all()
    assert not blocks_of_mask(np.zeros((30, 40), dtype=bool), (3, 4)).any()


def test_shown_blocks_are_those_that_were_packed():
    """Padding and the whole frame too; 2 patches per block edge."""
    frames = torch.zeros(4, 3, 12, 16, dtype=torch.uint8)
    chosen = torch.tensor([[1, 0, 3], [1, 2, 0], [3, 1, 1]])
    _, positions, _ = CanvasPacker(patch=2, merge=2)(frames, torch.tensor([10, 20, 30, 40]), 0, chosen)
    shown = shown_blocks(positions, 2, (3, 4))
    assert set(shown) == {10, 20, 40}
    assert shown[10].all()
    assert (shown[20] == blocks((0, 3), (2, 0))).all()
    assert (shown[40] == blocks((1, 1))).all()


def test_an_event_by_hand():
    """Frames 4 to 11 at 10 per second, from 0.4 s to 1.2 s: two frames a moment; 4 blocks, later 2 of them."""
    wide, small = blocks((0, 0), (0, 1), (1, 0), (1, 1)), blocks((1, 0), (1, 1))
    event = {t: wide if t < 8 else small for t in range(4, 12)}
    seconds = np.arange(20) / 10
    shown = {5: blocks((0, 0), (2, 2)), 7: blocks((0, 0), (0, 1)), 11: blocks((1, 1), (0, 0)), 15: blocks((1, 1))}
    found = event_shown(shown, event, 0.4, 1.2, seconds)
    assert (found.once, found.twice) == (True, True)  # 7: two of four; 11: one of two
    assert found.recall == pytest.approx((1 + 2 + 0 + 1) / (4 + 4 + 2 + 2))
    assert found.delay == pytest.approx(0.1)
    once = event_shown({7: shown[7]}, event, 0.4, 1.2, seconds)
    assert (once.once, once.twice, once.delay) == (True, False, pytest.approx(0.3))
    never = event_shown({3: wide, 5: blocks((2, 2))}, event, 0.4, 1.2, seconds)
    assert (never.once, never.twice, never.recall, never.delay) == (False, False, 0.0, None)
    with pytest.raises(ValueError, match="at least one block"):
        event_shown(shown, {3: blocks()}, 0.4, 1.2, seconds)


def test_background_is_what_bears_no_event():
    events = [{5: blocks((0, 0))}, {5: blocks((0, 0), (0, 1)), 6: blocks((1, 1))}]
    shown = {5: blocks((0, 0), (0, 1), (2, 2)), 6: blocks((0, 0)), 9: blocks((1, 1))}
    assert background_share(shown, events) == pytest.approx(3 / 5)
    assert background_share({}, events) == 0


def test_true_scores_show_everything():
    """Blocks chosen by the truth, where there is room for all of it."""
    scores = torch.zeros(12, 3, 4)
    event = {t: blocks((1, t % 3), (1, t % 3 + 1)) for t in range(4, 8)}
    for t, own in event.items():
        scores[t] = torch.from_numpy(own).float()
    chosen = SaliencyBlockSelector(p_canvases=1)(scores)
    shown = {}
    for t, row, column in chosen.tolist():
        shown.setdefault(t, blocks())[row, column] = True
    found = event_shown(shown, event, 0.4, 0.8, np.arange(12) / 10)
    assert (found.recall, found.delay) == (1.0, 0.0)


def test_the_metric_is_the_mean_of_its_events():
    metric = EventRecall()
    metric.update([EventShown(True, True, 0.75, 0.2), EventShown(True, False, 0.25, 0.4)])
    metric.update([EventShown(False, False, 0.0, None)])
    found = {name: float(value) for name, value in metric.compute().items()}
    wanted = {"events": 3, "once": 2 / 3, "twice": 1 / 3, "seen": 2 / 3, "recall": 1 / 3, "delay": 0.3}
    assert found == pytest.approx(wanted)
    metric.reset()
    metric.update([])
    assert metric.compute()["recall"] == 0
