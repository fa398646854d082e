"""Who sees whom, checked pair by pair."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit import Segments
from tests.paths import read_golden

TOWERS = ("ln_m2", "rms_m3", "head_m1")
CASES = [(tower, case) for tower in TOWERS for case in read_golden(f"01_vision_{tower}_meta.json")["cases"]]


@pytest.mark.parametrize(("tower", "case"), CASES)
def test_windows_match_release(tower, case):
    meta = read_golden(f"01_vision_{tower}_meta.json")
    tensors = read_golden(f"01_vision_{tower}_cases.safetensors")
    segments = Segments.from_grid(tensors[f"{case}.grid_thw"], window=meta["config"]["frame_windows_size"])
    assert list(segments.lengths) == meta["cases"][case]["windows"]
    assert segments.cu_seqlens.dtype == torch.int32
    assert segments.cu_seqlens.tolist() == tensors[f"{case}.cu_seqlens"].tolist()
    assert segments.max_length == tensors[f"{case}.max_seqlen"].item()
    assert Segments.from_cu_seqlens(tensors[f"{case}.cu_seqlens"]) == segments


def test_every_visibility_pair_by_pair():
    grid = [(3, 1, 2), (2, 1, 1)]  # two videos: canvases of 2 tokens, then of 1
    video, canvas = [0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2, 3, 4]
    group = [0, 0, 0, 0, 1, 1, 2, 3]
    views = {
        "canvas": (Segments.from_grid(grid, window=1), lambda q, k: canvas[q] == canvas[k]),
        "windows": (Segments.from_grid(grid, window=2), lambda q, k: video[q] == video[k] and q // 4 == k // 4),
        "full": (Segments.from_grid(grid, window=None), lambda q, k: video[q] == video[k]),
        "groups": (Segments.from_groups(group), lambda q, k: group[q] == group[k]),
        "causal": (
            Segments.from_groups(group).causal([2, 2]),
            lambda q, k: video[q] == video[k] and group[k] <= group[q],
        ),
        "causal, one video": (Segments.from_groups(group).causal(), lambda q, k: group[k] <= group[q]),
    }
    for name, (segments, sees) in views.items():
        want = torch.tensor([[sees(q, k) for k in range(8)] for q in range(8)])
        assert torch.equal(segments.dense(), want), name


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=4))
def test_forms_agree(items):
    segments = Segments.from_lengths(n for item in items for n in item)
    assert Segments.from_cu_seqlens(segments.cu_seqlens) == segments
    assert Segments.from_groups(segments.ids()) == segments
    assert segments.table[:, :2].tolist() == [list(run) for run in segments.runs]
    dense = segments.dense()
    assert torch.equal(dense, dense.T)
    causal = segments.causal([len(item) for item in items])
    assert causal.lengths == segments.lengths
    item = torch.repeat_interleave(torch.arange(len(items)), torch.tensor([sum(i) for i in items]))
    ids = segments.ids()
    assert torch.equal(causal.dense(), (item[:, None] == item) & (ids[:, None] >= ids))
    assert segments.causal([1] * len(segments.lengths)) == segments


def test_group_ids_count_tokens_per_canvas():
    assert Segments.from_groups(torch.tensor([0, 0, 1, 5, 5, 5]), tokens=10).lengths == (20, 10, 30)
    assert Segments.from_groups([]).lengths == ()
    assert Segments.from_lengths([0, 3, 0]).lengths == (3,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segments((2, 0), torch.tensor([0, 2, 2])), r"lengths\[1\] must be at least 1, got 0"),
        (lambda: Segments((2,), torch.tensor([0, 1, 2])), r"\(2,\) for 1 lengths, got \(3,\)"),
        (lambda: Segments.from_lengths("6"), r"lengths must be a sequence of numbers, got '6'"),
        (lambda: Segments.from_lengths([2.5]), r"lengths\[0\] must be a whole number, at least 0, got 2.5"),
        (lambda: Segments.from_lengths([True]), r"lengths\[0\] must be a whole number, at least 0, got True"),
        (lambda: Segments.from_cu_seqlens([0, 4, 3]), r"got \[0, 4, 3\]"),
        (lambda: Segments.from_grid([(1, 1, 1)], window=0), r"window must be at least 1, got 0"),
        (lambda: Segments.from_lengths([1, 1]).causal([1]), r"add up to 2 segments, got \[1\]"),
        (lambda: Segments((2,), torch.tensor([0, 2]), ((0, 3),)), r"within 0\.\.2 .* got \[\(0, 3\)\]"),
        (lambda: Segments((2,), torch.tensor([0, 2]), ()), r"one run per segment: 1, got 0"),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()
