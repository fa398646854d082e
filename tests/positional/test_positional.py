"""Angles, rotations and positions: the release's numbers, and what tells the pairings apart."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ov2kit.positional
from ov2kit.positional import (
    LearnedPositions,
    MRoPE,
    NoPositions,
    RoPE3D,
    apply_rope,
    packed_positions,
    rotate,
    times_in_seconds,
    virtual_frames,
)
from ov2kit.positional.rotation import rotate_, rotate_for_inference
from tests.paths import read_golden

ROPE = read_golden("02_rope.safetensors")
LAYOUT = read_golden("03_block_layout_meta.json")
HEAD_DIMS = (32, 64, 128)
PAIRINGS = ("release", "interleaved", "half")


def golden(head_dim, name):
    """(1, H, L, D) of the file -> (L, H, D); other tensors as they are."""
    tensor = ROPE[f"d{head_dim}.{name}"]
    return tensor[0].transpose(0, 1) if tensor.ndim == 4 else tensor


def rotate_by_hand(x, angles, pairing):
    """Each pair with its own 2 x 2 matrix, in float64; x (N, H, D), angles (N, D / 2)."""
    x, angles = x.double(), angles.double()
    half = x.shape[-1] // 2
    out = torch.empty_like(x)
    for i in range(half):
        first, second = (i, i + half) if pairing == "half" else (2 * i, 2 * i + 1)
        at = (first % half, second % half) if pairing == "release" else (i, i)
        one, two = (angles[:, a, None] for a in at)
        out[..., first] = x[..., first] * one.cos() - x[..., second] * one.sin()
        out[..., second] = x[..., second] * two.cos() + x[..., first] * two.sin()
    return out


@pytest.mark.parametrize("name", ["rotate_", "rotate_for_inference"])
def test_what_only_the_encoders_use_is_no_longer_public(name):
    with pytest.warns(DeprecationWarning, match=rf"ov2kit.positional.{name} is deprecated .* 0.2"):
        old = getattr(ov2kit.positional, name)
    assert old is getattr(ov2kit.positional.rotation, name)
    assert name not in ov2kit.positional.__all__


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_angles_match_release(head_dim):
    rope = RoPE3D(head_dim)
    for axis, name in enumerate("thw"):
        torch.testing.assert_close(rope.frequencies(axis), golden(head_dim, f"inv_freq_{name}"), rtol=0, atol=1e-7)
    torch.testing.assert_close(rope.angles(golden(head_dim, "positions")), golden(head_dim, "freqs"), rtol=0, atol=1e-5)
    raster = packed_positions(golden(head_dim, "grid_thw"), merge=1)
    torch.testing.assert_close(rope.angles(raster), golden(head_dim, "grid_freqs"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_rotation_matches_release_in_float32_and_bfloat16(head_dim):
    cos, sin = RoPE3D(head_dim, pairing="release")(golden(head_dim, "positions"))
    q, k = apply_rope(golden(head_dim, "q"), golden(head_dim, "k"), cos, sin)
    torch.testing.assert_close(q, golden(head_dim, "q_rot"), rtol=0, atol=1e-5)
    torch.testing.assert_close(k, golden(head_dim, "k_rot"), rtol=0, atol=1e-5)
    assert torch.equal(rotate(golden(head_dim, "q_bf16"), cos, sin), golden(head_dim, "q_rot_bf16"))


def test_angles_by_hand():  # t, h, w differ, so swapped axes cannot pass
    got = RoPE3D(32).angles(torch.tensor([[1, 2, 3]]))[0]
    want = [t * 10000 ** (-k / n) for t, n in ((1, 4), (2, 6), (3, 6)) for k in range(n)]
    torch.testing.assert_close(got, torch.tensor(want), rtol=0, atol=1e-6)


def test_any_split():
    assert RoPE3D(64, split=(8, 12, 12)).sizes == RoPE3D(64).sizes == (8, 12, 12)
    flat = RoPE3D(48, split=(0, 1, 1))
    assert flat.sizes == (0, 12, 12)
    one, other = flat(torch.tensor([[7, 2, 3]]))[0], flat(torch.tensor([[90, 2, 3]]))[0]
    assert torch.equal(one, other)
    assert RoPE3D(12, split=(1, 1, 1)).angles(torch.tensor([[1, 0, 0]])).tolist()[0][:2] == pytest.approx([1, 0.01])


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rotation_matches_its_definition(pairing, dtype):
    rope = RoPE3D(32, pairing=pairing)
    positions = torch.randint(-1, 60, (300, 3))
    wide = torch.randn(300, 3, 2, 32, dtype=dtype)
    x = wide[:, 1]  # not contiguous, as a slice of a fused projection is
    want = rotate_by_hand(x, rope.angles(positions), pairing)
    tolerance = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    got = rotate(x, *rope(positions), pairing=pairing)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=0, atol=tolerance)
    out_of_place = rotate_for_inference(x, *rope(positions), pairing=pairing)
    torch.testing.assert_close(out_of_place.double(), want, rtol=0, atol=tolerance)
    assert rotate_(x, *rope(positions), pairing=pairing) is x
    torch.testing.assert_close(wide[:, 1], got, rtol=0, atol=0)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_batches_and_many_steps_agree_with_single_tokens(pairing, monkeypatch):
    x = torch.randn(2, 9, 3, 32)
    cos, sin = RoPE3D(32, pairing=pairing)(torch.randint(0, 40, (2, 9, 3)))
    whole = rotate(x, cos, sin, pairing=pairing)
    monkeypatch.setattr("ov2kit.positional.rotation._STEP_NUMBERS", 2 * 96)  # two tokens a step
    assert torch.equal(rotate(x, cos, sin, pairing=pairing), whole)
    assert torch.equal(rotate(x[1, 4:5], cos[1, 4:5], sin[1, 4:5], pairing=pairing), whole[1, 4:5])
    assert rotate(x[0, :0], cos[0, :0], sin[0, :0], pairing=pairing).shape == (0, 3, 32)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_gradients(pairing):
    x = torch.randn(2, 2, 32, dtype=torch.float64, requires_grad=True)
    cos, sin = (c.double() for c in RoPE3D(32, pairing=pairing)(torch.randint(0, 9, (2, 3))))
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin, pairing=pairing), x)
    assert torch.autograd.gradgradcheck(lambda x: rotate(x, cos, sin, pairing=pairing), x)
    cos.requires_grad_(), sin.requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: rotate(*a, pairing=pairing), (x, cos, sin))


def test_backward_keeps_no_copy_of_the_input():
    x = torch.randn(8, 2, 32, requires_grad=True)
    cos, sin = RoPE3D(32)(torch.zeros(8, 3))
    turned = rotate(x, cos, sin)  # torch 2.10 frees what is saved together with the result
    assert sum(t.numel() for t in turned.grad_fn.saved_tensors) == cos.numel() + sin.numel()


@pytest.mark.parametrize("made", PAIRINGS)
@pytest.mark.parametrize("applied", PAIRINGS)
def test_a_rotation_is_applied_as_it_was_made_or_refused(made, applied):
    """ "release" and "half" have the same cosines and sines: only what they carry tells them apart."""
    rope = RoPE3D(32, pairing=made)
    positions, x = torch.randint(1, 20, (6, 3)), torch.randn(6, 2, 32)
    cos, sin = rope(positions)
    want = rotate_by_hand(x, rope.angles(positions), made)
    order = torch.tensor([5, 0, 3, 1, 2, 4])
    forms = {
        "as made": (x, cos, sin, want),
        "in another order": (x[order], cos[order], sin[order], want[order]),
        "a slice": (x[2:4], cos[2:4], sin[2:4], want[2:4]),
        "moved and cast": (x, cos.to("cpu", torch.float64), sin.double(), want),
        "copied": (x, copy.deepcopy(cos), sin.clone().detach(), want),
        "one marked": (x, cos.as_subclass(torch.Tensor), sin, want),
    }
    for name, (part, c, s, expected) in forms.items():
        torch.testing.assert_close(rotate(part, c, s).double(), expected, rtol=0, atol=1e-5, msg=name)
        calls = (
            lambda part=part, c=c, s=s: apply_rope(part, part, c, s, pairing=applied),
            lambda part=part, c=c, s=s: rotate_(part.clone(), c, s, pairing=applied),
            lambda part=part, c=c, s=s: rotate_for_inference(part.clone(), c, s, pairing=applied),
        )
        for call in calls:
            if made == applied:
                call()
                continue
            with pytest.raises(ValueError, match=f"made with pairing '{made}'.*'{applied}'"):
                call()
    assert type(cos * 2) is type(x[:, 0] * cos) is torch.Tensor  # features must not carry it away
    bare = cos.as_subclass(torch.Tensor), sin.as_subclass(torch.Tensor)
    torch.testing.assert_close(rotate(x, *bare, pairing=made).double(), want, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="do not say which channels"):
        rotate(x, *bare)


@pytest.mark.parametrize("inside", [True, False])
def test_compiled_code_refuses_another_pairing(inside):
    torch._dynamo.reset()
    rope = RoPE3D(32, pairing="release")
    q, positions = torch.randn(6, 2, 32), torch.randint(0, 9, (6, 3))

    def turn(q, given, pairing):
        cos, sin = rope(given) if inside else given
        return rotate(q, cos, sin, pairing=pairing)

    given = positions if inside else rope(positions)
    compiled = torch.compile(turn, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q, given, "release"), rotate(q, *rope(positions)))
    with pytest.raises(Exception, match="made with pairing 'release'"):
        compiled(q, given, "half")


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_only_the_exact_pairings_keep_norms_and_see_differences_alone(pairing):
    rope = RoPE3D(64, pairing=pairing)
    q, k = torch.randn(2, 16, 1, 64)
    here = torch.randint(0, 30, (16, 3))
    there = here + torch.tensor([11, 5, 7])

    def scores(positions):
        a, b = apply_rope(q, k, *rope(positions), pairing=pairing)
        return torch.einsum("nhd,mhd->nm", a, b)

    norm_error = (rotate(q, *rope(here), pairing=pairing).norm(dim=-1) - q.norm(dim=-1)).abs().max()
    shift_error = (scores(here) - scores(there)).abs().max()
    if pairing == "release":
        assert norm_error > 0.1
        assert shift_error > 1
    else:
        assert norm_error < 1e-5
        assert shift_error < 1e-3


def test_the_pairings_differ():
    q = torch.randn(5, 1, 32)
    positions = torch.randint(1, 20, (5, 3))
    out = {p: rotate(q, *RoPE3D(32, pairing=p)(positions), pairing=p) for p in PAIRINGS}
    for a, b in (("release", "interleaved"), ("release", "half"), ("interleaved", "half")):
        assert (out[a] - out[b]).abs().max() > 0.1
    # "half" is "interleaved" on reordered channels: the same family of rotations
    order = torch.arange(32).view(16, 2).T.flatten()
    positions_half = rotate(q[..., order], *RoPE3D(32, pairing="half")(positions), pairing="half")
    torch.testing.assert_close(positions_half, out["interleaved"][..., order])


def test_casts_and_the_meta_device_change_nothing():
    positions = torch.tensor([[100_000, 3, 4]])
    with torch.device("meta"):
        meta = RoPE3D(64)
    for rope in (RoPE3D(64).half(), RoPE3D(64).to(torch.bfloat16), meta):
        assert torch.equal(rope(positions)[0], RoPE3D(64)(positions)[0])
    assert RoPE3D(64).state_dict() == {}
    assert rotate(torch.empty(1, 2, 64, device="meta"), *RoPE3D(64)(positions.to("meta"))).shape == (1, 2, 64)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_compiles_as_one_graph(pairing):
    rope = RoPE3D(32, pairing=pairing)
    q, positions = torch.randn(6, 2, 32), torch.randint(0, 9, (6, 3))

    def both(q, positions):
        return apply_rope(q, q, *rope(positions), pairing=pairing)[0]

    compiled = torch.compile(both, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q, positions), both(q, positions), rtol=0, atol=1e-6)


def test_time_scaling():
    linear, ntk = (RoPE3D(64, time_scaling=s, time_factor=4) for s in ("linear", "ntk"))
    plain = RoPE3D(64)
    far, near = torch.tensor([[400, 5, 6]]), torch.tensor([[100, 5, 6]])
    torch.testing.assert_close(linear.angles(far), plain.angles(near))
    torch.testing.assert_close(ntk.frequencies(0)[0], plain.frequencies(0)[0])
    torch.testing.assert_close(ntk.frequencies(0)[-1], plain.frequencies(0)[-1] / 4)
    for axis in (1, 2):
        assert torch.equal(ntk.frequencies(axis), plain.frequencies(axis))
        assert torch.equal(linear.frequencies(axis), plain.frequencies(axis))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RoPE3D(72), r"multiple of 32; got 72.*64 and 96"),
        (lambda: RoPE3D(16), r"got 16\. Nearest that fit: 32"),
        (lambda: RoPE3D(64, split=(0, 0, 0)), r"\(0, 0, 0\)"),
        (lambda: RoPE3D(64, pairing="other"), r"'other'; known: release, interleaved, half"),
        (lambda: RoPE3D(64, time_scaling="ntk", time_factor=0.5), r"time_factor must be at least 1, got 0.5"),
        (lambda: RoPE3D(64)(torch.zeros(5, 2)), r"got \(5, 2\)"),
        (lambda: rotate(torch.zeros(5, 2, 8), *torch.zeros(2, 4, 8), pairing="half"), r"x \(5, 2, 8\), cos \(4, 8\)"),
        (lambda: MRoPE(64, (8, 8, 8)), r"= 32, got \(8, 8, 8\)"),
        (lambda: MRoPE(64, (4, 14, 14), interleaved=True), r"third of 32, got \(4, 14, 14\)"),
        (lambda: LearnedPositions(8, (4, 0, 4)), r"sizes\[1\] must be at least 1, got 0"),
        (lambda: packed_positions([(1, 2, 2)], frame_indices=[[0], [1]]), r"grid row: 1, got 2"),
        (lambda: times_in_seconds(torch.tensor([[5, 0, 0]]), {4: 0.1}), r"frames \[5\]"),
        (lambda: virtual_frames(0), r"got 0"),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("interleaved", [False, True])
def test_mrope_deals_one_spectrum(interleaved):
    rope = MRoPE(16, (4, 2, 2), theta=100.0, interleaved=interleaved)
    axes = [0, 1, 2, 0, 1, 2, 0, 0] if interleaved else [0, 0, 0, 0, 1, 1, 2, 2]
    position = torch.tensor([[3, 5, 7]])
    want = torch.tensor([[3, 5, 7][axis] * 100 ** (-2 * k / 16) for k, axis in enumerate(axes)])
    cos, sin = rope(position)
    torch.testing.assert_close(cos[0], torch.cat((want, want)).cos(), rtol=0, atol=1e-6)
    torch.testing.assert_close(sin[0], torch.cat((want, want)).sin(), rtol=0, atol=1e-6)


def test_learned_positions_interpolate_and_stop_at_the_ends():
    tables = LearnedPositions(4, (3, 2, 1), spans=(100, 10, 1))
    depth, rows, columns = (table.weight for table in tables.tables)
    x = torch.zeros(4, 4)
    got = tables.embed(x, torch.tensor([[50, 10, 9], [25, 0, 0], [9999, 5, 3], [-1, -1, -1]]))
    torch.testing.assert_close(got[0], depth[1] + rows[1] + columns[0])
    torch.testing.assert_close(got[1], (depth[0] + depth[1]) / 2 + rows[0] + columns[0])
    torch.testing.assert_close(got[2], depth[2] + (rows[0] + rows[1]) / 2 + columns[0])
    torch.testing.assert_close(got[3], depth[0] + rows[0] + columns[0])
    got.sum().backward()
    assert all(table.weight.grad is not None for table in tables.tables)
    assert tables(torch.zeros(4, 3)) is None


@pytest.mark.parametrize("module", [RoPE3D(32), MRoPE(32, (4, 6, 6)), NoPositions(), LearnedPositions(8)])
def test_one_interface(module):
    positions, x = torch.zeros(3, 3, dtype=torch.int32), torch.ones(3, 8)
    rotation = module(positions)
    assert rotation is None or [tuple(r.shape) for r in rotation] == [(3, 32), (3, 32)]
    embedded = module.embed(x, positions)
    assert (embedded is x) != isinstance(module, LearnedPositions)
    assert module.pairing in PAIRINGS


@pytest.mark.parametrize("case", LAYOUT["cases"], ids=lambda c: f"case{c['case']}")
def test_packed_positions_match_release(case):
    want = torch.from_numpy(read_golden("03_block_layout.npz")[f"case{case['case']}_positions"])
    given_frames = case["frame_indices"] or []
    frames = [given_frames[i] if i < len(given_frames) else None for i in range(len(case["grid_thw"]))]
    assert torch.equal(packed_positions(case["grid_thw"], case["merge"], frames), want)


def test_seconds_make_frame_rates_agree():
    slow = torch.tensor([[0, 1, 2], [10, 1, 2], [-1, -1, -1]])
    fast = torch.tensor([[0, 1, 2], [30, 1, 2], [-1, -1, -1]])
    at_10, at_30 = ({f: f / fps for f in range(31)} for fps in (10, 30))
    assert torch.equal(times_in_seconds(slow, at_10), times_in_seconds(fast, at_30))
    assert times_in_seconds(slow, at_10, ticks_per_second=10.0).tolist() == slow.tolist()


@settings(max_examples=30)
@given(t=st.integers(1, 64))
def test_virtual_frames(t):
    slots = virtual_frames(t)
    assert slots[0] == 0
    assert all(abs(slot - math.floor(i * 63 / max(t - 1, 1))) <= 1 for i, slot in enumerate(slots))
    assert t == 1 or (slots[-1] == 63 and all(b > a for a, b in pairwise(slots)))
