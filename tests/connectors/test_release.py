"""The patch merger gives the released merger's numbers and keeps its keys."""

import pytest
import torch

from ov2kit.connectors import PatchMerger
from tests.paths import read_golden

PREFIX = "model.visual.merger."
TOWERS = {name: read_golden(f"01_{name}_meta.json") for name in (
    "vision_ln_m2", "vision_rms_m3", "vision_head_m1"
)}  # fmt: skip
CASES = [(tower, case) for tower, meta in TOWERS.items() for case in meta["cases"]]


def weights(tower):
    return read_golden(f"01_{tower}_weights.safetensors")


def build(tower, **changed):
    config = TOWERS[tower]["config"]
    sizes = {
        "width": config["hidden_size"],
        "out_width": config["out_hidden_size"],
        "merge": config["spatial_merge_size"],
        "eps": config["layer_norm_eps"],
    }
    return PatchMerger(**{**sizes, **changed})


@pytest.fixture(params=TOWERS)
def tower(request):
    return request.param


def test_every_tower_is_here():
    assert {TOWERS[t]["config"]["spatial_merge_size"] for t in TOWERS} == {1, 2, 3}
    assert len(CASES) == 14


@pytest.mark.parametrize(("tower", "case"), CASES)
def test_merged_features_match_the_release(tower, case):
    merger = build(tower)
    assert merger.load_release_state_dict(weights(tower), prefix=PREFIX) == ([], [])
    stored = read_golden(f"01_{tower}_cases.safetensors")
    grids = stored[f"{case}.grid_thw"]
    features, expected = stored[f"{case}.before_merger"], stored[f"{case}.merged"]
    tokens = merger(features)
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(merger(features, grids=grids), tokens)
    assert [merger.tokens_out(n) for n in grids.prod(1).tolist()] == (grids.prod(1) // merger.merge**2).tolist()


@pytest.mark.parametrize("tower", TOWERS)
def test_eps_is_the_configs(tower):
    """Two plausible values differ by less than the tolerance above: in float64 the right one is far nearer."""
    stored = read_golden(f"01_{tower}_cases.safetensors")
    error = {}
    for eps in (1e-5, 1e-6):
        merger = build(tower, eps=eps)
        merger.load_release_state_dict(weights(tower))
        worst = [
            (merger.double()(stored[f"{case}.before_merger"].double()) - stored[f"{case}.merged"]).abs().max().item()
            for case in TOWERS[tower]["cases"]
        ]
        error[eps] = max(worst)
    right = TOWERS[tower]["config"]["layer_norm_eps"]
    wrong = ({1e-5, 1e-6} - {right}).pop()
    assert error[right] < error[wrong] / 2, error


def test_keys_and_values_come_back_identical(tower):
    state = {key: value for key, value in weights(tower).items() if key.startswith(PREFIX)}
    merger = build(tower)
    merger.load_release_state_dict(state)
    written = merger.release_state_dict()
    assert list(written) == sorted(state, key=list(written).index)
    assert set(written) == set(state)
    assert all(torch.equal(written[key], state[key]) for key in state)


def test_missing_and_unexpected_keys_are_named():
    state = weights("vision_ln_m2")
    del state[f"{PREFIX}mlp.2.bias"]
    state[f"{PREFIX}mlp.4.weight"] = torch.zeros(1)
    missing, unexpected = build("vision_ln_m2").load_release_state_dict(state)
    assert missing == [f"{PREFIX}mlp.2.bias"]
    assert unexpected == [f"{PREFIX}mlp.4.weight"]


def test_wrong_prefix_names_the_right_one():
    with pytest.raises(ValueError, match=r"prefix 'visual\.merger\.'; .* under 'model\.visual\.merger\.'"):
        build("vision_ln_m2").load_release_state_dict(weights("vision_ln_m2"), prefix="visual.merger.")


def test_wrong_size_names_key_and_both_shapes():
    with pytest.raises(ValueError, match=r"mlp\.0\.bias is \(256,\) .* \(576,\) .*merge=3"):
        build("vision_ln_m2", merge=3).load_release_state_dict(weights("vision_ln_m2"))


def test_meta_device_build_takes_the_weights(tower):
    with torch.device("meta"):
        empty = build(tower)
    assert empty.load_release_state_dict(weights(tower)) == ([], [])
    full = build(tower)
    full.load_release_state_dict(weights(tower))
    features = read_golden(f"01_{tower}_cases.safetensors")["image.before_merger"]
    assert torch.equal(empty(features), full(features))


def test_bfloat16_stays_near(tower):
    """bfloat16 has 8 bits: three roundings of values near 1 stay within 3 * 2**-7 of the largest value."""
    merger = build(tower)
    merger.load_release_state_dict(weights(tower))
    stored = read_golden(f"01_{tower}_cases.safetensors")
    tokens = merger.bfloat16()(stored["mixed.before_merger"].bfloat16())
    assert tokens.dtype == torch.bfloat16
    expected = stored["mixed.merged"]
    torch.testing.assert_close(tokens.float(), expected, rtol=0, atol=3 * 2**-7 * expected.abs().max().item())
