"""Run lengths: against runs counted by hand, every form that sets store, damaged ones refused."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ov2kit.errors import DataError
from ov2kit.recipes.spatial.rle import decode_mask, encode_mask


def runs(mask):
    """Lengths of runs down the columns, zeros first: the definition."""
    flat = [False, *mask.T.ravel().tolist()]
    lengths, value = [0], False
    for bit in flat[1:]:
        if bit != value:
            lengths.append(0)
            value = bit
        lengths[-1] += 1
    return lengths


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_masks_come_back_from_text_and_from_runs_counted_by_hand(mask):
    assert (decode_mask(encode_mask(mask)) == mask).all()
    assert (decode_mask({"size": list(mask.shape), "counts": runs(mask)}) == mask).all()


def test_bytes_and_lists_of_parts_are_read():
    left, right = np.zeros((2, 4, 6), dtype=bool)
    left[:, 0], right[1, 5] = True, True
    parts = [encode_mask(left), encode_mask(right)]
    assert (decode_mask(parts) == left | right).all()
    assert (decode_mask({"size": [4, 6], "counts": parts[0]["counts"].encode()}) == left).all()


@pytest.mark.parametrize(
    ("given_mask", "problem"),
    [
        ("abc", "must be run lengths with 'size' and 'counts'"),
        ({"size": [4, 6]}, "must be run lengths"),
        ({"size": [4, 6], "counts": [3, 4]}, "runs of 7 pixels"),
        ({"size": [4], "counts": "0"}, "size [4] cannot be read"),
        ({"size": [2, 2], "counts": "0é"}, "cannot be read"),
        ([{"size": [1, 1], "counts": [1]}, {"size": [1, 2], "counts": [2]}], "expected one size"),
    ],
)
def test_other_forms_are_refused(given_mask, problem):
    with pytest.raises(DataError, match=re.escape(problem)):
        decode_mask(given_mask)


def test_only_flat_bool_masks_are_written():
    with pytest.raises(ValueError, match=r"\(2, 2\) float64"):
        encode_mask(np.zeros((2, 2)))
