"""Score maps against the public tools' numbers, percentiles against numpy's."""

import numpy as np
import pytest
import torch

from ov2kit.codec.scoring import maps
from ov2kit.codec.signals.resample import upsample
from tests.codec.scoring import public_maps
from tests.paths import read_golden

META = read_golden("08_scores_meta.json")
ARRAYS = read_golden("08_scores.npz")
ENCODER = [(case, stage) for case in META["mv_residual"] for stage in case["encoder_stage"]]
CODEC = [(case, stage) for case in META["mv_residual"] for stage in case["codec_stage"]]


def array(name):
    return torch.from_numpy(ARRAYS[name])


def close(mine, name):
    torch.testing.assert_close(mine, array(name), rtol=0, atol=1e-6)


# --- the public tools' arithmetic -----------------------------------------------------------------


@pytest.mark.parametrize(("case", "stage"), ENCODER, ids=lambda x: x.get("array", ""))
def test_encoder_maps_match_the_public_scorer(case, stage):
    name = f"case{case['case']}"
    size = case["H"], case["W"]
    if stage["kind"] == "residual":
        mine, scale = public_maps.residual_map(array(f"{name}_residual_y"), stage["pct"], gradient=stage["use_grad"])
    elif stage["kind"] == "mv":
        vectors = array(f"{name}_mv")[..., :2]
        magnitude = public_maps.motion_magnitude(vectors, stage["compensate"], units=stage["unit_div"])
        mine, scale = maps.normalized(magnitude, 95.0, 1e-6)
        rule = "floor" if stage["upsample"] == "opencv_nearest" else "linspace"
        mine = upsample(mine, *size, rule)
    else:
        mode = "mean" if stage["mode"] == "weighted" else stage["mode"]
        mine = maps.fuse(*(array(n) for n in stage["inputs"]), mode, (stage["w_mv"], stage["w_res"]))
        scale = None
    close(mine, stage["array"])
    if scale is not None:
        assert float(scale) == pytest.approx(stage["scale"], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("case", "stage"), CODEC, ids=lambda x: x.get("array", ""))
def test_codec_maps_match_the_release(case, stage):
    name = f"case{case['case']}"
    residual, _ = public_maps.residual_map(array(f"{name}_residual_y"))
    if "mv_energy" in stage:
        moving, _ = public_maps.energy_map(array(stage["mv_energy"]))
        weights = (1.0, 1.0)
    else:
        magnitude = public_maps.motion_magnitude(
            array(f"{name}_mv"),
            stage["mv_compensate"],
            lists=stage["mv_dir_mode"],
            weights=(stage.get("w_mv_l0", 1.0), stage.get("w_mv_l1", 1.0)),
        )
        moving, _ = maps.normalized(magnitude, 95.0, 1e-6)
        weights = (stage["w_mv"], stage["w_res"])
    moving = upsample(moving, case["H"], case["W"])
    close(maps.fuse(moving, residual, "mean", weights), stage["array"])


@pytest.mark.parametrize("case", META["bitcost"], ids=lambda c: f"bit{c['case']}")
def test_bit_cost_maps_match_the_release(case):
    grids = {name: array(f"bit{case['case']}_{name}") for name in case["available"]}
    grid = public_maps.choose_bitcost_grid(grids, case["grid"], case["codec"])
    mine = public_maps.bitcost_map(grid, *case["out_hw"], q=case["pct"], log_scale=case["log_scale"])
    close(mine, f"bit{case['case']}_score")


def test_missing_bit_cost_grid_falls_back_in_order():
    grids = {name: torch.full((1, 1), i) for i, name in enumerate(("ctu", "mb", "sub"))}
    assert public_maps.choose_bitcost_grid(grids, codec="hevc") is grids["ctu"]
    assert public_maps.choose_bitcost_grid(grids, codec="h264") is grids["mb"]
    del grids["mb"]
    assert public_maps.choose_bitcost_grid(grids, codec="h264") is grids["sub"]
    with pytest.raises(ValueError, match="got \\[\\]"):
        public_maps.choose_bitcost_grid({})


def test_sums_match_the_release():
    torch.testing.assert_close(public_maps.block_sums(array("sum_map"), 2), array("sum_patch2"), rtol=1e-5, atol=0)
    torch.testing.assert_close(public_maps.block_sums(array("sum_map"), 2, 2), array("sum_block2"), rtol=1e-5, atol=0)


def test_intra_cap_matches_the_release():
    debug = META["iframe_clip"]["debug"]
    intra = torch.tensor([kind == "I" for kind in META["iframe_clip"]["pict_types"]])
    mine = public_maps.cap_intra(array("iclip_in"), intra, META["iframe_clip"]["percentile"])
    close(mine, "iclip_out")
    assert int((mine != array("iclip_in")).sum()) == debug["changed_pixels"]


@pytest.mark.parametrize("q", [0.0, 37.5, 50.0, 95.0, 99.0, 100.0])
def test_percentile_is_numpys(q):
    values = torch.randn(5, 41, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counted = torch.rand(5, 41, generator=torch.Generator().manual_seed(1)) < 0.6
    counted[3] = False
    counted[4] = torch.arange(41) == 7
    mine = maps.percentile(values, q, counted)
    for i in range(5):
        expected = np.percentile(values[i][counted[i]].numpy(), q) if counted[i].any() else 0.0
        assert float(mine[i]) == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(maps.percentile(values, q), torch.from_numpy(np.percentile(values.numpy(), q, axis=1)))


@pytest.mark.parametrize(("cells", "size", "grid"), [((3, 5), (8, 12), (4, 3)), ((9, 16), (6, 10), (3, 5))])
def test_cell_sums_are_sums_of_the_upsampled_map(cells, size, grid):
    cost = torch.rand(2, *cells, generator=torch.Generator().manual_seed(0))
    slow = upsample(cost, *size).unflatten(1, (grid[0], -1)).unflatten(3, (grid[1], -1)).sum((2, 4))
    torch.testing.assert_close(maps.cell_sums(cost, size, grid), slow)


@pytest.mark.parametrize("make", [lambda x: upsample(x, 26, 39), lambda x: maps.cell_sums(x, (26, 39), (2, 3))])
def test_what_is_kept_from_inference_can_be_differentiated_later(make):
    """Indices and shares are made once for all calls."""
    with torch.inference_mode():
        expected = make(torch.ones(5, 7))
    values = torch.ones(5, 7, requires_grad=True)
    found = make(values)
    found.sum().backward()
    assert torch.equal(found, expected)
    assert values.grad.sum() == 26 * 39
