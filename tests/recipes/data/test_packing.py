"""Bin packing as the public tool does it, and the buffer for packing on the fly."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov2kit.recipes.data.packing import PackBuffer, pack_bins, parse_lengths
from tests.paths import read_golden

REFERENCE = read_golden("12_bin_packing.json")


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: f"{case['style']}-{len(case['lengths'])}")
@pytest.mark.parametrize(
    ("method", "expected"),
    [("ffd", "ffd"), ("bfd", "bfd"), ("tightest", "optimized_ffd"), ("tightest", "optimized_bfd")],
)
def test_bins_are_those_of_the_reference(case: dict[str, Any], method: Any, expected: str) -> None:
    bins = pack_bins(case["lengths"], case["capacity"], case["max_samples"], method)
    assert bins == case[expected]
    assert [sum(case["lengths"][i] for i in bin_) for bin_ in bins] == case[f"{expected}_totals"]


def test_golden_covers_the_differences() -> None:
    assert any(case["ffd"] != case["bfd"] for case in REFERENCE["cases"])
    assert any(case["bfd"] != case["optimized_bfd"] for case in REFERENCE["cases"])


def test_lines_of_lengths() -> None:
    assert parse_lengths(REFERENCE["token_file"]["lines"]) == REFERENCE["token_file"]["parsed"]


@given(
    lengths=st.lists(st.integers(1, 100), max_size=60),
    capacity=st.integers(100, 200),
    most=st.none() | st.integers(1, 5),
    method=st.sampled_from(["ffd", "bfd", "tightest"]),
)
def test_every_sample_is_in_one_bin_that_holds_it(
    lengths: list[int], capacity: int, most: int | None, method: Any
) -> None:
    bins = pack_bins(lengths, capacity, most, method)
    assert sorted(i for bin_ in bins for i in bin_) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in bin_) <= capacity for bin_ in bins)
    assert most is None or all(len(bin_) <= most for bin_ in bins)


def streamed(lengths: list[int], capacity: int, size: int, most: int | None = None) -> list[list[int]]:
    buffer: PackBuffer[int] = PackBuffer(capacity, size, most)
    rows = []
    for i, length in enumerate(lengths):
        buffer.add(length, i)
        assert len(buffer.waiting) <= size
        if buffer.is_full:
            rows.append(buffer.row())
    while row := buffer.row():
        rows.append(row)
    return rows


def test_row_by_hand() -> None:
    """The oldest opens; of those that fit the longest joins; of equal ones the older."""
    assert streamed([5, 6, 3, 3, 2, 9], capacity=10, size=5) == [[0, 2, 4], [1, 3], [5]]
    assert streamed([1, 1, 1, 1], capacity=10, size=4, most=3) == [[0, 1, 2], [3]]


@given(
    lengths=st.lists(st.integers(1, 50), max_size=60),
    size=st.integers(1, 12),
    most=st.none() | st.integers(1, 4),
)
def test_buffer_loses_nothing_and_holds_no_sample_for_ever(lengths: list[int], size: int, most: int | None) -> None:
    rows = streamed(lengths, 50, size, most)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 50 for row in rows)
    assert [min(row) for row in rows] == sorted(min(row) for row in rows)  # the oldest always goes first
    for n, row in enumerate(rows):  # after `size` rows at the latest, whatever waited is gone
        assert all(min(row) - i < size for later in rows[n + size :] for i in later if i < min(row))


def test_a_larger_buffer_wastes_less() -> None:
    lengths = [(7919 * i) % 700 + 40 for i in range(400)]
    fill = {size: sum(lengths) / (1000 * len(streamed(lengths, 1000, size))) for size in (1, 4, 32)}
    assert fill[1] < fill[4] < fill[32]
    assert fill[32] > 0.97


def test_refusals() -> None:
    with pytest.raises(ValueError, match="unknown method 'best'"):
        pack_bins([1], 2, method="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a sample of 11 tokens does not fit into a row of 10"):
        PackBuffer[int](10).add(11, 0)
