"""The training-free token merger: a plain re-derivation, and what must hold for any rows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.connectors import TokenMerger, matching

WIDTH = 8


def rows(n, seed=1):
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed))


def merge_by_hand(x, tokens, rate, split):
    """Groups of row numbers, one per token in order; plain lists and loops in float64."""
    x = x.double()
    groups = [[i] for i in range(len(x))]
    while len(groups) > tokens:
        n = len(groups)
        parity = [(i if split == "alternate" else i.bit_count()) % 2 for i in range(n)]
        if n % 2:
            parity[-1] = 0  # the odd one out is offered for merging
        mean = [x[g].mean(0) for g in groups]
        unit = [m / m.norm() for m in mean]
        second = [j for j in range(n) if parity[j]]
        pairs = []
        for i in range(n):
            if not parity[i]:
                cosine, minus_j = max((float(unit[i] @ unit[j]), -j) for j in second)
                pairs.append((-cosine, i, -minus_j))
        pairs.sort()
        merged = min(n - tokens, max(1, int(n * rate)), len(pairs))
        for _, i, j in pairs[:merged]:
            groups[j] = groups[j] + groups[i]
            groups[i] = []
        groups = [g for g in groups if g]
    return groups


@settings(max_examples=40)
@given(
    n=st.integers(1, 60),
    tokens=st.integers(1, 20),
    rate=st.sampled_from([0.1, 0.25, 0.5]),
    split=st.sampled_from(["alternate", "mixed"]),
    seed=st.integers(0, 5),
)
def test_owners_match_the_rule(n, tokens, rate, split, seed):
    x = rows(n, seed)
    merger = TokenMerger(WIDTH, tokens=tokens, rate=rate, split=split)
    groups = merge_by_hand(x, tokens, rate, split)
    owner = merger.owners(x)
    expected = {row: token for token, group in enumerate(groups) for row in group}
    assert owner.tolist() == [expected[row] for row in range(n)]
    torch.testing.assert_close(merger(x), torch.stack([x[g].mean(0) for g in groups]), rtol=1e-5, atol=1e-6)
    assert len(groups) == merger.tokens_out(n) == min(n, tokens)


def test_means_weigh_rows_equally():
    x = rows(200)
    merger = TokenMerger(WIDTH, tokens=9)
    sizes = torch.bincount(merger.owners(x), minlength=9)
    assert sizes.max() > 2  # tokens of several rounds
    torch.testing.assert_close((merger(x) * sizes[:, None]).sum(0), x.sum(0), rtol=1e-5, atol=1e-4)


def test_copies_merge_first_and_lose_nothing():
    x = rows(10).repeat_interleave(2, dim=0)
    torch.testing.assert_close(TokenMerger(WIDTH, tokens=10, rate=0.5)(x), rows(10), rtol=0, atol=1e-6)


def test_a_repeated_frame_needs_the_mixed_split():
    """Equal places of two frames of 64 rows have the same parity: alternating sets cannot pair them."""
    frame = rows(64)
    clip = torch.cat([frame, frame])
    error = {}
    for split in ("alternate", "mixed"):
        merger = TokenMerger(WIDTH, tokens=64, split=split)
        error[split] = (merger(clip)[merger.owners(clip)] - clip).square().mean().item()
    assert error["mixed"] < error["alternate"] / 3, error


def test_few_rows_pass_unchanged():
    x = rows(12)
    assert torch.equal(TokenMerger(WIDTH, tokens=12)(x), x)


def test_equal_rows_are_decided_by_order():
    """All cosines tie: the earliest rows go to the first of the other set."""
    owner = TokenMerger(WIDTH, tokens=6, rate=0.5).owners(torch.ones(8, WIDTH))
    assert owner.tolist() == [0, 0, 0, 1, 2, 3, 4, 5]


def test_same_bits_every_time():
    x = rows(500)
    merger = TokenMerger(WIDTH, tokens=40)
    first = merger(x)
    assert all(torch.equal(merger(x), first) for _ in range(5))


def test_scores_in_pieces_change_nothing(monkeypatch):
    x = rows(300)
    whole = TokenMerger(WIDTH, tokens=30).owners(x, [100, 200])
    monkeypatch.setattr(matching, "_MAX_SCORES", 7 * 50)
    largest = []
    real = torch.split

    def record(first, step, dim):
        largest.append(step)
        return real(first, step, dim=dim)

    monkeypatch.setattr(torch, "split", record)
    assert torch.equal(TokenMerger(WIDTH, tokens=30).owners(x, [100, 200]), whole)
    assert largest[0] == 7


def test_gradient_is_that_of_the_means():
    x = rows(20).requires_grad_()
    merger = TokenMerger(WIDTH, tokens=6)
    merger(x).sum().backward()
    owner = merger.owners(x)
    size = torch.bincount(owner, minlength=6)[owner]
    torch.testing.assert_close(x.grad, (1 / size)[:, None].expand(-1, WIDTH))


@pytest.mark.parametrize("split", ["alternate", "mixed"])
def test_both_sets_cover_all_tokens(split):
    for n in range(2, 70):
        first, second = matching._sides(n, split, torch.device("cpu"))
        assert sorted(first.tolist() + second.tolist()) == list(range(n))
        assert first.tolist() == sorted(first.tolist())
        assert len(first) == math.ceil(n / 2)
