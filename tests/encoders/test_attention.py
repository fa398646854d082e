"""Attention within segments: every backend against the definition, windows against plain loops."""

import importlib
import sys
import types
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from ov2kit import Segments
from ov2kit.encoders import (
    GroupVisibleAttention,
    WindowedAttention,
    attend,
    attention_backends,
    patchify,
    spatial_windows,
)
from ov2kit.encoders.backends import BACKENDS, TOLERANCE, Backend, BackendName, choose, sdpa, varlen, xformers
from ov2kit.encoders.backends.backend import trial
from ov2kit.encoders.backends.compiled import attend_opaque
from ov2kit.encoders.backends.flex import _BLOCK, _block_flags
from ov2kit.positional import RoPE3D, from_block_layout, to_block_layout
from tests.dispatched import Dispatched

EAGER = next(b for b in BACKENDS if b.name == "eager")
SDPA = next(b for b in BACKENDS if b.name == "sdpa")
FLEX = next(b for b in BACKENDS if b.name == "flex")
VISIBILITY = {
    "one": Segments.from_lengths([7]),
    "equal": Segments.from_lengths([6] * 4),
    "mixed": Segments.from_lengths([5, 3, 5, 1, 5, 5, 9]),
    "causal": Segments.from_lengths([5, 3, 5, 1, 5, 5, 9]).causal([3, 1, 3]),
    "causal, equal": Segments.from_lengths([4] * 6).causal([3, 3]),
}


def random_qkv(n, dtype=torch.float32, heads=2, head_dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, heads, head_dim, generator=generator).to(dtype).unbind(1)


def by_loops(q, k, v, sees):
    """Softmax over the keys that `sees(query, key)` allows, one query and head at a time."""
    out = torch.zeros_like(q, dtype=torch.float64)
    for i in range(len(q)):
        keys = [j for j in range(len(k)) if sees(i, j)]
        for h in range(q.shape[1]):
            scores = k[keys, h].double() @ q[i, h].double() / q.shape[-1] ** 0.5
            out[i, h] = scores.softmax(0) @ v[keys, h].double()
    return out


@pytest.mark.parametrize("name", VISIBILITY)
def test_eager_is_the_definition(name):
    segments = VISIBILITY[name]
    q, k, v = random_qkv(segments.num_tokens)
    ids = segments.ids().tolist()
    items = {"causal": [0] * 13 + [1] + [2] * 19, "causal, equal": [0] * 12 + [1] * 12}.get(name)

    def sees(i, j):
        return ids[i] == ids[j] if items is None else items[i] == items[j] and ids[j] <= ids[i]

    torch.testing.assert_close(EAGER.run(q, k, v, segments).double(), by_loops(q, k, v, sees), rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b.name not in ("eager", "flex")], ids=lambda b: b.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", VISIBILITY)
def test_backend_matches_eager_forward_and_backward(backend, name, dtype):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    segments = VISIBILITY[name].to(device)
    q, k, v = (x.to(device).requires_grad_() for x in random_qkv(segments.num_tokens, dtype))
    if reasons := backend.why_not(q, segments):
        pytest.skip("; ".join(reasons))
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    got, want = backend.run(q, k, v, segments), EAGER.run(*exact, segments)
    close = {"rtol": 0, "atol": TOLERANCE[dtype]}
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, **close)
    weight = torch.randn(got.shape, generator=torch.Generator().manual_seed(1)).to(device)
    grads = torch.autograd.grad((got * weight.to(dtype)).sum(), (q, k, v))
    for grad, expected in zip(grads, torch.autograd.grad((want * weight).sum(), exact), strict=True):
        torch.testing.assert_close(grad.double(), expected, **close)


def test_flex_matches_eager():
    segments = Segments.from_lengths([70, 200, 31]).causal([1, 2])
    q, k, v = random_qkv(segments.num_tokens)
    if reasons := FLEX.why_not(q, segments):
        pytest.skip("; ".join(reasons))
    want = EAGER.run(*(x.double() for x in (q, k, v)), segments)
    torch.testing.assert_close(attend(q, k, v, segments, "flex").double(), want, rtol=0, atol=TOLERANCE[torch.float32])


@settings(max_examples=40)
@given(lengths=st.lists(st.integers(1, 400), min_size=1, max_size=6), causal=st.booleans())
def test_flex_block_flags_cover_exactly_what_is_seen(lengths, causal):
    segments = Segments.from_lengths(lengths)
    segments = segments.causal() if causal else segments
    some, full = _block_flags(segments.runs, segments.keys or segments.runs)
    pad = -segments.num_tokens % _BLOCK
    blocks = F.pad(segments.dense(), (0, pad, 0, pad)).unflatten(0, (-1, _BLOCK)).unflatten(-1, (-1, _BLOCK))
    assert torch.equal(some | full, blocks.any(dim=3).any(dim=1))
    assert not (full & ~blocks.all(dim=3).all(dim=1)).any()  # a full block hides nothing
    assert not (some & full).any()


@pytest.mark.parametrize("name", VISIBILITY)
def test_sdpa_gradients_in_float64(name):
    segments = VISIBILITY[name]
    qkv = [x.requires_grad_() for x in random_qkv(segments.num_tokens, torch.float64)]
    weight = torch.randn(segments.num_tokens, 2, 16, dtype=torch.float64)
    got, want = (torch.autograd.grad((b.run(*qkv, segments) * weight).sum(), qkv) for b in (SDPA, EAGER))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[torch.float64])
    only_v = [x.detach().requires_grad_(i == 2) for i, x in enumerate(qkv)]  # frozen queries and keys
    torch.testing.assert_close(
        torch.autograd.grad((SDPA.run(*only_v, segments) * weight).sum(), only_v[2])[0], want[2], rtol=0, atol=1e-12
    )


@settings(max_examples=30)
@given(
    items=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=3), causal=st.booleans()
)
def test_sdpa_matches_eager_for_any_lengths(items, causal):
    segments = Segments.from_lengths(n for item in items for n in item)
    segments = segments.causal([len(item) for item in items]) if causal else segments
    q, k, v = random_qkv(segments.num_tokens, torch.float64)
    torch.testing.assert_close(
        SDPA.run(q, k, v, segments), EAGER.run(q, k, v, segments), rtol=0, atol=TOLERANCE[torch.float64]
    )


@pytest.mark.parametrize(
    ("segments", "calls"),
    [
        (Segments.from_lengths([64] * 32), 1),
        (Segments.from_lengths([64] * 16 + [32] * 16), 2),
        (Segments.from_lengths([64, 32] * 16), 32),
        (Segments.from_lengths([64] * 32).causal([4] * 8), 4),
    ],
    ids=["equal", "sorted", "mixed", "causal"],
)
def test_equal_neighbors_are_one_call_and_nothing_is_of_n_squared(segments, calls):
    q, k, v = random_qkv(segments.num_tokens, heads=1, head_dim=8)
    with Dispatched() as seen:
        attend(q, k, v, segments)
    assert seen.attention_calls == calls
    assert seen.elements <= 4 * q.numel() < segments.num_tokens**2 / 8


class Work(TorchDispatchMode):
    """Numbers that all operations together make."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        views = {
            "view",
            "transpose",
            "unsqueeze",
            "split",
            "split_with_sizes",
            "slice",
            "select",
            "unbind",
            "detach",
            "alias",
            "expand",
        }
        if func.overloadpacket.__name__.split(".")[-1] not in views:
            for tensor in out if isinstance(out, (tuple, list)) else [out]:
                self.numbers += tensor.numel() if isinstance(tensor, torch.Tensor) else 0
        return out


def work(step, lengths, causal):
    cut = Segments.from_lengths(lengths)
    cut = cut.causal([4] * (len(lengths) // 4)) if causal else cut
    q, k, v = (x.clone().requires_grad_() for x in random_qkv(cut.num_tokens, heads=1, head_dim=8))
    with Work() as seen:
        step(q, k, v, cut).sum().backward()
    return seen.numbers


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("way", ["sdpa", "xformers", "compiled"])
def test_work_grows_with_the_segments_and_not_with_their_square(way, causal, monkeypatch):
    if way == "xformers":  # its kernels want a GPU; what surrounds them is ours
        kernels = types.SimpleNamespace(
            attention=fake_kernel,
            mask=types.SimpleNamespace(from_seqlens=lambda lengths, device: Segments.from_lengths(lengths)),
        )
        monkeypatch.setattr(xformers, "_kernels", lambda: kernels)
        xformers._bias.cache_clear()
    step = {
        "sdpa": SDPA.run,
        "xformers": xformers.XFORMERS.run,
        "compiled": lambda *call: attend_opaque(*call, "sdpa"),
    }[way]
    few, many = (work(step, [3, 5, 4, 7] * n, causal) for n in (8, 64))
    xformers._bias.cache_clear()
    assert many < 1.05 * 8 * few


def fake_kernel(q, k, v, attn_bias=None):
    if attn_bias is not None:
        return SDPA.run(q[0], k[0], v[0], attn_bias)[None]
    return F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


def test_windows_cost_what_their_canvases_do():
    module = WindowedAttention(16, 2, (3, 3))

    def numbers(canvases):
        grid, x = [(canvases, 8, 8)], torch.randn(canvases * 64, 16, requires_grad=True)
        with Work() as seen:
            module(x, Segments.from_grid(grid, window=1), grid_thw=grid).sum().backward()
        return seen.numbers

    assert numbers(32) < 1.05 * 4 * numbers(8)


def test_mixed_lengths_are_not_copied_on_a_cpu():
    """Nothing is made but the output of each call, its log-sums (one in 8 here), and one tensor of all outputs."""
    cut = Segments.from_lengths([64, 32] * 16)
    q, k, v = random_qkv(cut.num_tokens, heads=1, head_dim=8)
    with Work() as seen:
        attend(q, k, v, cut)
    assert seen.numbers <= 2.2 * q.numel()


def test_equal_lengths_together_on_a_gpu_give_the_same():
    """The order that a GPU gets, here on a CPU: one call per length, equal outputs and gradients."""
    cut = Segments.from_lengths([5, 3, 5, 1, 5, 5, 9, 3])
    qkv = [x.requires_grad_() for x in random_qkv(cut.num_tokens, torch.float64)]
    with Dispatched() as seen:
        got = sdpa._own(*qkv, cut.runs, reorder=True)
    assert seen.attention_calls == 4
    want = EAGER.run(*qkv, cut)
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE[torch.float64])
    weight = torch.randn(got.shape, dtype=torch.float64)
    grads = (torch.autograd.grad((x * weight).sum(), qkv) for x in (got, want))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[torch.float64])


def test_equal_lengths_are_not_copied():
    q, k, v = random_qkv(256)
    with Dispatched() as seen:
        attend(q, k, v, Segments.from_lengths([64] * 4))
    assert seen.elements <= q.numel()


def test_every_name_is_a_backend():
    assert {"auto", *(b.name for b in BACKENDS)} == set(get_args(BackendName))


def test_a_choice_holds_for_one_card_and_not_for_its_neighbor(monkeypatch):
    """Two cards of one machine may differ in what they can run."""
    first = Backend("varlen", lambda q, segments: [] if q.device.index == 0 else ["another card"], SDPA.run)
    module = importlib.import_module("ov2kit.encoders.backends.choose")
    monkeypatch.setattr(module, "BATCHED", (first, SDPA))
    monkeypatch.setattr(module, "_made", {})
    cards = [torch.device("cuda", i) for i in (0, 1, 0)]
    like = [
        types.SimpleNamespace(device=card, dtype=torch.bfloat16, shape=(4, 2, 16), requires_grad=False)
        for card in cards
    ]
    assert [choose(q, Segments.from_lengths([4])).name for q in like] == ["varlen", "sdpa", "varlen"]


def test_auto_reports_what_it_passed_over():
    choice = choose(torch.empty(4, 2, 16), Segments.from_lengths([1, 3]))
    assert choice.name == "sdpa"
    assert list(choice.passed_over) == ["varlen", "xformers"]
    assert "tensors are on cpu" in str(choice)
    report = attention_backends(torch.empty(4, 2, 16))
    assert list(report) == [b.name for b in BACKENDS]
    assert report["sdpa"] == report["eager"] == []
    module = GroupVisibleAttention(32, 2)
    assert module.choice(Segments.from_lengths([4])).name == "sdpa"


@pytest.mark.parametrize(
    ("segments", "name"),
    [
        (Segments.from_lengths([8]), "sdpa"),
        (Segments.from_lengths([8, 8]), "sdpa"),
        (Segments.from_lengths([8, 16]), "varlen"),
        (Segments.from_lengths([8, 16]).causal(), "sdpa"),
        (Segments.from_lengths([8, 8]).causal(), "sdpa"),
    ],
)
def test_auto_takes_what_was_fastest_on_a_gpu(segments, name, monkeypatch):
    choosing = importlib.import_module("ov2kit.encoders.backends.choose")  # the name is also its function's
    for module in (xformers, varlen):  # as if on a GPU where every kernel runs
        monkeypatch.setattr(module, "kernel_reasons", lambda q, head_dim_limit: [])
        monkeypatch.setattr(module, "trial", lambda *_: None)
    monkeypatch.setattr(xformers, "_kernels", lambda: xformers._Kernels(lambda *_: None, None))
    monkeypatch.setattr(choosing, "_made", {})
    q = torch.empty(segments.num_tokens, 2, 16)
    assert choosing.choose(q, segments).name == name
    assert choosing.choose(q, Segments.from_lengths([segments.num_tokens])).name == "sdpa"  # no choice is remembered


def test_a_named_backend_is_never_swapped_and_lists_every_reason():
    q, k, v = random_qkv(7)
    with pytest.raises(RuntimeError) as error:
        attend(q, k, v, Segments.from_lengths([7]), "xformers")
    message = str(error.value)
    assert message.startswith("attention backend 'xformers' cannot run q (7, 2, 16):")
    assert "\n  - tensors are on cpu, the kernel needs cuda" in message
    assert "\n  - dtype is torch.float32, the kernel takes float16 or bfloat16" in message
    causal = Segments.from_lengths([3, 4]).causal()
    with pytest.raises(RuntimeError, match="causal"):
        attend(q, k, v, causal, "varlen")
    with pytest.raises(ValueError, match=r"'fast'; known: auto, varlen, xformers, sdpa, flex, eager"):
        attend(q, k, v, causal, "fast")
    with pytest.raises(ValueError, match="'fast'"):
        GroupVisibleAttention(32, 2, backend="fast")


@pytest.fixture
def fresh_probe():
    xformers._kernels.cache_clear()
    yield
    xformers._kernels.cache_clear()


@pytest.mark.usefixtures("fresh_probe")
def test_xformers_is_probed_for_its_functions_and_followed_to_its_new_home(monkeypatch):
    monkeypatch.setattr(xformers, "misfits", dict)  # whatever is really installed
    monkeypatch.setitem(sys.modules, "mslk", None)
    old = types.ModuleType("xformers.ops.fmha")  # installed, importable, but without its attention
    for name, module in {"xformers": old, "xformers.ops": old, "xformers.ops.fmha": old}.items():
        monkeypatch.setitem(sys.modules, name, module)
    xformers._kernels.cache_clear()  # on a GPU an earlier test may have found the real ones
    reasons = attention_backends(torch.empty(4, 2, 16))["xformers"]
    assert any("AttributeError" in r and "ov2kit[gpu]" in r for r in reasons)

    made = []

    class BlockDiagonalMask:
        @classmethod
        def from_seqlens(cls, lengths, device):
            made.append((lengths, device))
            return Segments.from_lengths(lengths)

    def memory_efficient_attention(q, k, v, attn_bias=None):
        return EAGER.run(q[0], k[0], v[0], attn_bias)[None] if attn_bias else SDPA.run(q[0], k[0], v[0], None)

    new, bias = types.ModuleType("mslk.attention.fmha"), types.ModuleType("mslk.attention.fmha.attn_bias")
    new.memory_efficient_attention, bias.BlockDiagonalMask = memory_efficient_attention, BlockDiagonalMask
    for name, module in {"mslk": new, "mslk.attention": new, new.__name__: new, bias.__name__: bias}.items():
        monkeypatch.setitem(sys.modules, name, module)
    xformers._kernels.cache_clear()
    assert not any("import" in r for r in attention_backends(torch.empty(4, 2, 16))["xformers"])
    segments = VISIBILITY["mixed"]
    q, k, v = random_qkv(segments.num_tokens)
    got = xformers.XFORMERS.run(q, k, v, segments)
    torch.testing.assert_close(got, EAGER.run(q, k, v, segments))
    assert made == [(list(segments.lengths), torch.device("cpu"))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pairing", ["release", "interleaved", "half"])
def test_inference_and_training_paths_agree(pairing, dtype):
    module = GroupVisibleAttention(64, 2, pairing=pairing).to(dtype)
    x, segments = torch.randn(30, 64, dtype=dtype), Segments.from_lengths([12, 12, 6])
    rotation = RoPE3D(32, pairing=pairing)(torch.randint(0, 9, (30, 3)))
    training = module(x, segments, rotation)
    with torch.no_grad():
        inference = module(x, segments, rotation)
    torch.testing.assert_close(inference, training.detach(), rtol=0, atol=TOLERANCE[dtype])
    assert (module(x, segments) - training).abs().max() > 0.01
    assert torch.equal(module(x, torch.tensor([0, 12, 24, 30]), rotation), training)
    assert module(x[:0], Segments.from_lengths([]), tuple(r[:0] for r in rotation)).shape == (0, 64)


def test_a_packed_batch_equals_single_calls():
    module = GroupVisibleAttention(32, 2)
    x, lengths = torch.randn(20, 32), [4, 9, 4, 3]
    together = module(x, Segments.from_lengths(lengths))
    alone = [module(part, Segments.from_lengths([len(part)])) for part in x.split(lengths)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)


def window_label(grid, window, shift, merge):
    """(canvas, window row, window column) of every packed token, by plain arithmetic."""
    labels, first = [], 0
    for t, h, w in grid:
        raster = [
            (first + c, (r - shift[0] + window[0]) // window[0], (x - shift[1] + window[1]) // window[1])
            for c in range(t)
            for r in range(h)
            for x in range(w)
        ]
        index = to_block_layout(torch.arange(t * h * w).view(t, h, w), merge)
        labels += [raster[i] for i in index.tolist()]
        first += t
    return labels


@pytest.mark.parametrize("span", ["canvas", "segment"])
@pytest.mark.parametrize("shift", [(0, 0), (1, 2)])
@pytest.mark.parametrize("visibility", ["canvas", "windows of 2", "causal"])
def test_windows_compose_with_every_visibility(visibility, shift, span):
    grid, merge, window = [(3, 4, 6), (2, 6, 2)], 2, (3, 4)
    segments = {
        "canvas": Segments.from_grid(grid, window=1),
        "windows of 2": Segments.from_grid(grid, window=2),
        "causal": Segments.from_grid(grid, window=2).causal([2, 1]),
    }[visibility]
    windows = spatial_windows(segments, grid, window, shift=shift, merge=merge, span=span)
    labels = window_label(grid, window, shift, merge)
    base = segments.dense()
    n = segments.num_tokens
    want = torch.tensor(
        [
            [bool(base[i, j]) and labels[i][span == "segment" :] == labels[j][span == "segment" :] for j in range(n)]
            for i in range(n)
        ]
    )
    got = torch.zeros(n, n, dtype=torch.bool)
    got[windows.order[:, None], windows.order[None, :]] = windows.segments.dense()
    assert torch.equal(got, want)
    assert torch.equal(windows.order[windows.inverse], torch.arange(n))


def test_windowed_attention_is_attention_of_each_window_alone():
    grid, merge = [(2, 4, 4)], 2
    local = WindowedAttention(32, 2, (2, 4), merge=merge)
    full = GroupVisibleAttention(32, 2, pairing="interleaved")
    full.load_state_dict(local.state_dict())  # the same names
    x, rotation = torch.randn(32, 32), RoPE3D(16, split=(2, 3, 3))(torch.randint(0, 9, (32, 3)))
    segments = Segments.from_grid(grid)
    got = from_block_layout(local(x, segments, rotation, grid_thw=grid), grid[0], merge)
    raster = [from_block_layout(part, grid[0], merge) for part in (x, *rotation)]
    for canvas in range(2):
        for top in (0, 2):
            part, *turn = (r[canvas, top : top + 2].flatten(0, 1) for r in raster)
            alone = full(part, Segments.from_lengths([8]), tuple(turn)).view(2, 4, 32)
            torch.testing.assert_close(got[canvas, top : top + 2], alone, rtol=0, atol=1e-6)


def test_windows_refuse_what_they_cannot_mean():
    segments = Segments.from_lengths([16])
    with pytest.raises(ValueError, match=r"another number of patches than segments: 16"):
        spatial_windows(segments, [(1, 2, 2)], (2, 2))
    with pytest.raises(ValueError, match=r"window\[0\] must be at least 1, got 0"):
        spatial_windows(segments, [(1, 4, 4)], (0, 2))
    ahead = Segments((8, 8), torch.tensor([0, 8, 16]), ((8, 16), (0, 8)))
    with pytest.raises(ValueError, match="block-diagonal and causal"):
        spatial_windows(ahead, [(1, 4, 4)], (2, 2))
    with pytest.raises(ValueError, match="needs grid_thw"):
        WindowedAttention(32, 2)(torch.zeros(16, 32), segments)


def test_a_kernel_that_is_there_but_does_not_run_is_a_reason(monkeypatch):
    def broken(q, k, v, segments):
        raise NotImplementedError("No operator found for `memory_efficient_attention_forward`\nlong story")

    cpu = torch.device("cpu")
    assert trial(SDPA.run, cpu, torch.float32, 16) is None
    found = trial(broken, cpu, torch.float32, 16)
    assert found == "NotImplementedError: No operator found for `memory_efficient_attention_forward`"
    monkeypatch.setattr(varlen, "kernel_reasons", lambda q, head_dim_limit: [])  # as if on a GPU
    monkeypatch.setattr(varlen, "trial", lambda *_: found)
    reasons = varlen.VARLEN.why_not(torch.zeros(4, 1, 16), Segments.from_lengths([4]))
    assert reasons == [f"the kernel does not run here ({found})"]


def test_shapes_are_checked():
    q = torch.zeros(5, 2, 8)
    with pytest.raises(ValueError, match=r"segments cover 4 tokens, q has 5"):
        attend(q, q, q, Segments.from_lengths([4]))
    with pytest.raises(ValueError, match=r"\(5, 2, 8\), \(4, 2, 8\)"):
        attend(q, q[:4], q, Segments.from_lengths([5]))
    with pytest.raises(ValueError, match=r"heads must divide width, got heads=4, width=30"):
        GroupVisibleAttention(30, 4)
    with pytest.raises(ValueError, match=r"= 28, got \(1, 3, 14, 28\)"):
        patchify(torch.zeros(1, 3, 14, 28), 14, merge=2)
