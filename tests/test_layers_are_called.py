"""Adapters, hooks, quantized and sharded layers take effect, in every layer of every public module.

Modules are found, not listed: a new one in `encoders`, `connectors` or `positional` needs an entry in
`MADE` and is then held to the same.
"""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrize

import ov2kit.connectors
import ov2kit.encoders
import ov2kit.positional
from ov2kit import Segments
from ov2kit.encoders import (
    MLP,
    Block,
    GroupVisibleAttention,
    OneVisionEncoder,
    OneVisionViT,
    PatchEmbedding,
    PoolingHead,
    WindowedAttention,
)
from ov2kit.encoders.linear import is_plain
from ov2kit.positional import LearnedPositions, MRoPE, NoPositions, RoPE3D

WIDTH = 256  # large enough for the inference path of linear layers: 256 x 256 weights
GRIDS = [(1, 4, 4), (2, 4, 4), (1, 4, 4)]
COUNTS = [16, 32, 16]
N = sum(COUNTS)
SEGMENTS = Segments.from_lengths(COUNTS)
POSITIONS = torch.randint(0, 9, (N, 3), generator=torch.Generator().manual_seed(1))


def tokens(width=WIDTH):
    return torch.randn(N, width, generator=torch.Generator().manual_seed(2))


def encoder(**options):
    return OneVisionEncoder(WIDTH, 2, 4, 512, **({"patch": 2} | options))


def rotation():
    return RoPE3D(64)(POSITIONS)


# name: how to make it, and how to use all of it
MADE = {
    "MLP": (lambda: MLP(WIDTH, 300), lambda m: m(tokens())),
    "Block": (
        lambda: Block(
            nn.LayerNorm(WIDTH), GroupVisibleAttention(WIDTH, 4), nn.LayerNorm(WIDTH), MLP(WIDTH, 300), drop_path=0.0
        ),
        lambda m: m(tokens(), SEGMENTS, rotation()),
    ),
    "GroupVisibleAttention": (
        lambda: GroupVisibleAttention(WIDTH, 4),
        lambda m: m(tokens(), SEGMENTS, rotation()),
    ),
    "WindowedAttention": (
        lambda: WindowedAttention(WIDTH, 4, (2, 3)),
        lambda m: m(tokens(), SEGMENTS, rotation(), grid_thw=GRIDS),
    ),
    "PatchEmbedding": (lambda: PatchEmbedding(WIDTH, 10), lambda m: m(tokens(300))),
    "PoolingHead": (lambda: PoolingHead(WIDTH, 4, 300), lambda m: m(tokens(), SEGMENTS)),
    "OneVisionEncoder": (
        lambda: encoder(post_norm=True, pooling_head=True, position=LearnedPositions(WIDTH, (9, 9, 9))),
        lambda m: m.pool(m(tokens(12), POSITIONS, SEGMENTS), SEGMENTS),
    ),
    "OneVisionViT": (
        lambda: OneVisionViT(
            10, "map", patch_size=2, embed_dim=WIDTH, depth=2, num_heads=4, mlp_ratio=1.5, window=(2, 2)
        ),
        lambda m: m(tokens(48).view(1, 3, 1, -1)[..., :256].reshape(1, 3, 16, 16)),
    ),
    "AttentionPool": (
        lambda: ov2kit.connectors.AttentionPool(WIDTH, 256, 5, heads=4),
        lambda m: m(tokens(), COUNTS),
    ),
    "AveragePool": (lambda: ov2kit.connectors.AveragePool(WIDTH, 256, 5), lambda m: m(tokens(), COUNTS)),
    "ConvAbstractor": (
        lambda: ov2kit.connectors.ConvAbstractor(WIDTH, 256, depth=1),
        lambda m: m(tokens(), grids=GRIDS),
    ),
    "EVSPruner": (lambda: ov2kit.connectors.EVSPruner(WIDTH, tokens=5), lambda m: m(tokens(), grids=GRIDS)),
    "Identity": (lambda: ov2kit.connectors.Identity(WIDTH), lambda m: m(tokens())),
    "MLPConnector": (lambda: ov2kit.connectors.MLPConnector(WIDTH, 256), lambda m: m(tokens(), COUNTS)),
    "PatchMerger": (lambda: ov2kit.connectors.PatchMerger(WIDTH, 256), lambda m: m(tokens(), COUNTS)),
    "PerceiverResampler": (
        lambda: ov2kit.connectors.PerceiverResampler(WIDTH, 256, 3, depth=1, heads=4),
        lambda m: m(tokens(), COUNTS),
    ),
    "QueryTransformer": (
        lambda: ov2kit.connectors.QueryTransformer(WIDTH, 256, 3, hidden=256, depth=2, heads=4),
        lambda m: m(tokens(), COUNTS),
    ),
    "TokenMerger": (lambda: ov2kit.connectors.TokenMerger(WIDTH, tokens=5), lambda m: m(tokens(), COUNTS)),
    "UniquenessPruner": (
        lambda: ov2kit.connectors.UniquenessPruner(WIDTH, tokens=5),
        lambda m: m(tokens(), grids=GRIDS),
    ),
    "LearnedPositions": (
        lambda: LearnedPositions(WIDTH, (9, 9, 9)),
        lambda m: m.embed(tokens(), POSITIONS),
    ),
    "MRoPE": (lambda: MRoPE(64, (8, 12, 12)), lambda m: m(POSITIONS)[0]),
    "NoPositions": (NoPositions, lambda m: m.embed(tokens(), POSITIONS)),
    "RoPE3D": (lambda: RoPE3D(64), lambda m: m(POSITIONS)[0]),
}


def public_modules():
    """Classes of modules that the three packages export."""
    for package in (ov2kit.encoders, ov2kit.connectors, ov2kit.positional):
        for name in package.__all__:
            found = getattr(package, name)
            if isinstance(found, type) and issubclass(found, nn.Module):
                yield name


def made(name):
    torch.manual_seed(0)
    module = MADE[name][0]().eval()
    with torch.no_grad():  # nothing at zero or one, where a layer could go missing unseen
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.02)
    return module, MADE[name][1]


def leaves(module):
    """(name, layer) of every layer with parameters of its own and no layers below."""
    return [
        (name, child)
        for name, child in module.named_modules()
        if name and not list(child.children()) and list(child.parameters())
    ]


def put(module, name, layer):
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, layer)


def test_every_public_module_is_held_to_it():
    assert set(public_modules()) == set(MADE)


@pytest.fixture(params=[False, True], ids=["inference", "training"])
def grad(request):
    with torch.set_grad_enabled(request.param):
        yield request.param


@pytest.mark.parametrize("name", MADE)
def test_hooks_of_every_layer_take_effect(name, grad):
    module, use = made(name)
    want = use(module).detach().clone()
    seen = {}

    def keep(layer_name):
        def hook(_, args, out):
            seen.setdefault(layer_name, []).append((out, out.detach().clone()))

        return hook

    handles = [layer.register_forward_hook(keep(n)) for n, layer in leaves(module)]
    torch.testing.assert_close(use(module).detach(), want, rtol=1e-4, atol=1e-4)
    assert set(seen) == {n for n, _ in leaves(module)}
    for layer_name, calls in seen.items():
        for out, then in calls:
            assert torch.equal(out, then), f"{layer_name}: changed in place after the hook saw it"
    for handle in handles:
        handle.remove()
    for layer_name, layer in leaves(module):
        handle = layer.register_forward_hook(lambda _, args, out: out * uneven(out))
        assert differs(use(module), want), f"what a hook of {layer_name} returns has no effect"
        handle.remove()
        handle = layer.register_forward_pre_hook(lambda _, args: ((args[0] * uneven(args[0])).to(args[0].dtype),))
        assert differs(use(module), want), f"what a pre-hook of {layer_name} returns has no effect"
        handle.remove()


def uneven(x):
    """Factors that no norm or softmax undoes."""
    return 0.2 + 0.8 * torch.rand(x.shape, generator=torch.Generator().manual_seed(4))


def differs(got, want):
    return (got.detach() - want).abs().max() > 1e-6


class Low(nn.Module):
    """A low-rank adapter around a layer, as adapter packages build them."""

    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        if isinstance(base, nn.Embedding):
            self.down, self.up = nn.Embedding(base.num_embeddings, 2), nn.Linear(2, base.embedding_dim, bias=False)
        elif isinstance(base, nn.Conv2d):
            size = {"stride": base.stride, "padding": base.padding}
            self.down = nn.Conv2d(base.in_channels, 2, base.kernel_size, bias=False, **size)
            self.up = nn.Conv2d(2, base.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(base.in_features, 2, bias=False)
            self.up = nn.Linear(2, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class LowLinear(nn.Linear):
    """The same as a subclass that keeps the weight it adapts."""

    def __init__(self, base):
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.load_state_dict(base.state_dict())
        self.requires_grad_(False)
        self.low = nn.Parameter(torch.randn(base.out_features, base.in_features) * 0.05)

    def forward(self, x):
        return super().forward(x) + nn.functional.linear(x, self.low)


def adaptable(layer):
    return isinstance(layer, (nn.Linear, nn.Conv2d, nn.Embedding))


WITH_LINEAR = [name for name in MADE if any(isinstance(m, nn.Linear) for _, m in leaves(MADE[name][0]()))]


@pytest.mark.parametrize("kind", [Low, LowLinear])
@pytest.mark.parametrize("name", MADE)
def test_adapters_take_effect_and_get_gradients(name, kind):
    module, use = made(name)
    with torch.no_grad():
        want = use(module).clone()
    names = [n for n, layer in leaves(module) if (adaptable(layer) if kind is Low else isinstance(layer, nn.Linear))]
    for layer_name in names:
        alone = copy.deepcopy(module)
        put(alone, layer_name, kind(alone.get_submodule(layer_name)))
        with torch.no_grad():
            assert differs(use(alone), want), f"an adapter on {layer_name} has no effect"
    module.requires_grad_(False)
    for layer_name in names:
        put(module, layer_name, kind(module.get_submodule(layer_name)))
    if not names:
        return
    use(module).square().sum().backward()
    learned = {n: p for n, p in module.named_parameters() if p.requires_grad}
    assert len(learned) == len(names) * (2 if kind is Low else 1)
    none = [n for n, p in learned.items() if p.grad is None or not p.grad.abs().max() > 0]
    assert not none


class Int8(nn.Module):
    """Weight-only int8: whole numbers under the name `weight`, and no floating-point parameters."""

    def __init__(self, base):
        super().__init__()
        flat = base.weight.detach().flatten(1)
        scale = flat.abs().amax(1) / 127
        self.register_buffer("weight", (flat / scale[:, None]).round().to(torch.int8).view(base.weight.shape))
        self.register_buffer("scale", scale)
        self.bias = None if base.bias is None else base.bias.detach()
        self.conv = {"stride": base.stride, "padding": base.padding, "groups": base.groups} if conv(base) else None

    def forward(self, x):
        weight = self.weight * self.scale.view(-1, *[1] * (self.weight.ndim - 1))
        if self.conv is not None:
            return nn.functional.conv2d(x, weight, self.bias, **self.conv)
        return nn.functional.linear(x, weight, self.bias)


def conv(layer):
    return isinstance(layer, nn.Conv2d)


@pytest.mark.parametrize("name", MADE)
def test_quantized_layers_take_effect(name):
    module, use = made(name)
    with torch.no_grad():
        want = use(module).clone()
        rounded = copy.deepcopy(module)  # the same numbers in the layers as they were
        for layer_name, layer in leaves(module):
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                quantized = Int8(layer)
                flat = quantized.weight * quantized.scale.view(-1, *[1] * (layer.weight.ndim - 1))
                rounded.get_submodule(layer_name).weight.copy_(flat)
                put(module, layer_name, quantized)
        got = use(module)
        torch.testing.assert_close(got, use(rounded), rtol=1e-3, atol=1e-4)
        if any(isinstance(m, Int8) for m in module.modules()):
            assert differs(got, want)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", WITH_LINEAR)
def test_torchs_own_dynamic_quantization_takes_effect(name):
    module, use = made(name)
    with torch.no_grad():
        want = use(module).clone()
        quantized = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
        assert any("quantized" in type(m).__module__ for m in quantized.modules())
        got = use(quantized)
    assert differs(got, want)
    assert (got - want).norm() < 0.2 * want.norm()  # rounded, not broken


@pytest.mark.parametrize("name", MADE)
def test_parametrized_layers_take_effect(name, grad):
    class Uneven(nn.Module):
        def forward(self, weight):
            return weight * uneven(weight)

    module, use = made(name)
    want = use(module).detach().clone()
    for layer_name, layer in leaves(module):
        if hasattr(layer, "weight"):
            parametrize.register_parametrization(layer, "weight", Uneven())
            assert differs(use(module), want), layer_name
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "s"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("name", MADE)
def test_sharded_layers_take_effect_and_get_gradients(name, grad):
    from torch.distributed.fsdp import fully_shard

    module, use = made(name)
    want = use(module).detach().clone()
    for _, layer in leaves(module):  # each by itself: its weight is whole only while it is called
        fully_shard(layer, reshard_after_forward=True)
    # parameters that lie beside layers belong to the module that is called
    for child in reversed([m for m in module.modules() if m._parameters and list(m.children())]):
        fully_shard(child, reshard_after_forward=True)
    got = use(module)
    torch.testing.assert_close(got.detach(), want, rtol=1e-4, atol=1e-4)
    if grad and list(module.parameters()):
        got.square().sum().backward()
        assert not [n for n, p in module.named_parameters() if p.grad is None]


def test_what_counts_as_plain():
    layer = nn.Linear(256, 256)
    assert is_plain(layer)
    for register in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
        handle = getattr(layer, register)(lambda *_: None)
        assert not is_plain(layer)
        handle.remove()
        assert is_plain(layer)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not is_plain(layer)
    handle.remove()
    layer.forward = lambda x: x  # as packages that move weights around do
    assert not is_plain(layer)
    assert not is_plain(LowLinear(nn.Linear(4, 4)))
    assert not is_plain(nn.LayerNorm(4))


def test_a_hook_in_a_large_call_sees_all_tokens_at_once():
    module, x = MLP(WIDTH, 300), torch.randn(3000, WIDTH)
    seen = []
    module.fc1.register_forward_hook(lambda _, args, out: seen.append(out.shape))
    with torch.no_grad():
        module(x)
    assert seen == [(3000, 300)]


def test_counters_of_operations_see_linear_layers():
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        nn.Linear(WIDTH, 300)(tokens())
        want = counter.get_total_flops()
        MLP(WIDTH, 300)(tokens())
    assert counter.get_total_flops() == 3 * want


def test_what_a_hook_keeps_is_not_rotated_in_place():
    module, kept = GroupVisibleAttention(WIDTH, 4), []
    module.qkv.register_forward_hook(lambda _, args, out: kept.append(out))
    x, segments = torch.randn(800, WIDTH), Segments.from_lengths([800])
    with torch.no_grad():
        want = nn.functional.linear(x, module.qkv.weight, module.qkv.bias)
        module(x, segments, RoPE3D(64)(torch.randint(0, 9, (800, 3))))
    torch.testing.assert_close(kept[0], want)


def test_function_transforms_and_forward_derivatives_pass_through():
    module, x = MLP(WIDTH, 300), tokens()
    with torch.no_grad():
        want = module(x)
        torch.testing.assert_close(torch.func.vmap(module)(x.view(4, 16, WIDTH)).view_as(want), want)
        _, slope = torch.func.jvp(module, (x,), (torch.ones_like(x),))
        with forward_ad.dual_level():
            dual = module(forward_ad.make_dual(x, torch.ones_like(x)))
            torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope)
    step = 1e-3
    exact = copy.deepcopy(module).double()
    ahead, behind = (exact(x.double() + sign * step) for sign in (1, -1))
    torch.testing.assert_close(slope.double(), (ahead - behind) / (2 * step), rtol=1e-3, atol=1e-4)
