"""The tower against the release's numbers, stage by stage, and what it must survive."""

import json

import pytest
import torch
from safetensors.torch import save_file

from ov2kit import Segments
from ov2kit.encoders import (
    GroupVisibleAttention,
    OneVisionEncoder,
    PoolingHead,
    WindowedAttention,
    attention_backends,
)
from ov2kit.encoders import checkpoint as checkpoint_file
from ov2kit.encoders.config import arguments_from_config
from ov2kit.encoders.linear import linear
from ov2kit.encoders.ordering import equal_lengths_together
from ov2kit.positional import LearnedPositions, MRoPE, NoPositions, Positions, RoPE3D
from tests.fresh import python
from tests.paths import ROOT, read_golden

PREFIX = "model.visual."
META = {tower: read_golden(f"01_vision_{tower}_meta.json") for tower in ("ln_m2", "rms_m3", "head_m1")}
CASES = [(tower, case) for tower, meta in META.items() for case in meta["cases"]]
PER_LAYER = {"rtol": 1e-5, "atol": 5e-5}
POOLED = {"rtol": 1e-5, "atol": 1e-5}
RUNS_HERE = [
    name for name, reasons in attention_backends(torch.empty(4, 2, 32)).items() if not reasons and name != "flex"
]


def weights(tower):
    return read_golden(f"01_vision_{tower}_weights.safetensors")


def released(tower, **arguments):
    encoder = OneVisionEncoder.from_config(META[tower]["config"], **arguments)
    assert encoder.load_release_state_dict(weights(tower)) == ([], [])
    return encoder


def golden_case(tower, case):
    tensors = read_golden(f"01_vision_{tower}_cases.safetensors")
    mine = {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}
    return tensors["pixel_pool"][: META[tower]["cases"][case]["num_patches"]], mine


def small(**arguments):
    torch.manual_seed(0)
    return OneVisionEncoder(64, 3, 2, 96, **({"patch": 2} | arguments))


def small_input(lengths=(8, 16, 8), dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    n = sum(lengths)
    pixels = torch.randn(n, 12, generator=generator).to(dtype)
    return pixels, torch.randint(0, 20, (n, 3), generator=generator), Segments.from_lengths(lengths)


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("backend", ["auto", *RUNS_HERE])
@pytest.mark.parametrize(("tower", "case"), CASES)
def test_every_stage_matches_release(tower, case, backend, grad):
    pixels, want = golden_case(tower, case)
    encoder = released(tower, backend=backend)
    with torch.set_grad_enabled(grad):
        segments = encoder.visibility(want["grid_thw"])
        features, hidden = encoder.forward_with_hidden(pixels, want["patch_positions"], segments)
        patches = encoder.embeddings(pixels)
        pooled = encoder.pool(features, Segments.from_lengths([len(features)])) if encoder.head else None
        again = encoder(pixels, want["patch_positions"], want["cu_seqlens"])
    if "pre_norm" in want:  # stored once for two cases with the same input
        torch.testing.assert_close(patches, want["patch_embed"], **PER_LAYER)
        torch.testing.assert_close(hidden[0], want["pre_norm"], **PER_LAYER)
    assert len(hidden) == META[tower]["config"]["num_hidden_layers"] + 1
    for i, got in enumerate(hidden[1:]):
        torch.testing.assert_close(got, want[f"layer_{i}"], **PER_LAYER)
    torch.testing.assert_close(features, want["before_merger"], **PER_LAYER)
    assert torch.equal(again, features)
    assert (pooled is None) == ("pooled" not in want)
    if pooled is not None:
        torch.testing.assert_close(pooled, want["pooled"], **POOLED)


def test_other_pairings_do_not_give_the_release_numbers():
    pixels, want = golden_case("ln_m2", "clip")
    for pairing in ("interleaved", "half"):
        got = released("ln_m2", pairing=pairing)(pixels, want["patch_positions"], want["cu_seqlens"])
        assert (got - want["before_merger"]).abs().max() > 1e-2


def test_a_new_encoder_rotates_exactly_and_released_weights_set_the_release(tmp_path):
    """`before_merger` of the release is what tells, not our own attribute."""
    pixels, want = golden_case("ln_m2", "clip")
    call = (pixels, want["patch_positions"], want["cu_seqlens"])
    sizes = arguments_from_config(META["ln_m2"]["config"])
    assert sizes.pop("pairing") == "release"
    fresh = OneVisionEncoder(**sizes)
    assert fresh.position.pairing == "interleaved"
    assert fresh.load_release_state_dict(weights("ln_m2")) == ([], [])
    torch.testing.assert_close(fresh(*call), want["before_merger"], **PER_LAYER)

    exact = released("ln_m2", pairing="interleaved")  # stays what was asked for
    other = exact(*call)
    assert (other - want["before_merger"]).abs().max() > 1e-2
    again = OneVisionEncoder(**sizes)  # its weights say how they were trained, in memory and on disk
    again.load_release_state_dict(exact.release_state_dict())
    torch.testing.assert_close(again(*call), other, rtol=0, atol=0)
    for shard in (10**9, 50_000):
        exact.save_release(tmp_path / str(shard), max_shard_bytes=shard)
        again = OneVisionEncoder(**sizes)
        again.load_release(tmp_path / str(shard))
        torch.testing.assert_close(again(*call), other, rtol=0, atol=0)


def test_an_attention_refuses_a_rotation_of_another_pairing():
    segments, positions = Segments.from_lengths([16]), torch.randint(0, 9, (16, 3))
    rotation = RoPE3D(32, pairing="release")(positions)
    for module in (
        GroupVisibleAttention(64, 2, pairing="half"),
        WindowedAttention(64, 2, (2, 2), pairing="half"),
    ):
        more = {"grid_thw": [(1, 4, 4)]} if isinstance(module, WindowedAttention) else {}
        for grad in (False, True):
            with torch.set_grad_enabled(grad), pytest.raises(ValueError, match=r"'release'.*'half'"):
                module(torch.randn(16, 64), segments, rotation, **more)


def test_a_packed_batch_equals_single_calls():
    encoder = released("ln_m2")
    calls = [golden_case("ln_m2", case) for case in ("image", "clip", "far")]
    grid = torch.cat([want["grid_thw"] for _, want in calls])
    positions = torch.cat([want["patch_positions"] for _, want in calls])
    together = encoder(torch.cat([pixels for pixels, _ in calls]), positions, encoder.visibility(grid))
    torch.testing.assert_close(together, torch.cat([want["before_merger"] for _, want in calls]), **PER_LAYER)


def test_the_order_of_segments_is_the_callers_own():
    """Equal lengths are worked on together; what comes out is in the order that came in."""
    lengths = [3, 5, 3, 5, 2, 3]
    pixels, positions, segments = small_input(lengths)
    encoder = small()
    assert equal_lengths_together(segments)[0].lengths == (2, 3, 3, 3, 5, 5)
    assert equal_lengths_together(Segments.from_lengths([3, 3, 5, 5, 2])) is None
    assert equal_lengths_together(segments.causal()) is None
    features, hidden = encoder.forward_with_hidden(pixels, positions, segments)
    for start, end in segments.runs:
        alone = encoder.forward_with_hidden(
            pixels[start:end], positions[start:end], Segments.from_lengths([end - start])
        )
        torch.testing.assert_close(features[start:end], alone[0], rtol=0, atol=1e-5)
        for got, want in zip(hidden, alone[1], strict=True):
            torch.testing.assert_close(got[start:end], want, rtol=0, atol=1e-5)


def test_large_calls_take_the_same_numbers_the_fast_way():
    """Enough tokens for the in-place rotation, oneDNN and the stepwise perceptron."""
    encoder = OneVisionEncoder(256, 2, 4, 512, patch=2)
    pixels, positions, segments = small_input([600, 500, 600])
    training = encoder(pixels, positions, segments)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels, positions, segments), training, rtol=0, atol=1e-5)


def test_pooling_is_per_item():
    head = PoolingHead(32, 4, 48)
    x, items = torch.randn(20, 32), Segments.from_lengths([5, 1, 14])
    pooled = head(x, items)
    torchs_own = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    torchs_own.load_state_dict(head.attention.state_dict())
    for got, part in zip(pooled, x.split(list(items.lengths)), strict=True):
        attended, _ = torchs_own(head.probe, part[None], part[None])  # one item
        torch.testing.assert_close(got, (attended + head.mlp(head.norm(attended)))[0, 0], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="pooling_head=True"):
        small().pool(x, items)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_casts(dtype):
    pixels, positions, segments = small_input()
    positions[0, 0] = 100_000  # angles must not be formed in half precision
    want = small()(pixels, positions, segments)
    encoder = small().to(dtype)
    got = encoder(pixels, positions, segments)
    assert got.dtype == dtype
    tolerance = {torch.float64: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}[dtype]
    torch.testing.assert_close(got.float(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("tower", META)
def test_identical_keys_and_tensors_are_written_back(tower, tmp_path):
    encoder, stored = released(tower), weights(tower)
    ours = {name: t for name, t in stored.items() if not name.startswith(f"{PREFIX}merger.")}
    back = encoder.release_state_dict()
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)
    encoder.save_release(tmp_path, max_shard_bytes=50_000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == ours.keys()
    again = OneVisionEncoder.from_config(META[tower]["config"])
    assert again.load_release(tmp_path) == ([], [])
    assert all(torch.equal(t, ours[name]) for name, t in again.release_state_dict().items())
    assert encoder.config().items() <= (META[tower]["config"] | {"hidden_act": "gelu", "num_channels": 3}).items()


def test_only_the_shards_that_are_needed_are_opened(tmp_path):
    stored = weights("ln_m2")
    merger = {name: t for name, t in stored.items() if ".merger." in name}
    tower = {name: t for name, t in stored.items() if ".merger." not in name}
    save_file(tower, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"never opened")
    places = dict.fromkeys(tower, "a.safetensors") | dict.fromkeys([*merger, "lm_head.weight"], "b.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert OneVisionEncoder.from_config(META["ln_m2"]["config"]).load_release(tmp_path) == ([], [])
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"not there: a\.safetensors"):
        checkpoint_file.read_tensors(tmp_path, PREFIX)


def test_pickles_and_broken_indices_are_refused(tmp_path):
    torch.save({}, tmp_path / "pytorch_model.bin")
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        with pytest.raises(FileNotFoundError, match="never opened"):
            checkpoint_file.read_tensors(path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../elsewhere.safetensors"}}))
    with pytest.raises(ValueError, match=r"beside the index, got '\.\./elsewhere"):
        checkpoint_file.read_tensors(tmp_path)
    index.write_text("{}")
    with pytest.raises(ValueError, match="weight_map"):
        checkpoint_file.read_tensors(tmp_path)


def test_missing_and_unexpected_keys_are_named():
    stored = weights("ln_m2")
    stored[f"{PREFIX}encoder.layers.7.extra"] = stored.pop(f"{PREFIX}layernorm_pre.weight")
    stored["lm_head.weight"] = torch.zeros(1)
    missing, unexpected = OneVisionEncoder.from_config(META["ln_m2"]["config"]).load_release_state_dict(stored)
    assert missing == [f"{PREFIX}layernorm_pre.weight"]
    assert unexpected == [f"{PREFIX}encoder.layers.7.extra"]
    with pytest.raises(ValueError, match=r"fc1\.weight is \(96, 64\), the encoder has \(80, 64\)"):
        OneVisionEncoder.from_config(META["ln_m2"]["config"], mlp_width=80).load_release_state_dict(weights("ln_m2"))


def test_separate_projections_of_the_stand_alone_release():
    encoder = released("head_m1")
    separate = encoder.release_state_dict("", split_qkv=True)
    assert "encoder.layers.0.self_attn.q_proj.bias" in separate
    assert "encoder.layers.0.self_attn.out_proj.weight" in separate
    assert "head.attention.out_proj.weight" in separate
    assert not any("self_attn.qkv" in name or "self_attn.proj" in name for name in separate)
    again = OneVisionEncoder.from_config(META["head_m1"]["config"])
    assert again.load_release_state_dict(separate, prefix="") == ([], [])
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), encoder.parameters(), strict=True))


def test_meta_device():
    with torch.device("meta"):
        encoder = OneVisionEncoder.from_config(META["ln_m2"]["config"])
    assert all(p.is_meta for p in encoder.parameters())
    assert encoder.load_release_state_dict(weights("ln_m2")) == ([], [])
    pixels, want = golden_case("ln_m2", "far")
    torch.testing.assert_close(
        encoder(pixels, want["patch_positions"], want["cu_seqlens"]), want["before_merger"], **PER_LAYER
    )
    with torch.device("meta"):
        large = OneVisionEncoder()  # the released size, without its 1.2 GB
    assert sum(p.numel() for p in large.parameters()) == 24 * (12 * 1024**2 + 13 * 1024) + 588 * 1024 + 2 * 1024


def gradients(encoder, *call):
    encoder.zero_grad()
    encoder(*call).square().sum().backward()
    return [p.grad.clone() for p in encoder.parameters()]


def test_gradient_checkpointing_changes_no_gradient():
    call = small_input()
    encoder = small().train()
    want = gradients(encoder, *call)
    encoder.set_gradient_checkpointing()
    for got, expected in zip(gradients(encoder, *call), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_drop_path_drops_whole_segments_and_only_in_training():
    call = small_input([4] * 50)
    encoder = small(drop_path=0.9).eval()
    torch.testing.assert_close(encoder(*call), small()(*call))
    last = encoder.train().blocks[-1]
    x = torch.randn(200, 64)
    moved = (last(x, call[2]) - x).abs().sum(-1).view(50, 4) > 0
    assert (moved.all(1) | ~moved.any(1)).all()
    assert 0 < moved.all(1).sum() < 40
    torch.nn.init.zeros_(last.mlp.fc2.weight)  # only the attention branch is left
    branch = last.eval()(x, call[2]) - x
    kept = (last.train()(x, call[2]) - x) / branch
    assert {round(factor, 3) for factor in kept.median(-1).values.tolist()} == {0.0, 10.0}  # 1 / (1 - 0.9)


class Backend:
    """Runs graphs as they are, and counts them."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("train", [False, True])
def test_compiles_as_one_graph_for_any_lengths(train):
    torch._dynamo.reset()
    encoder, backend = small(), Backend()
    compiled = torch.compile(encoder, backend=backend, fullgraph=True, dynamic=True)
    for lengths in ((8, 16, 8), (5, 5, 5, 9), (40, 2), (11, 12, 13, 14, 15)):
        pixels, positions, segments = small_input(lengths)
        call = (pixels, positions, segments.causal())  # groups that see more than themselves
        with torch.set_grad_enabled(train):
            torch.testing.assert_close(compiled(*call), encoder(*call), rtol=0, atol=1e-5)
    assert backend.graphs <= 2  # not one per set of lengths, let alone per segment
    if train:
        want = gradients(encoder, *call)
        for got, expected in zip(gradients(compiled, *call), want, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("position", [None, NoPositions(), LearnedPositions(64), MRoPE(32, (4, 6, 6))])
def test_positions_can_be_exchanged(position):
    pixels, positions, segments = small_input((16,))
    encoder = small(position=position)
    moved = encoder(pixels, positions * 2, segments)
    same = torch.allclose(encoder(pixels, positions, segments), moved, atol=1e-5)
    assert same == isinstance(position, NoPositions)


def test_windows_per_layer():
    grid = [(2, 4, 4)]
    pixels, positions, segments = small_input((32,))
    encoder = small(window=(2, 2), global_layers=[1])
    assert [getattr(b.self_attn, "shift", None) for b in encoder.blocks] == [(0, 0), None, (1, 1)]
    features, hidden = encoder.forward_with_hidden(pixels, positions, segments, grid_thw=grid)
    plain = small()
    plain.load_state_dict(encoder.state_dict())
    assert (features - plain(pixels, positions, segments)).abs().max() > 1e-3
    changed = pixels.clone()
    changed[-1] += 1
    _, after = encoder.forward_with_hidden(changed, positions, segments, grid_thw=grid)
    touched = [((a - b).abs().amax(-1) > 0).sum().item() for a, b in zip(hidden, after, strict=True)]
    assert touched == [1, 4, 32, 32]  # itself, its window of 2 x 2, everyone
    whole = small(window=(9, 9), shift=False, span="segment")
    torch.testing.assert_close(whole(pixels, positions, segments, grid_thw=grid), plain(pixels, positions, segments))
    with pytest.raises(ValueError, match="needs grid_thw"):
        encoder(pixels, positions, segments)


def test_causal_groups_do_not_see_the_future():
    pixels, positions, segments = small_input((8, 8, 8))
    encoder, changed = small(), pixels.clone()
    changed[16:] += 1
    before, after = (encoder(x, positions, segments.causal()) for x in (pixels, changed))
    torch.testing.assert_close(before[:16], after[:16], rtol=0, atol=1e-6)
    assert (encoder(pixels, positions, segments) - before)[8:].abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gelu", [None, "none", "tanh"])
def test_the_inference_linear_computes_what_torch_does(gelu, dtype):
    layer, x = torch.nn.Linear(256, 260).to(dtype), torch.randn(33, 512, dtype=dtype)[:, ::2]
    want = torch.nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
    want = torch.nn.functional.gelu(want, approximate=gelu) if gelu else want
    with torch.no_grad():
        got = linear(x, layer, torch.nn.GELU(gelu) if gelu else None)
        assert got.dtype == dtype
        # bfloat16 is rounded after the product and, on some processors, again after GELU, which is at most 1.13 steep
        rtol, atol = {torch.float32: (0, 1e-5), torch.bfloat16: (2.2 * 2**-8, 1e-3)}[dtype]
        torch.testing.assert_close(got.double(), want, rtol=rtol, atol=atol)
        assert linear(x[:0], layer).shape == (0, 260)
    assert linear(x, layer).requires_grad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneVisionEncoder(100, heads=3), r"heads must divide width, got heads=3, width=100"),
        (lambda: OneVisionEncoder(64, 1, 2, norm="batch"), r"'batch'; known: layer_norm, rms_norm"),
        (lambda: OneVisionEncoder(64, 2, 2, global_layers=[2]), r"blocks 0 to 1, got \[2\]"),
        (lambda: OneVisionEncoder(64, 1, 2, drop_path=1.5, window=(0, 1)), r"window\[0\] must be at least 1, got 0"),
        (
            lambda: OneVisionEncoder.from_config({"hidden_act": "quick_gelu"}),
            r"unknown hidden_act 'quick_gelu'",
        ),
        (lambda: small()(torch.zeros(4, 5), torch.zeros(4, 3), Segments.from_lengths([4])), r"\(N, 12\).*got \(4, 5\)"),
        (lambda: small()(torch.zeros(4, 12), torch.zeros(5, 3), Segments.from_lengths([4])), r"\(4, 3\).*\(5, 3\)"),
    ],
)
def test_errors_say_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_running_the_encoder_on_a_cpu_does_not_import_xformers():
    code = """if True:
        import sys, torch
        from ov2kit import Segments
        from ov2kit.encoders import OneVisionEncoder
        OneVisionEncoder(32, 1, 1, 32, patch=2, backend="sdpa")(
            torch.zeros(2, 12), torch.zeros(2, 3), Segments.from_lengths([2]))
        print("xformers" in sys.modules)
    """
    done = python(code, ROOT)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize(
    "position", [RoPE3D(32), MRoPE(32, (4, 6, 6)), NoPositions(), LearnedPositions(64)], ids=lambda p: type(p).__name__
)
def test_what_may_stand_for_positions(position):
    assert isinstance(position, Positions)
    assert small(position=position).position is position


def test_a_module_without_the_interface_of_positions_is_refused():
    with pytest.raises(ValueError, match=r"interface of RoPE3D \(pairing, embed, a call\), got a Linear"):
        small(position=torch.nn.Linear(3, 3))
