"""Layers, devices and dtypes that are handed to constructors reach every layer.

Modules are found, not listed: a public one with parameters must take `device` and `dtype`, and those with norms or
activations of their own take `norm_layer` and `act_layer`.
"""

import copy
import inspect

import pytest
import torch
from timm.layers import Mlp, SwiGLU
from torch import nn

from ov2kit.encoders import MLP, OneVisionEncoder, OneVisionViT
from ov2kit.errors import OptionError
from tests.test_layers_are_called import COUNTS, MADE, POSITIONS, SEGMENTS, WIDTH, encoder, public_modules

#: positional arguments of each public module with parameters; its other arguments keep their defaults
GIVEN = {
    "MLP": (WIDTH, 300),
    "GroupVisibleAttention": (WIDTH, 4),
    "WindowedAttention": (WIDTH, 4, (2, 3)),
    "PatchEmbedding": (WIDTH, 10),
    "PoolingHead": (WIDTH, 4, 300),
    "OneVisionEncoder": (WIDTH, 2, 4, 512),
    "OneVisionViT": (10, "map"),
    "AttentionPool": (WIDTH, 256, 5),
    "AveragePool": (WIDTH, 256, 5),
    "ConvAbstractor": (WIDTH, 256),
    "MLPConnector": (WIDTH, 256),
    "PatchMerger": (WIDTH, 256),
    "PerceiverResampler": (WIDTH, 256, 3),
    "QueryTransformer": (WIDTH, 256, 3),
    "LearnedPositions": (WIDTH, (9, 9, 9)),
}
OPTIONS = {
    "OneVisionEncoder": {"patch": 2, "post_norm": True, "pooling_head": True, "window": (2, 2), "global_layers": [1]},
    "OneVisionViT": {"patch_size": 2, "embed_dim": WIDTH, "depth": 2, "num_heads": 4, "mlp_ratio": 1.5},
    "QueryTransformer": {"hidden": 128, "depth": 2, "heads": 4},
    "PerceiverResampler": {"depth": 1, "heads": 4},
    "ConvAbstractor": {"depth": 1},
}
HANDED = {"OneVisionViT": {"norm_layer", "act_layer"}}  # through `**encoder`


def class_of(name):
    return type(MADE[name][0]())


def make(name, **more):
    torch.manual_seed(0)
    return class_of(name)(*GIVEN[name], **OPTIONS.get(name, {}), **more).eval()


def use(name, module, dtype=torch.float32):
    """The output of a module for the tokens that `MADE` gives it."""
    module = module.to_empty(device="cpu") if next(module.parameters()).is_meta else module
    if name == "OneVisionEncoder":
        grids, tokens = [(1, 4, 4), (2, 4, 4), (1, 4, 4)], torch.randn(64, 12, generator=gen(), dtype=torch.float64)
        return module.pool(module(tokens.to(dtype), POSITIONS, SEGMENTS, grid_thw=grids), SEGMENTS)
    if name == "OneVisionViT":
        return module(torch.randn(1, 3, 16, 16, generator=gen(), dtype=torch.float64).to(dtype))
    width = 300 if name == "PatchEmbedding" else WIDTH
    x = torch.randn(sum(COUNTS), width, generator=gen(), dtype=torch.float64).to(dtype)
    grids = [(1, 4, 4), (2, 4, 4), (1, 4, 4)]
    more = {
        "GroupVisibleAttention": (SEGMENTS,),
        "PoolingHead": (SEGMENTS,),
        "WindowedAttention": (SEGMENTS,),
        "LearnedPositions": (POSITIONS,),
        "MLP": (),
        "PatchEmbedding": (),
    }.get(name, (COUNTS,))
    options = {"grid_thw": grids} if name == "WindowedAttention" else {}
    options = {"grids": grids} if name == "ConvAbstractor" else options
    call = module.embed if name == "LearnedPositions" else module
    return call(x, *more, **options)


def gen():
    return torch.Generator().manual_seed(2)


def takes(name, argument):
    return argument in inspect.signature(class_of(name)).parameters or argument in HANDED.get(name, set())


def test_every_public_module_with_parameters_takes_a_device_and_a_dtype():
    with_parameters = {name for name in public_modules() if list(MADE[name][0]().parameters())}
    assert with_parameters - {"Block"} == set(GIVEN)  # a block is handed all of its modules
    assert {name for name in public_modules() if takes(name, "device") and takes(name, "dtype")} == set(GIVEN)


@pytest.mark.parametrize("name", GIVEN)
def test_on_the_meta_device_nothing_is_allocated(name):
    plain, meta = make(name), make(name, device="meta")
    assert {n for n, tensor in meta.state_dict().items() if not tensor.is_meta} == set()
    assert [(n, t.shape) for n, t in meta.state_dict().items()] == [(n, t.shape) for n, t in plain.state_dict().items()]


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_every_parameter_has_the_dtype_and_so_has_the_output(name, dtype):
    """Equal to a module in float32 that was cast afterwards and has the same weights."""
    made, cast = make(name, dtype=dtype), make(name).to(dtype)
    assert {n for n, tensor in made.state_dict().items() if tensor.dtype != dtype} == set()
    made.load_state_dict(cast.state_dict())
    got, want = use(name, made, dtype), use(name, cast, dtype)
    assert got.dtype == dtype
    assert torch.equal(got, want)


@pytest.mark.parametrize("name", GIVEN)
def test_weights_are_drawn_on_the_device_and_in_the_dtype_as_by_default(name):
    plain, said = make(name), make(name, device="cpu", dtype=torch.float32)
    for n, tensor in plain.state_dict().items():
        assert torch.equal(said.state_dict()[n], tensor), n


class PeakNorm(nn.Module):
    """Rows over their largest magnitude, scaled: no norm that torch has."""

    def __init__(self, width, eps=1e-6, device=None, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.7, device=device, dtype=dtype))
        self.eps = eps

    def forward(self, x):
        return x / (x.abs().amax(-1, keepdim=True) + self.eps) * self.weight


def swapped(module, kinds, new, skip=""):
    """A copy in which every layer of `kinds` is replaced; and how many were."""
    module, count = copy.deepcopy(module), 0
    for name, layer in list(module.named_modules()):
        if isinstance(layer, kinds) and not (skip and skip in name):
            owner, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(owner), leaf, new(layer))
            count += 1
    return module, count


@pytest.mark.parametrize("name", [n for n in GIVEN if takes(n, "norm_layer")])
def test_a_custom_norm_takes_the_place_of_every_norm(name):
    """Equal to the usual module after surgery."""
    plain, custom = make(name), make(name, norm_layer=PeakNorm)
    want, count = swapped(plain, (nn.LayerNorm, nn.RMSNorm), lambda old: PeakNorm(old.weight.numel(), old.eps))
    assert count == sum(isinstance(m, PeakNorm) for m in custom.modules()) > 0
    want.load_state_dict(custom.state_dict())
    with torch.no_grad():
        assert torch.equal(use(name, custom), use(name, want))
        assert not torch.allclose(use(name, custom), use(name, plain))


@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", [n for n in GIVEN if takes(n, "act_layer")])
def test_a_custom_activation_takes_the_place_of_every_activation(name, grad):
    plain, custom = make(name), make(name, act_layer=nn.Tanh)
    skip = "gate" if name == "ConvAbstractor" else ""
    want, count = swapped(plain, (nn.GELU, nn.SiLU), lambda old: nn.Tanh(), skip)
    assert count == sum(isinstance(m, nn.Tanh) for m in custom.modules()) > 0
    want.load_state_dict(custom.state_dict())
    with torch.set_grad_enabled(grad):
        got = use(name, custom)
        assert torch.equal(got, use(name, want))
        assert not torch.allclose(got, use(name, plain))


@pytest.mark.parametrize(
    "act", [nn.Tanh, lambda: nn.GELU("tanh"), nn.ReLU, nn.PReLU], ids=["Tanh", "GELU-tanh", "ReLU", "PReLU"]
)
def test_a_perceptron_by_its_formula(act):
    """On the paths for training, for inference, and for more tokens than one step of inference."""
    mlp = MLP(WIDTH, 300, act_layer=act)
    x = torch.randn(1500, WIDTH, generator=gen())
    want = mlp.act(x @ mlp.fc1.weight.T + mlp.fc1.bias) @ mlp.fc2.weight.T + mlp.fc2.bias
    torch.testing.assert_close(mlp(x), want, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), want, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mlp(x[:9]), want[:9], rtol=1e-4, atol=1e-5)


def test_hooks_on_an_activation_take_effect_at_inference():
    mlp = MLP(WIDTH, 300)
    x = torch.randn(1500, WIDTH, generator=gen())
    seen = []
    mlp.act.register_forward_hook(lambda _, args, out: seen.append(len(out)) or out * 2)
    with torch.no_grad():
        want = 2 * nn.functional.gelu(mlp.fc1(x)) @ mlp.fc2.weight.T + mlp.fc2.bias
        torch.testing.assert_close(mlp(x), want, rtol=1e-4, atol=1e-5)
    assert seen == [1500]  # all tokens, and once


def test_a_custom_perceptron_in_the_encoder():
    """timm's own has the same layers under the same names, so its encoder computes the same."""
    ours, theirs = encoder(), encoder(mlp_layer=Mlp, dtype=torch.float64)
    assert all(isinstance(block.mlp, Mlp) for block in theirs.blocks)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(64, 12, generator=gen(), dtype=torch.float64)
    got, want = (m.eval()(x, POSITIONS, SEGMENTS) for m in (theirs, ours.double()))
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)


def test_a_gated_perceptron_in_the_encoder():
    gated = encoder(mlp_layer=SwiGLU, act_layer=nn.SiLU)
    block = gated.blocks[0].mlp
    x = torch.randn(9, WIDTH, generator=gen())
    by_hand = block.fc2(nn.functional.silu(block.fc1_g(x)) * block.fc1_x(x))
    torch.testing.assert_close(block(x), by_hand)
    assert gated(torch.randn(64, 12, generator=gen()), POSITIONS, SEGMENTS).shape == (64, WIDTH)


def test_a_new_classifier_goes_where_the_weights_are():
    model = OneVisionViT(3, patch_size=2, embed_dim=32, depth=1, num_heads=1, dtype=torch.float64)
    model.reset_classifier(5)
    assert model(torch.zeros(1, 3, 4, 4, dtype=torch.float64)).dtype == torch.float64
    meta = OneVisionViT(3, patch_size=2, embed_dim=32, depth=1, num_heads=1, device="meta")
    meta.reset_classifier(5)
    assert meta.head.weight.is_meta


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cudda"}, "device must be one that torch knows, got 'cudda'"),
        ({"device": 0}, "device must be a torch.device or a name"),
        ({"dtype": torch.int8}, "dtype must be a floating-point dtype such as torch.bfloat16, got torch.int8"),
        ({"dtype": "bfloat16"}, "dtype must be a floating-point dtype such as torch.bfloat16, got 'bfloat16'"),
        ({"norm_layer": "layer_norm"}, "norm_layer must be a class or function that makes a module, got 'layer_norm'"),
        ({"act_layer": nn.GELU()}, "act_layer must be a class or function that makes a module, got GELU"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_ones_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        OneVisionEncoder(32, 1, 1, 8, **options)
