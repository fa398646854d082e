"""Pruning after the encoder: plain re-derivations of both rules, exact budgets, and what must hold for any rows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.connectors import EVSPruner, UniquenessPruner

WIDTH = 6


def rows(n, seed=1, width=WIDTH):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))


def evs_by_hand(x, frames, tokens):
    """Row numbers; lists and loops. All of the first frame stands before what changed most."""
    rows, area = x.tolist(), len(x) // frames
    same = [-2.0] * area + [cosine(rows[i], rows[i - area]) for i in range(area, len(rows))]
    return sorted(sorted(range(len(rows)), key=lambda i: (same[i], i))[:tokens])


def uniqueness_by_hand(x, frames, tokens):
    """Row numbers; tokens are handed to frames one at a time, each to the one with the best claim."""
    rows, area = x.tolist(), len(x) // frames
    width = len(rows[0])
    means = [sum(r[c] for r in rows) / len(rows) for c in range(width)]
    spread = [sum((r[c] - means[c]) ** 2 for r in rows) for c in range(width)]
    low = sorted(range(width), key=lambda c: spread[c])[: width // 2]
    unit = []
    for r in rows:
        norm = math.sqrt(sum(r[c] ** 2 for c in low))
        unit.append([r[c] / norm for c in low])

    def mean(of):
        return [sum(r[c] for r in of) / len(of) for c in range(len(low))]

    def like(r, center):
        square = sum((a - b) ** 2 for a, b in zip(r, center, strict=True))
        return sum(math.exp(-square / (2 * 2.0**k)) for k in range(-3, 2))

    clip = mean(unit)
    own = [unit[f * area : (f + 1) * area] for f in range(frames)]
    unusual = [-sum(like(r, clip) for r in frame) / area for frame in own]
    weight = [math.exp((u - max(unusual)) / 0.01) for u in unusual]
    part = [1 + w / sum(weight) - 1 / frames for w in weight]
    left = []
    for frame in own:
        center = mean(frame)
        left.append(sorted(range(area), key=lambda i: like(frame[i], clip) + like(frame[i], center)))
    given = [0] * frames
    for _ in range(min(tokens, len(rows))):
        claims = [(part[f] / (given[f] + 0.5), -f) for f in range(frames) if given[f] < area]
        given[-max(claims)[1]] += 1
    return sorted(f * area + i for f in range(frames) for i in left[f][: given[f]])


@settings(max_examples=30)
@given(frames=st.integers(1, 6), area=st.integers(1, 9), tokens=st.integers(1, 30), seed=st.integers(0, 9))
@pytest.mark.parametrize(
    ("pruner", "by_hand"), [(EVSPruner, evs_by_hand), (UniquenessPruner, uniqueness_by_hand)], ids=["evs", "uniqueness"]
)
def test_what_is_kept_follows_the_rule(pruner, by_hand, frames, area, tokens, seed):
    x = rows(frames * area, seed)
    module = pruner(WIDTH, tokens=tokens)
    kept = module.kept(x, grids=[(frames, 1, area)]).tolist()
    assert kept == (by_hand(x, frames, tokens) if tokens < len(x) else list(range(len(x))))
    assert len(kept) == module.tokens_out(len(x)) == min(len(x), tokens)
    assert torch.equal(module(x, grids=[(frames, 1, area)]), x[kept])


@pytest.mark.parametrize("pruner", [EVSPruner, UniquenessPruner])
def test_a_packed_batch_keeps_of_each_clip_what_it_keeps_alone(pruner):
    """Two clips of one shape apart from each other, one of another, one that is short: the rows of each, moved on."""
    grids = [(4, 2, 3), (2, 3, 4), (4, 2, 3), (1, 1, 2)]
    lengths = [t * h * w for t, h, w in grids]
    x, module = rows(sum(lengths)), pruner(WIDTH, tokens=9)
    alone, start = [], 0
    for part, grid, n in zip(x.split(lengths), grids, lengths, strict=True):
        alone += [start + row for row in module.kept(part, grids=[grid]).tolist()]
        start += n
    assert module.kept(x, grids=grids).tolist() == alone
    assert len(alone) == 9 + 9 + 9 + 2


def test_what_stands_still_is_dropped_by_evs():
    """Eight equal frames, in two of which one place each is another: they and the first frame are what there is."""
    x = rows(5).repeat(8, 1)
    x[3 * 5 + 2] += 5
    x[6 * 5 + 4] -= 5
    changed = {3 * 5 + 2, 4 * 5 + 2, 6 * 5 + 4, 7 * 5 + 4}  # what comes, and what goes
    assert set(EVSPruner(WIDTH, tokens=9).kept(x, grids=[(8, 1, 5)]).tolist()) == {0, 1, 2, 3, 4} | changed


def test_the_length_of_a_row_is_nothing_that_changes():
    x = rows(4).repeat(3, 1) * torch.tensor([1.0, 4.0, 0.1]).repeat_interleave(4)[:, None].double()
    x[2 * 4 + 1] = rows(1, seed=7)
    assert EVSPruner(WIDTH, tokens=5).kept(x, grids=[(3, 2, 2)]).tolist() == [0, 1, 2, 3, 9]


def test_an_unusual_frame_gets_more_of_the_tokens_of_uniqueness():
    x = rows(1).repeat(6 * 8, 1) + 0.05 * rows(6 * 8, seed=3)
    x[2 * 8 : 3 * 8] = rows(8, seed=5)
    kept = UniquenessPruner(WIDTH, tokens=12).kept(x, grids=[(6, 2, 4)])
    of_frame = torch.bincount(kept // 8, minlength=6).tolist()
    assert of_frame[2] == max(of_frame) >= 3
    assert sum(of_frame) == 12
    assert sorted(of_frame)[-2] <= 2


@pytest.mark.parametrize("pruner", [EVSPruner, UniquenessPruner])
def test_equal_rows_are_decided_by_order_and_frames_are_asked_for(pruner):
    x = torch.ones(12, WIDTH)
    assert pruner(WIDTH, tokens=12).kept(x, grids=[(3, 2, 2)]).tolist() == list(range(12))
    kept = pruner(WIDTH, tokens=6).kept(x, grids=[(3, 2, 2)]).tolist()
    assert kept == ([0, 1, 2, 3, 4, 5] if pruner is EVSPruner else [0, 1, 4, 5, 8, 9])
    with pytest.raises(ValueError, match=rf"{pruner.__name__} compares frames: pass grids=\[\(t, h, w\), \.\.\.\]"):
        pruner(WIDTH).kept(x)


@pytest.mark.parametrize("kind", [EVSPruner, UniquenessPruner])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tokens", [4, 24])
def test_rows_that_are_not_finite_are_refused(kind, value, tokens):
    """Where rows are dropped, and where all of them stay."""
    x = rows(12)
    x[7, 2] = x[9, 0] = value
    with pytest.raises(ValueError, match=f"{kind.__name__}: 2 of 12 rows are not finite"):
        kind(WIDTH, tokens=tokens)(x, grids=[(3, 2, 2)])
