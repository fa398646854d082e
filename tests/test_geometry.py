"""Sizes, grids and token order against the public tools' own numbers."""

import pytest
import torch

from ov2kit.canvases import frame_runs
from ov2kit.geometry import from_block_layout, grid_positions, smart_resize, to_block_layout
from tests.paths import read_golden

SIZES = read_golden("04_sizing_tables.json")
LAYOUT = read_golden("03_block_layout_meta.json")
PROMPT = read_golden("11_prompt_meta.json")


@pytest.mark.parametrize(
    ("table", "rule"),
    [("smart_resize_codec", "codec"), ("smart_resize_hf_image", "image"), ("smart_resize_video", "video")],
)
def test_smart_resize_matches_public_tables(table, rule):
    columns = SIZES[table]["columns"]
    assert len(SIZES[table]["rows"]) >= 100
    for *values, expected in SIZES[table]["rows"]:
        row = dict(zip(columns, values, strict=False))
        factor = row.get("factor") or row.get("align_patch_size") or row["patch_size"]
        bounds = (row["min_pixels"], row["max_pixels"])
        if isinstance(expected, dict):
            with pytest.raises(ValueError, match="smart_resize"):
                smart_resize(row["height"], row["width"], factor, *bounds, rule=rule)
        else:
            assert list(smart_resize(row["height"], row["width"], factor, *bounds, rule=rule)) == expected, row


@pytest.mark.parametrize("case", LAYOUT["cases"], ids=lambda c: f"case{c['case']}")
def test_block_layout_matches_release(case):
    expected = torch.from_numpy(read_golden("03_block_layout.npz")[f"case{case['case']}_positions"])
    frames = case["frame_indices"] or []
    rows = []
    for i, (t, h, w) in enumerate(case["grid_thw"]):
        indices = frames[i] if i < len(frames) else None
        raster = grid_positions(t, h, w, indices).view(t, h, w, 3)
        blocks = to_block_layout(raster, case["merge"])
        assert torch.equal(from_block_layout(blocks, (t, h, w), case["merge"]), raster)
        rows.append(blocks)
    assert torch.equal(torch.cat(rows), expected)


def test_block_layout_reorders_any_rows():
    arrays = read_golden("03_block_layout.npz")
    count = sum(name.endswith("_mthw") for name in arrays)
    assert count > 0
    for j in range(count):
        merge, t, h, w = arrays[f"reorder{j}_mthw"].tolist()
        rows = torch.from_numpy(arrays[f"reorder{j}_in"])
        out = to_block_layout(rows.view(t, h, w, *rows.shape[1:]), merge)
        assert torch.equal(out, torch.from_numpy(arrays[f"reorder{j}_out"]))


@pytest.mark.parametrize("error", LAYOUT["errors"], ids=lambda e: e["exception"])
def test_block_layout_refuses_what_the_release_refuses(error):
    t, h, w = error["grid_thw"][0]
    frames = error["frame_indices"]
    with pytest.raises(ValueError, match=r"got"):
        to_block_layout(grid_positions(t, h, w, frames and frames[0]).view(t, h, w, 3), error["merge"])


@pytest.mark.parametrize("case", PROMPT["cases"], ids=lambda c: f"case{c['case']}")
def test_prompt_runs_match_release(case):
    positions = torch.from_numpy(read_golden("11_prompt.npz")[f"case{case['case']}_positions"])
    runs = [
        [f"<{frame / case['fps']:.{case['decimals']}f} seconds>", tokens]
        for frame, tokens in frame_runs(positions[:, 0], case["merge"])
    ]
    assert runs == case["runs"]
