"""Whole frames beside the anchors: how many each group has, and when."""

import numpy as np
import pytest

from ov2kit.codec.selection.whole_frames import place_whole_frames, share_whole_frames


@pytest.mark.parametrize(
    ("canvases", "share", "whole"),
    [
        ([4, 4], None, [1, 1]),
        ([4, 4], 0.25, [1, 1]),
        ([4, 4], 0.5, [2, 2]),
        ([4, 4], 1.0, [4, 4]),
        ([4, 4, 4, 4], 0.01, [1, 1, 1, 1]),  # never less than one a group
        ([4, 3], 0.5, [2, 2]),  # 3.5 rounds to 4
        ([5, 5, 5], 0.5, [3, 3, 2]),  # 7.5 rounds to 8: the earlier of equals first
        ([8, 2], 0.5, [4, 1]),
        ([1, 7], 0.25, [1, 1]),  # 2 of 8, one of them the anchor of a group of one canvas
    ],
)
def test_each_group_gets_its_part(canvases, share, whole):
    assert share_whole_frames(np.array(canvases), share).tolist() == whole


def test_shares_add_up_and_are_off_by_less_than_one():
    rng = np.random.default_rng(0)
    for _ in range(300):
        canvases = rng.integers(1, 9, rng.integers(1, 9))
        share = float(rng.uniform(0.01, 1))
        whole = share_whole_frames(canvases, share)
        wanted = canvases * share
        assert (whole >= 1).all()
        assert (whole <= canvases).all()
        assert (whole - np.maximum(1, wanted) < 1).all()
        assert (np.maximum(1, np.floor(wanted + 1e-9)) <= whole).all()
        assert whole.sum() == max(round(wanted.sum()), np.maximum(1, np.floor(wanted + 1e-9)).sum())


@pytest.mark.parametrize(
    ("seconds", "anchor", "count", "places"),
    [
        (range(8), 0, 1, [0]),
        (range(8), 0, 2, [0, 3]),
        (range(9), 0, 4, [0, 2, 4, 6]),
        (range(9), 4, 2, [0, 4]),
        (range(9), 3, 2, [3, 7]),
        (range(4), 2, 4, [0, 1, 2, 3]),
        ([0, 0.1, 0.2, 8], 0, 2, [0, 2]),  # half of 8 s is nearer to 0.2 than to 8
        ([0, 0.1, 0.2, 8], 3, 2, [0, 3]),  # the anchor is the end: from the beginning on
        ([5], 0, 1, [0]),
        ([1, 1, 1], 0, 2, [0, 1]),
    ],
)
def test_at_equal_steps_from_the_anchor(seconds, anchor, count, places):
    assert place_whole_frames(np.array(seconds, dtype=float), anchor, count).tolist() == places


def test_places_are_distinct_and_hold_the_anchor():
    rng = np.random.default_rng(1)
    for _ in range(300):
        seconds = np.sort(rng.exponential(1, rng.integers(1, 20)).cumsum())
        anchor, count = int(rng.integers(len(seconds))), int(rng.integers(1, len(seconds) + 1))
        places = place_whole_frames(seconds, anchor, count)
        assert len(set(places.tolist())) == count
        assert anchor in places
        assert (np.diff(places) > 0).all()
