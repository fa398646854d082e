"""Block selection against the public tool's numbers, and by its own promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.codec.selection.blocks import SaliencyBlockSelector, TopKBlockSelector
from ov2kit.codec.selection.stratify import stratify
from ov2kit.errors import OptionError
from tests.paths import read_golden

META = read_golden("09_stratified_meta.json")
ARRAYS = read_golden("09_stratified.npz")
BUCKETS = [(case, bucket) for case in META["cases"] for bucket in case["buckets"]]
SELECTORS = [SaliencyBlockSelector(), SaliencyBlockSelector(placement="quantile"), TopKBlockSelector()]


def names(selector):
    return f"{type(selector).__name__}-{getattr(selector, 'placement', '')}"


def golden_scores(case):
    """(T, hb, wb) block scores, summed over patches and then over blocks, in float32 like the tool's."""
    maps = torch.from_numpy(ARRAYS[f"case{case['case']}_maps"])
    p = case["patch"]
    patches = maps.unfold(1, p, p).unfold(2, p, p).sum((3, 4))
    return patches.unfold(1, 2, 2).unfold(2, 2, 2).sum((3, 4))


def golden_bucket(case, bucket):
    start, end = bucket["t_start"], bucket["t_end"]
    return golden_scores(case)[start:end], torch.tensor(case["good_mask"])[start:end]


@pytest.mark.parametrize(("case", "bucket"), BUCKETS, ids=lambda x: f"{x.get('case', x.get('bucket_id'))}")
def test_selection_matches_release(case, bucket):
    scores, good = golden_bucket(case, bucket)
    selector = SaliencyBlockSelector(case["extra_images"], case["lambda"], 0.35)
    chosen = selector(scores, case["blocks_per_canvas"], good=good)
    chosen[:, 0] += bucket["t_start"]
    expected = ARRAYS[f"case{case['case']}_b{bucket['bucket_id']}_placed_time"]
    assert chosen.dtype == torch.long
    assert chosen.tolist() == expected.tolist()


@pytest.mark.parametrize(("case", "bucket"), BUCKETS, ids=lambda x: f"{x.get('case', x.get('bucket_id'))}")
def test_damping_ranges_and_picks_match_release(case, bucket):
    name = f"case{case['case']}_b{bucket['bucket_id']}"
    scores, good = golden_bucket(case, bucket)
    good[0] = False
    frames = good.nonzero()[:, 0]
    if len(frames) == 0:
        assert len(ARRAYS[f"{name}_candidates"]) == 0
        return
    damped, block = SaliencyBlockSelector(rank_damping=case["lambda"]).damped(scores.double().flatten(1)[frames])
    columns = scores.shape[2]
    candidates = torch.stack([frames[:, None].expand_as(block), block // columns, block % columns], 2).flatten(0, 1)
    candidates[:, 0] += bucket["t_start"]
    assert candidates.tolist() == ARRAYS[f"{name}_candidates"].tolist()
    torch.testing.assert_close(
        damped.flatten(), torch.from_numpy(ARRAYS[f"{name}_candidate_scores"]), rtol=1e-12, atol=0
    )
    check_picks(candidates.tolist(), damped.flatten(), case, bucket, ARRAYS[f"{name}_chosen"].tolist())


@pytest.mark.parametrize("case", META["direct"], ids=range(len(META["direct"])))
def test_direct_candidates_match_release(case):
    """Hand-made lists: duplicates, ties, negative scores, frames outside of the bucket."""
    inside = [c for c in case["candidates"] if case["t_start"] < c[0] < case["t_end"]]
    inside.sort(key=lambda c: c[0])
    scores = torch.tensor([c[3] for c in inside], dtype=torch.float64)
    expected = [c[:3] for c in case["chosen"]]
    check_picks([c[:3] for c in inside], scores, case, case, expected)


def check_picks(blocks, scores, case, bucket, expected):
    """Stratify a candidate list; a block that occurs twice counts in the weights, but once to pick."""
    frames = torch.tensor([block[0] for block in blocks])
    weights = torch.zeros(bucket["t_end"], dtype=torch.float64)
    for frame in set(frames.tolist()):
        positive = scores[frames == frame].clamp(min=0)
        weights[frame] = max(1e-6, float(positive.sum() + 0.35 * positive.max()))
    best = {}
    for i, block in enumerate(blocks):
        if tuple(block) not in best or scores[i] > scores[best[tuple(block)]]:
            best[tuple(block)] = i
    once = torch.full_like(scores, -torch.inf)
    once[list(best.values())] = scores[list(best.values())]
    choice = stratify(frames, once[None], weights[None], case["extra_images"], case["blocks_per_canvas"])
    chosen = [i for i in range(len(blocks)) if choice.canvas[0, i] >= 0]
    chosen.sort(key=lambda i: (int(choice.turn[0, i]), -float(scores[i]), i))
    assert [blocks[i] for i in chosen] == expected
    ranges = [[r["range_t_start"], r["range_t_end"] - 1, r["center_t"]] for r in bucket["focus_ranges"]]
    assert choice.focus[0].tolist() == ranges


# --- by hand and by promise -----------------------------------------------------------------------


def test_one_busy_frame_does_not_take_everything():
    """Frame 2 holds the six best blocks. Top-k takes them all; damping leaves room for the others."""
    scores = torch.full((4, 2, 3), 0.8)
    scores[2] = 1.0
    assert set(TopKBlockSelector(1)(scores)[:, 0].tolist()) == {2}
    assert set(SaliencyBlockSelector(1)(scores)[:, 0].tolist()) == {1, 2, 3}
    assert set(SaliencyBlockSelector(1, rank_damping=0.0)(scores)[:, 0].tolist()) == {2}


def test_each_canvas_gets_its_stretch_of_time():
    scores = torch.ones(31, 2, 2)
    chosen = SaliencyBlockSelector(3, placement="quantile")(scores).view(3, 4, 3)
    assert (chosen[0, :, 0] <= 11).all()
    assert ((chosen[1, :, 0] >= 10) & (chosen[1, :, 0] <= 21)).all()
    assert (chosen[2, :, 0] >= 20).all()


def test_ties_go_to_the_earlier_frame_then_raster_order():
    scores = torch.zeros(3, 2, 2)
    expected = [[1, 0, 0], [1, 0, 1], [1, 1, 0]]
    assert TopKBlockSelector(1)(scores, 3).tolist() == expected
    assert SaliencyBlockSelector(1)(scores, 3).tolist() == expected


group = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))


def draw_scores(shape, kind, seed):
    generator = torch.Generator().manual_seed(seed)
    if kind == "ties":
        return torch.randint(-1, 3, shape, generator=generator).float()
    if kind == "odd":
        scores = torch.randn(shape, generator=generator)
        scores[scores > 1.5] = float("nan")
        scores[scores < -1.5] = float("inf")
        return scores
    return torch.rand(shape, generator=generator)


@pytest.mark.parametrize("selector", SELECTORS, ids=names)
@settings(max_examples=80)
@given(group, st.sampled_from(["plain", "ties", "odd"]), st.integers(1, 20), st.data())
def test_selection_keeps_its_promises(selector, shape, kind, blocks, data):
    scores = draw_scores(shape, kind, data.draw(st.integers(0, 99)))
    frames, rows, columns = shape
    anchor = data.draw(st.integers(0, frames - 1))
    good = torch.tensor(data.draw(st.lists(st.booleans(), min_size=frames, max_size=frames)))
    chosen = selector(scores, blocks, anchor=anchor, good=good)
    usable = [t for t in range(frames) if t != anchor and good[t]]
    assert len(chosen) == min(3 * blocks, len(usable) * rows * columns)  # full when there is enough
    assert len(chosen.unique(dim=0)) == len(chosen)
    assert set(chosen[:, 0].tolist()) <= set(usable)
    assert (chosen >= 0).all()
    assert (chosen < torch.tensor(shape)).all()
    keys = (chosen[:, 0] * rows + chosen[:, 1]) * columns + chosen[:, 2]
    for canvas in keys.split(blocks):
        assert (canvas.diff() > 0).all()
    if getattr(selector, "placement", "time") == "time":
        assert (keys.diff() > 0).all()


@pytest.mark.parametrize("selector", SELECTORS, ids=names)
@settings(max_examples=30)
@given(group, st.sampled_from(["plain", "ties", "odd"]), st.integers(1, 20), st.data())
def test_batches_equal_singles(selector, shape, kind, blocks, data):
    batch = data.draw(st.integers(1, 4))
    scores = draw_scores((batch, *shape), kind, data.draw(st.integers(0, 99)))
    lengths = torch.tensor([data.draw(st.integers(1, shape[0])) for _ in range(batch)])
    anchors = torch.tensor([data.draw(st.integers(0, int(n) - 1)) for n in lengths])
    chosen, counts = selector.forward_batch(scores, lengths, blocks, anchor=anchors)
    assert chosen.shape == (batch, 3 * blocks, 3)
    for i in range(batch):
        single = selector(scores[i, : lengths[i]], blocks, anchor=int(anchors[i]))
        assert counts[i] == len(single)
        assert torch.equal(chosen[i, : counts[i]], single)
        assert (chosen[i, counts[i] :] == -1).all()


@settings(max_examples=50)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_quantile_ranges_run_forward_in_time(frames, canvases, per_canvas, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(1, frames * 4, generator=generator, dtype=torch.float64)
    weights = scores.view(1, frames, 4).sum(2)
    order = torch.arange(frames).repeat_interleave(4)
    focus = stratify(order, scores, weights, canvases, per_canvas).focus[0]
    assert (focus.diff(dim=0) >= 0).all()
    assert (focus[:, 0] <= focus[:, 2]).all()
    assert (focus[:, 2] <= focus[:, 1]).all()
    if canvases * per_canvas <= frames * 4:  # each canvas has its own range, and neighbors share a frame
        assert torch.equal(focus[1:, 0], focus[:-1, 1])


@settings(max_examples=50)
@given(st.integers(0, 99), st.permutations(range(6)))
def test_top_k_does_not_care_about_the_order_of_time(seed, order):
    scores = torch.rand(7, 2, 3, generator=torch.Generator().manual_seed(seed))
    order = torch.tensor([0, *(i + 1 for i in order)])
    plain = TopKBlockSelector(2)(scores)
    moved = TopKBlockSelector(2)(scores[order])
    moved[:, 0] = order[moved[:, 0]]
    assert sorted(moved.tolist()) == plain.tolist()


@pytest.mark.parametrize("selector", SELECTORS, ids=names)
def test_selectors_say_what_is_wrong(selector):
    with pytest.raises(ValueError, match=r"got \(4, 4\)"):
        selector(torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"0 to 3, got 4"):
        selector(torch.zeros(4, 2, 2), anchor=4)
    with pytest.raises(ValueError, match=r"\(4,\) frames, got \(3,\)"):
        selector(torch.zeros(4, 2, 2), good=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        selector(torch.zeros(4, 2, 2), 0)


@pytest.mark.parametrize("kind", [SaliencyBlockSelector, TopKBlockSelector])
@pytest.mark.parametrize("p_canvases", [0, 1, 2, 5])
def test_a_call_may_give_its_own_number_of_canvases(kind, p_canvases):
    scores = torch.rand(2, 7, 3, 4, generator=torch.Generator().manual_seed(p_canvases))
    given, built = kind(3), kind(p_canvases)
    assert torch.equal(given(scores[0], p_canvases=p_canvases), built(scores[0]))
    assert len(given(scores[0], p_canvases=p_canvases)) == min(p_canvases, 6) * 12
    for mine, theirs in zip(
        given.forward_batch(scores, p_canvases=p_canvases), built.forward_batch(scores), strict=True
    ):
        assert torch.equal(mine, theirs)
    with pytest.raises(OptionError, match="p_canvases must be a whole number, at least 0, got"):
        given(scores[0], p_canvases=1.5)


@pytest.mark.parametrize("selector", [SaliencyBlockSelector(0), TopKBlockSelector(0)], ids=names)
def test_no_canvas_asks_for_no_block(selector):
    assert selector(torch.rand(5, 2, 2)).shape == (0, 3)


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("selector", SELECTORS, ids=names)
def test_selection_on_a_gpu_equals_the_cpu(selector):
    scores = torch.rand(4, 32, 10, 18, generator=torch.Generator().manual_seed(0))
    chosen, counts = selector.forward_batch(scores)
    there, there_counts = selector.forward_batch(scores.cuda())
    assert there.is_cuda
    assert torch.equal(there.cpu(), chosen)
    assert torch.equal(there_counts.cpu(), counts)
    assert torch.equal(selector(scores[0].cuda()).cpu(), selector(scores[0]))
