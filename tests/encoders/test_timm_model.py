"""The encoder through timm's interface, and started from a timm ViT."""

import pytest
import timm
import torch

from ov2kit import Segments
from ov2kit.encoders import OneVisionEncoder, load_timm_vit
from ov2kit.encoders.timm_model import checkpoint_filter_fn
from ov2kit.positional import NoPositions, packed_positions
from tests.fresh import python

NAME = "onevision_encoder_large_patch14"
SMALL = {"embed_dim": 64, "depth": 3, "num_heads": 2}


@pytest.fixture
def images():
    return torch.randn(2, 3, 28, 42, generator=torch.Generator().manual_seed(0))


def test_registered_with_the_released_size():
    with torch.device("meta"):
        model = timm.create_model(NAME)
    assert (model.trunk.width, model.trunk.depth, model.trunk.heads, model.trunk.patch) == (1024, 24, 16, 14)
    assert model.pretrained_cfg["mean"] == (0.48145466, 0.4578275, 0.40821073)
    assert model.pretrained_cfg["fixed_input_size"] is False
    assert timm.data.resolve_data_config({}, model=model)["input_size"] == (3, 448, 448)


@pytest.mark.parametrize(
    "imports",
    [
        "import ov2kit.encoders; assert 'timm' not in sys.modules; import timm",
        "import timm; import ov2kit.encoders",
        "import ov2kit.encoders, importlib.util; importlib.util.find_spec('timm.models'); from timm.models import *",
    ],
    ids=["before timm", "after timm", "after a look for timm"],
)
def test_timm_knows_the_models_whoever_is_imported_first(imports):
    """And nothing of ours stays in timm's way: its module is as it would be without us."""
    code = f"""
import sys
{imports}
from timm.models import is_model
assert is_model("onevision_encoder_large_patch14") and is_model("onevision_encoder_large_patch16")
assert [finder for finder in sys.meta_path if type(finder).__module__.startswith("ov2kit")] == []
assert type(sys.modules["timm.models"].__loader__) is type(sys.modules["timm"].__loader__)
assert sys.modules["timm.models"].__spec__.loader is sys.modules["timm.models"].__loader__
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pool", ["avg", "map", ""])
def test_features_head_and_classes(images, pool):
    model = timm.create_model(NAME, num_classes=5, global_pool=pool, **SMALL).eval()
    features = model.forward_features(images)
    assert features.shape == (2, 6, 64)
    assert torch.equal(model(images), model.forward_head(features))
    assert model(images).shape == ((2, 6, 5) if pool == "" else (2, 5))
    assert model.forward_head(features, pre_logits=True).shape == ((2, 6, 64) if pool == "" else (2, 64))
    torch.testing.assert_close(model(images)[1:], model(images[1:]), rtol=0, atol=1e-5)  # items do not mix
    model.reset_classifier(0)
    assert model(images).shape[-1] == 64
    assert model.get_classifier()(features) is features


def test_tokens_are_the_encoders_own(images):
    model = timm.create_model(NAME, **SMALL).eval()
    pixels = images[0].unfold(1, 14, 14).unfold(2, 14, 14).permute(1, 2, 0, 3, 4).reshape(6, -1)
    want = model.trunk(pixels, packed_positions([(1, 2, 3)], 1), Segments.from_lengths([6]))
    torch.testing.assert_close(model.forward_features(images)[0], want, rtol=0, atol=1e-5)


def test_intermediates(images):
    model = timm.create_model(NAME, **SMALL).eval()
    final, maps = model.forward_intermediates(images, indices=[0, 2])
    assert [tuple(m.shape) for m in maps] == [(2, 64, 2, 3)] * 2
    rows = model.forward_intermediates(images, indices=1, output_fmt="NLC", norm=True, intermediates_only=True)
    torch.testing.assert_close(rows[0], final)
    torch.testing.assert_close(final, model.forward_features(images))
    torch.testing.assert_close(maps[0].flatten(2).mT[0, 4], maps[0][0, :, 1, 1])
    clip = torch.randn(1, 3, 4, 28, 28)
    assert model.forward_intermediates(clip, intermediates_only=True)[0].shape == (1, 64, 4, 2, 2)
    with pytest.raises(ValueError, match="'NHWC'"):
        model.forward_intermediates(images, output_fmt="NHWC")


def test_features_only(images):
    model = timm.create_model(NAME, features_only=True, out_indices=(0, 1), **SMALL)
    assert model.feature_info.channels() == [64, 64]
    assert model.feature_info.reduction() == [14, 14]
    assert [tuple(m.shape) for m in model(images)] == [(2, 64, 2, 3)] * 2


def test_frames_of_a_clip_are_spread_over_the_time_slots():
    model = timm.create_model(NAME, **SMALL)
    _, positions, segments, grid = model._packed(torch.zeros(2, 3, 3, 14, 28))
    assert grid == [(3, 1, 2)] * 2
    assert positions[:6].tolist() == [[t, 0, c] for t in (0, 31, 63) for c in (0, 1)]
    assert segments.lengths == (6, 6)


def test_gradients_reach_every_parameter(images):
    model = timm.create_model(NAME, num_classes=3, global_pool="map", drop_path_rate=0.1, **SMALL)
    model.set_grad_checkpointing()
    model(images).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    groups = model.group_matcher()
    assert set(groups) == {"stem", "blocks"}


@pytest.mark.parametrize("prefix", ["model.visual.", ""])
def test_released_weights_find_their_place(prefix):
    model = timm.create_model(NAME, **SMALL)
    release = model.trunk.release_state_dict(prefix, split_qkv=prefix == "")
    release |= {f"{prefix}merger.ln_q.weight": torch.zeros(1), "lm_head.weight": torch.zeros(1)}
    other = timm.create_model(NAME, **SMALL)
    assert other.load_state_dict(checkpoint_filter_fn(release, other), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_starts_from_a_timm_vit():
    """Without positions on either side and with equal patches, the features must be the ViT's own."""
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, pos_embed="none", class_token=False, global_pool="avg",
        init_values=0.5, num_classes=0, fc_norm=False,
    ).eval()  # fmt: skip
    torch.nn.init.zeros_(vit.patch_embed.proj.bias)
    for block in vit.blocks:
        torch.nn.init.normal_(block.ls1.gamma), torch.nn.init.normal_(block.ls2.gamma)
    encoder = OneVisionEncoder(
        192, 2, 3, 768, patch=16, merge=1, pre_norm=False, post_norm=True, position=NoPositions()
    )
    report = load_timm_vit(encoder, vit)
    assert report.fresh == ()
    assert report.dropped == ("patch_embed.proj.bias",)
    image = torch.randn(1, 3, 32, 32)
    pixels = image[0].unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 0, 3, 4).reshape(4, -1)
    got = encoder(pixels, torch.zeros(4, 3), Segments.from_lengths([4]))
    torch.testing.assert_close(got, vit.forward_features(image)[0], rtol=0, atol=1e-4)


def test_resamples_the_patch_embedding_and_drops_the_position_table():
    vit = timm.create_model("vit_tiny_patch16_224", depth=2)
    encoder = OneVisionEncoder(192, 2, 3, 768, patch=14, position=NoPositions())
    report = load_timm_vit(encoder, vit.state_dict())
    assert report.fresh == ("layernorm_pre.weight", "layernorm_pre.bias")
    assert {"pos_embed", "cls_token", "patch_embed.proj.bias", "norm.weight", "head.weight"} <= set(report.dropped)
    old, new = vit.patch_embed.proj.weight, encoder.embeddings.patch_embedding.weight
    assert new.shape == (192, 3, 14, 14)
    flat = torch.nn.functional.cosine_similarity(old.mean((2, 3)), new.mean((2, 3)), dim=-1)
    assert flat.mean() > 0.9
    with pytest.raises(ValueError, match=r"2 blocks, the encoder has 3"):
        load_timm_vit(OneVisionEncoder(192, 3, 3, 768, position=NoPositions()), vit)
    with pytest.raises(ValueError, match="timm VisionTransformer"):
        load_timm_vit(encoder, torch.nn.Linear(2, 2))
