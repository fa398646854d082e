"""The order of patches in a file: raster or by blocks, told or found out."""

import numpy as np
import pytest
import torch

from ov2kit.codec.assets.loading import load_assets
from ov2kit.codec.assets.order import broken_canvas, find_order, from_raster, to_raster
from ov2kit.codec.assets.saving import save_assets
from ov2kit.errors import AssetError
from ov2kit.geometry import to_block_layout
from tests.codec.assets.folders import edit_meta, make_canvases, write_public


@pytest.mark.parametrize("merge", [1, 2, 3])
def test_orders_are_inverse_and_agree_with_the_model_order(merge):
    rng = np.random.default_rng(merge)
    raster = rng.integers(0, 99, (3, 6, 6, 3)).astype(np.int32)
    for order in ("raster", "block"):
        flat = from_raster(raster, merge, order)
        np.testing.assert_array_equal(to_raster(flat.reshape(3, 36, 3), (6, 6), merge, order), raster)
    block = to_block_layout(torch.from_numpy(raster), merge).numpy()
    np.testing.assert_array_equal(from_raster(raster, merge, "block"), block)


def test_an_order_that_cannot_be_told_is_an_error(tmp_path):
    canvases = make_canvases()
    rgb = canvases.images.permute(0, 2, 3, 1).numpy()
    shuffled = np.random.default_rng(0).permutation(canvases.positions.numpy().reshape(-1, 3))
    folder = write_public(tmp_path / "clip", rgb, shuffled, {"patch": 4})
    with pytest.raises(AssetError, match=r'src_patch_position.npy: .*neither in raster order.*order="raster"'):
        load_assets(folder)
    assert load_assets(folder, order="raster").positions.reshape(-1, 3).equal(torch.from_numpy(shuffled))


def test_both_orders_fit_and_differ(monkeypatch):
    """Cannot happen with whole blocks of 2 x 2, but a check that trusts that would guess silently."""
    monkeypatch.setattr("ov2kit.codec.assets.order.broken_canvas", lambda positions, merge: None)
    positions = make_canvases().positions.numpy().reshape(4, 24, 3)
    with pytest.raises(AssetError, match="the two differ"):
        find_order(positions, (4, 6), 2, "here")


def test_padding_alone_says_nothing_about_order():
    positions = make_canvases().positions.numpy().reshape(4, 24, 3).copy()
    positions[1:] = -1
    assert find_order(positions, (4, 6), 2, "here") == "raster"
    block = from_raster(positions.reshape(4, 4, 6, 3), 2, "block").reshape(4, 24, 3)
    assert find_order(block, (4, 6), 2, "here") == "block"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.__setitem__((1, 0, 0, 0), 77),  # one patch of another frame
        lambda p: p.__setitem__((1, 0, 0), -1),  # a block partly padding
        lambda p: p.__setitem__((1, slice(0, 2), slice(0, 2), 2), p[1, :2, :2, 2] + 1),  # off the block grid
        lambda p: p.__setitem__((1, slice(0, 2), slice(0, 2), 1), p[1, :2, :2, 1] + 4),  # below the picture
    ],
)
def test_a_block_that_is_not_whole_is_seen(spoil):
    positions = make_canvases().positions.numpy().copy()
    assert broken_canvas(positions, 2) is None
    spoil(positions)
    assert broken_canvas(positions, 2) == 1


def test_declared_order_is_checked(tmp_path):
    out = save_assets(make_canvases(), tmp_path / "clip")
    edit_meta(out, order="block")
    with pytest.raises(AssetError, match="says block order, but"):
        load_assets(out)
