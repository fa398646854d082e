"""What holds for every connector: one interface, items kept apart, no work per item or per N * N."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ov2kit import Segments
from ov2kit.connectors import (
    AttentionPool,
    AveragePool,
    Connector,
    ConvAbstractor,
    EVSPruner,
    Identity,
    MLPConnector,
    PatchMerger,
    PerceiverResampler,
    QueryTransformer,
    TokenMerger,
    UniquenessPruner,
)
from tests.dispatched import Dispatched

WIDTH, OUT = 32, 24
BUILD = {
    "patch_merger": lambda: PatchMerger(WIDTH, OUT),
    "mlp": lambda: MLPConnector(WIDTH, OUT),
    "mlp_deep": lambda: MLPConnector(WIDTH, OUT, merge=1, depth=3, hidden=40),
    "average_pool": lambda: AveragePool(WIDTH, OUT, tokens=7),
    "attention_pool": lambda: AttentionPool(WIDTH, OUT, tokens=7, heads=4),
    "perceiver": lambda: PerceiverResampler(WIDTH, OUT, tokens=5, depth=2, heads=4),
    "query_transformer": lambda: QueryTransformer(WIDTH, OUT, tokens=5, hidden=16, depth=3, heads=2),
    "conv_abstractor": lambda: ConvAbstractor(WIDTH, OUT, depth=2),
    "conv_abstractor_grid": lambda: ConvAbstractor(WIDTH, OUT, out_grid=(2, 3), hidden=16, depth=1),
    "identity": lambda: Identity(WIDTH),
    "token_merger": lambda: TokenMerger(WIDTH, tokens=7),
    "token_merger_mixed": lambda: TokenMerger(WIDTH, tokens=3, split="mixed", rate=0.5),
    "evs_pruner": lambda: EVSPruner(WIDTH, tokens=7),
    "uniqueness_pruner": lambda: UniquenessPruner(WIDTH, tokens=7),
}
PRUNERS = ("evs_pruner", "uniqueness_pruner")
FREE = ("identity", "token_merger", "token_merger_mixed", *PRUNERS)  # no parameters
GRIDDED = ("conv_abstractor", "conv_abstractor_grid", *PRUNERS)  # grids are required
# equal lengths apart from each other, equal lengths of other shape, one short item
GRIDS = [(1, 4, 6), (1, 2, 8), (1, 4, 6), (1, 6, 4), (1, 2, 2), (1, 4, 6), (1, 2, 8), (1, 2, 4)]
LENGTHS = [t * h * w for t, h, w in GRIDS]
N = sum(LENGTHS)


def make(name, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BUILD[name]()


def rows(n, seed=1, width=WIDTH):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=BUILD)
def name(request):
    return request.param


@pytest.fixture
def connector(name):
    return make(name)


def counts_out(connector, lengths=LENGTHS):
    """Tokens of each item, known ahead."""
    return [connector.tokens_out(n) for n in lengths]


def test_interface(connector):
    assert isinstance(connector, Connector)
    assert connector.width == WIDTH
    assert connector.out_width == (OUT if list(connector.parameters()) else WIDTH)


def test_tokens_are_as_many_as_announced(connector):
    tokens = connector(rows(N), grids=GRIDS)
    assert type(tokens) is torch.Tensor
    assert tokens.shape == (sum(counts_out(connector)), connector.out_width)
    assert tokens.isfinite().all()


def test_tokens_out_by_hand():
    expected = {
        "patch_merger": (1, 6, 16), "mlp": (1, 6, 16), "mlp_deep": (4, 24, 64), "average_pool": (4, 7, 7),
        "attention_pool": (4, 7, 7), "perceiver": (5, 5, 5), "query_transformer": (5, 5, 5),
        "conv_abstractor": (1, 6, 16), "conv_abstractor_grid": (6, 6, 6), "identity": (4, 24, 64),
        "token_merger": (4, 7, 7), "token_merger_mixed": (3, 3, 3), "evs_pruner": (4, 7, 7),
        "uniqueness_pruner": (4, 7, 7),
    }  # fmt: skip
    assert {name: tuple(make(name).tokens_out(n) for n in (4, 24, 64)) for name in BUILD} == expected


def test_what_a_model_asks_by_hand():
    """(rows per token, needs grids): blocks of 2 x 2, single rows, or whole items."""
    expected = {
        "patch_merger": (4, False), "mlp": (4, False), "mlp_deep": (1, False), "average_pool": (None, False),
        "attention_pool": (None, False), "perceiver": (None, False), "query_transformer": (None, False),
        "conv_abstractor": (4, True), "conv_abstractor_grid": (None, True), "identity": (1, False),
        "token_merger": (None, False), "token_merger_mixed": (None, False), "evs_pruner": (None, True),
        "uniqueness_pruner": (None, True),
    }  # fmt: skip
    assert {name: (make(name).rows_per_token, make(name).needs_grids) for name in BUILD} == expected


def test_rows_per_token_holds_for_items_of_any_length(connector):
    """A number means as many tokens for every length; None that some length breaks every ratio."""
    lengths = [64 * k for k in range(1, 9)]
    ratios = {n / connector.tokens_out(n) for n in lengths}
    per_token = connector.rows_per_token
    assert ratios == {per_token} if per_token is not None else len(ratios) > 1


def test_rows_without_grids_are_refused_by_those_that_need_them_alone(connector):
    if connector.needs_grids:
        with pytest.raises(ValueError, match=r"pass grids=\[\(t, h, w\), ...\] in patches"):
            connector(rows(N), LENGTHS)
    else:
        assert len(connector(rows(N), LENGTHS)) == sum(counts_out(connector))


def test_batch_equals_singles(connector):
    tokens = connector(rows(N), grids=GRIDS)
    singles = [connector(x, grids=[grid]) for x, grid in zip(rows(N).split(LENGTHS), GRIDS, strict=True)]
    assert [len(single) for single in singles] == counts_out(connector)
    torch.testing.assert_close(tokens, torch.cat(singles), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", [name for name in BUILD if name not in GRIDDED])
@settings(max_examples=15)
@given(blocks=st.lists(st.integers(1, 6), min_size=1, max_size=9))
def test_batch_equals_singles_for_any_counts(name, blocks):
    connector, counts = make(name), [4 * b for b in blocks]
    x = rows(sum(counts))
    tokens = connector(x, counts)
    singles = [connector(part) for part in x.split(counts)]
    assert [len(single) for single in singles] == counts_out(connector, counts)
    torch.testing.assert_close(tokens, torch.cat(singles), rtol=1e-5, atol=2e-6)


def test_nothing_crosses_items_and_every_row_counts_that_is_not_pruned(name, connector):
    x = rows(N).requires_grad_()
    tokens = connector(x, grids=GRIDS)
    weight = rows(len(tokens), seed=3, width=tokens.shape[1])
    for item in (0, 3, 4):
        loss = (tokens * weight).split(counts_out(connector))[item].sum()
        (grad,) = torch.autograd.grad(loss, x, retain_graph=True)
        touched = [part.abs().sum(1) for part in grad.split(LENGTHS)]
        assert (touched[item] > 0).sum() == (connector.tokens_out(LENGTHS[item]) if name in PRUNERS else LENGTHS[item])
        assert all((part == 0).all() for i, part in enumerate(touched) if i != item)


def test_gradients_reach_every_parameter(name, connector):
    tokens = connector(rows(N), grids=GRIDS)
    if name not in FREE:
        (tokens * rows(len(tokens), seed=3, width=tokens.shape[1])).sum().backward()
    dead = [key for key, p in connector.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-7]
    assert dead == []
    assert (not list(connector.parameters())) == (name in FREE)


def test_ways_to_name_the_items_agree(name, connector):
    x = rows(N)
    tokens = connector(x, grids=GRIDS)
    again = [connector(x, grids=torch.tensor(GRIDS)), connector(x, LENGTHS, grids=GRIDS)]
    if name not in GRIDDED:
        again += [connector(x, given) for given in (LENGTHS, torch.tensor(LENGTHS), Segments.from_lengths(LENGTHS))]
    for other in again:
        assert torch.equal(other, tokens)


@pytest.mark.parametrize("name", [name for name in BUILD if name not in GRIDDED])
def test_without_counts_all_rows_are_one_item(name):
    connector = make(name)
    assert torch.equal(connector(rows(24)), connector(rows(24), [24]))


def test_no_rows_give_no_tokens(name, connector):
    assert connector(rows(0), grids=[]).shape == (0, connector.out_width)
    if name not in GRIDDED:
        assert connector(rows(0)).shape == (0, connector.out_width)


def test_bfloat16_stays_near(name, connector):
    """Values are of order 1; a dozen roundings to 8 bits stay below 0.1."""
    x = rows(N).bfloat16()
    expected = connector(x.float(), grids=GRIDS)
    tokens = connector.bfloat16()(x, grids=GRIDS)
    assert tokens.dtype == torch.bfloat16
    if name.startswith("token_merger") or name in PRUNERS:  # computed in float32 either way, rounded once
        assert torch.equal(tokens, expected.bfloat16())
    torch.testing.assert_close(tokens.float(), expected, rtol=0, atol=0.1)


def test_meta_device_build_and_state_dict(name, connector):
    with torch.device("meta"):
        empty = BUILD[name]()
    assert not list(empty.buffers())
    empty.load_state_dict(connector.state_dict(), assign=True)
    assert torch.equal(empty(rows(N), grids=GRIDS), connector(rows(N), grids=GRIDS))


def test_reset_parameters_fills_a_meta_build(name):
    with torch.device("meta"):
        module = BUILD[name]()
    module.to_empty(device="cpu")
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(torch.nan)
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()
    assert all(p.isfinite().all() for p in module.parameters())


def test_compiles_into_one_graph(connector):
    """Also when the lengths change, which makes the compiler trace them as symbols."""
    torch.compiler.reset()
    compiled = torch.compile(connector, fullgraph=True, backend="eager")
    for grids in (GRIDS[:3], [(1, 4, 4), (1, 2, 6), (1, 4, 4)]):
        x = rows(sum(t * h * w for t, h, w in grids))
        torch.testing.assert_close(compiled(x, grids=grids), connector(x, grids=grids), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("name", "calls"), [("perceiver", 2), ("query_transformer", 2)])
def test_attention_runs_once_per_length_without_a_mask(monkeypatch, name, calls):
    seen = []
    real = F.scaled_dot_product_attention

    def record(q, k, v, *args, **kwargs):
        assert not args
        assert not kwargs
        seen.append((q.shape[2], k.shape[2]))
        return real(q, k, v)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    connector = make(name)
    connector(rows(24 * 40), [24] * 40)
    own = connector.tokens if name == "perceiver" else 0
    assert [k for q, k in seen if k != q] == [24 + own] * calls
    seen.clear()
    connector(rows(32 * 30), [24, 8] * 30)
    assert [k for q, k in seen if k != q] == [24 + own, 8 + own] * calls


def test_memory_grows_with_rows_and_work_with_lengths(connector):
    """64 items of 64 rows: nothing of N * N elements, and no more operations than for 4 items."""
    few, many = Dispatched(), Dispatched()
    with torch.no_grad():
        with few:
            connector(rows(4 * 64), grids=[(1, 8, 8)] * 4)
        with many:
            connector(rows(64 * 64), grids=[(1, 8, 8)] * 64)
    assert many.elements <= 16 * few.elements
    assert many.elements < (64 * 64) ** 2 / 16
    assert many.operations == few.operations


def test_features_must_be_packed(connector):
    with pytest.raises(ValueError, match=r"\(N, 32\), got \(2, 16, 32\); flatten the batch and pass counts"):
        connector(rows(32).view(2, 16, 32), grids=[(1, 4, 4)] * 2)
    with pytest.raises(ValueError, match=r"\(N, 32\), got \(16, 33\)"):
        connector(rows(16, width=33), grids=[(1, 4, 4)])


def test_items_must_add_up(connector):
    with pytest.raises(ValueError, match=r"24 rows of features, got 16 \+ 4 = 20"):
        connector(rows(24), grids=[(1, 4, 4), (1, 2, 2)])
    with pytest.raises(ValueError, match=r"counts \(16, 8\) and t\*h\*w \(8, 16\)"):
        connector(rows(24), [16, 8], grids=[(1, 2, 4), (1, 4, 4)])
    with pytest.raises(ValueError, match=r"at least 1 row, got \(24, 0\)"):
        connector(rows(24), grids=[(1, 4, 6), (1, 0, 4)])
    with pytest.raises(ValueError, match=r"\(t, h, w\) in patches, got \(4, 6\)"):
        connector(rows(24), grids=[(4, 6)])


def test_counts_stay_on_the_host():
    for items in ({"counts": torch.ones(2, device="meta")}, {"grids": torch.ones(2, 3, device="meta")}):
        with pytest.raises(ValueError, match=r"must be on the host, got a tensor on meta"):
            Identity(WIDTH)(rows(2), **items)


@pytest.mark.parametrize("name", ["patch_merger", "mlp"])
def test_whole_blocks_only(name):
    connector = make(name)
    with pytest.raises(ValueError, match=r"merge\*\*2 = 4 rows in block layout, got 10"):
        connector.tokens_out(10)
    with pytest.raises(ValueError, match="got 10 rows"):
        connector(rows(10))
    with pytest.raises(ValueError, match="got 6 rows"):  # the sum would fit
        connector(rows(12), [6, 6])


def test_conv_abstractor_says_what_it_needs():
    with pytest.raises(ValueError, match=r"grids=\[\(t, h, w\), \.\.\.\]"):
        make("conv_abstractor")(rows(24), [24])
    with pytest.raises(ValueError, match=r"multiples of merge=2, got \(1, 3, 8\)"):
        make("conv_abstractor")(rows(24), grids=[(1, 3, 8)])
    with pytest.raises(ValueError, match=r"t must be 1, got \(2, 2, 4\)"):
        make("conv_abstractor_grid")(rows(16), grids=[(2, 2, 4)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AveragePool(8, 8, tokens=0), "tokens must be at least 1, got 0"),
        (lambda: AttentionPool(8, 8, heads=3), "heads must divide width, got heads=3, width=8"),
        (lambda: PerceiverResampler(8, 8, heads=16), "heads must divide width, got heads=16, width=8"),
        (lambda: QueryTransformer(8, 8, hidden=10, heads=4), "heads must divide hidden, got heads=4, hidden=10"),
        (lambda: QueryTransformer(8, 8, cross_every=0), "cross_every must be at least 1, got 0"),
        (lambda: MLPConnector(8, 8, depth=0), "depth must be at least 1, got 0"),
        (lambda: Identity(8, 16), r"out_width must be 8, got 16; put an MLPConnector\(8, 16, merge=1\)"),
        (lambda: TokenMerger(8, 16), "TokenMerger has no parameters .* must be 8, got 16"),
        (lambda: EVSPruner(8, 16), "EVSPruner has no parameters .* must be 8, got 16"),
        (lambda: UniquenessPruner(8, tokens=0), "tokens must be at least 1, got 0"),
        (lambda: TokenMerger(8, rate=0.6), "rate must be at most 0.5 and above 0, got 0.6"),
        (lambda: TokenMerger(8, split="odd"), "unknown split 'odd'; known: alternate, mixed"),
    ],
)
def test_bad_sizes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
