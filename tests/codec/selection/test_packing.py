"""Canvas packing against the public tool's canvases, and block by block against the sources."""

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit.canvases import Canvases
from ov2kit.codec.selection.blocks import SaliencyBlockSelector, TopKBlockSelector
from ov2kit.codec.selection.packing import CanvasPacker
from ov2kit.geometry import from_block_layout, to_block_layout
from tests.paths import read_golden

META = read_golden("07_groups_topk_meta.json")
ARRAYS = read_golden("07_groups_topk.npz")


@pytest.mark.parametrize("case", META["cases"], ids=lambda c: f"case{c['case']}")
def test_release_canvases_from_scores_to_pixels(case):
    """Top-k and packing together: scores and frames in, the tool's canvases and positions out."""
    name = f"case{case['case']}"
    frames = torch.from_numpy(ARRAYS[f"{name}_frames_bgr"]).flip(-1).permute(0, 3, 1, 2)
    frame_ids = torch.from_numpy(ARRAYS[f"{name}_frame_ids"])
    merge = case["block_size"]
    rows, columns = (side // merge for side in case["grid_hw"])
    scores = torch.from_numpy(ARRAYS[f"{name}_block_scores"]).reshape(-1, rows, columns)
    good = torch.tensor(case["good_mask"])
    p_canvases = case["images_per_group"] - 1
    select, pack = TopKBlockSelector(p_canvases), CanvasPacker(case["patch"], merge)
    images, positions = [], []
    for group in case["groups"]:
        own = slice(group["start"], group["end"])
        usable = good[own]
        anchor = int(usable.int().argmax())  # the first good frame stands in for a bad first one
        assert frame_ids[own][anchor] == group["anchor_frame"]
        chosen = select(scores[own], anchor=anchor, good=usable)
        by_id = [[int(frame_ids[own][t]), r, c] for t, r, c in chosen.tolist()]
        assert by_id == group["selected_blocks"]
        assert p_canvases * rows * columns - len(chosen) == group["padding_blocks"]
        canvases, where, is_anchor = pack(frames[own], frame_ids[own], anchor, chosen, p_canvases=p_canvases)
        assert is_anchor.tolist() == [True] + [False] * p_canvases
        images.append(canvases)
        positions.append(where)
    images, positions = torch.cat(images), torch.cat(positions)
    assert torch.equal(images.permute(0, 2, 3, 1), torch.from_numpy(ARRAYS[f"{name}_canvases_rgb"]))
    assert positions.dtype == torch.int32
    raster = torch.from_numpy(ARRAYS[f"{name}_src_position_raster"])
    assert torch.equal(positions.reshape(-1, 3), raster)
    in_blocks = torch.from_numpy(ARRAYS[f"{name}_src_position_block_order"])
    assert torch.equal(to_block_layout(positions, merge), in_blocks)
    k, h, w = len(images), *case["grid_hw"]
    canvas_grid = torch.stack(torch.meshgrid(torch.arange(k), torch.arange(h), torch.arange(w), indexing="ij"), -1)
    packed = torch.from_numpy(ARRAYS[f"{name}_patch_position"])
    assert torch.equal(to_block_layout(canvas_grid, merge).int(), packed)


@pytest.mark.parametrize("j", range(len(META["pack"])))
def test_plain_packing_matches_release(j):
    """The tool's patch lists, hidden in shuffled source frames, come back as the tool's canvases."""
    meta = META["pack"][j]
    patch, h, w = meta["patch"], meta["hb"], meta["wb"]
    merge = 1 if meta["placement_order"] == "wh_raster" else meta["block_size"]
    patches = torch.from_numpy(ARRAYS[f"pack{j}_patches"])
    expected = torch.from_numpy(ARRAYS[f"pack{j}_canvases"]).permute(0, 3, 1, 2)
    count = len(expected)
    per_canvas = h * w // merge**2
    blocks = patches.unflatten(0, (count * per_canvas, merge**2))
    order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(j))
    hidden = from_block_layout(blocks[order].flatten(0, 1), (count, h, w), merge)
    frames = rearrange(hidden, "t h w y x c -> t c (h y) (w x)")
    frames = torch.cat([torch.zeros_like(frames[:1]), frames])  # the anchor comes first and is of no interest
    where = order.argsort()
    columns = w // merge
    chosen = torch.stack([where // per_canvas + 1, where % per_canvas // columns, where % columns], 1)
    images, positions, _ = CanvasPacker(patch, merge)(frames, torch.arange(count + 1), 0, chosen)
    assert torch.equal(images[1:], expected)
    assert torch.equal(images[0], frames[0])
    packed = torch.from_numpy(ARRAYS[f"pack{j}_patch_position"])
    cells = torch.stack(torch.meshgrid(torch.arange(count), torch.arange(h), torch.arange(w), indexing="ij"), -1)
    assert torch.equal(to_block_layout(cells, merge).int(), packed)
    assert (positions[1:] >= 0).all()


shapes = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))


def draw_group(data, frames, rows, columns, side):
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    pictures = torch.randint(1, 256, (frames, 3, rows * side, columns * side), generator=generator, dtype=torch.uint8)
    indices = torch.randint(0, 9, (frames,), generator=generator).add(1).cumsum(0)
    scores = torch.rand(frames, rows, columns, generator=generator)
    return pictures, indices, scores


@settings(max_examples=80)
@given(shapes, st.integers(0, 3), st.booleans(), st.data())
def test_every_block_holds_the_pixels_of_its_source(shape, p_canvases, interleaved, data):
    frames, rows, columns, patch, merge = shape
    side = patch * merge
    pictures, indices, scores = draw_group(data, frames, rows, columns, side)
    anchor = data.draw(st.integers(0, frames - 1))
    chosen = SaliencyBlockSelector(p_canvases)(scores, anchor=anchor)
    given_pictures = pictures.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if interleaved else pictures
    images, positions, is_anchor = CanvasPacker(patch, merge)(
        given_pictures, indices, anchor, chosen, p_canvases=p_canvases
    )
    assert images.is_contiguous()
    assert torch.equal(images[0], pictures[anchor])
    times = {int(i): float(i) for i in indices}
    full = -(-len(chosen) // (rows * columns))
    real = slice(0, 1 + full)  # a canvas of padding alone is legal here, and left out of the contract
    groups = torch.zeros(1 + full, dtype=torch.int32)
    Canvases(images[real], positions[real], groups, is_anchor[real], times, patch, merge).validate()
    assert (positions[1 + full :] == -1).all()
    # Backwards: put every patch of the P-canvases where it says it came from; nothing else may differ.
    patches = rearrange(images, "k c (h y) (w x) -> k h w c y x", y=patch, x=patch)
    source = rearrange(pictures, "t c (h y) (w x) -> t h w c y x", y=patch, x=patch)
    filled = positions[..., 0] >= 0
    assert int(filled[1:].sum()) == len(chosen) * merge**2
    frame = (positions[filled][:, :1] == indices).int().argmax(1)
    row, column = positions[filled][:, 1].long(), positions[filled][:, 2].long()
    assert torch.equal(patches[filled], source[frame, row, column])
    assert not patches[~filled].any()


@settings(max_examples=30)
@given(shapes, st.integers(1, 3), st.data())
def test_batches_equal_singles(shape, p_canvases, data):
    frames, rows, columns, patch, merge = shape
    groups = [draw_group(data, frames, rows, columns, patch * merge) for _ in range(3)]
    pictures, indices, scores = (torch.stack(part) for part in zip(*groups, strict=True))
    lengths = torch.tensor([data.draw(st.integers(1, frames)) for _ in range(3)])
    chosen, counts = SaliencyBlockSelector(p_canvases).forward_batch(scores, lengths)
    anchors = torch.zeros(3, dtype=torch.long)
    pack = CanvasPacker(patch, merge)
    batch = pack.forward_batch(pictures, indices, anchors, chosen)
    for i in range(3):
        single = pack(pictures[i], indices[i], 0, chosen[i, : counts[i]], p_canvases=p_canvases)
        for mine, alone in zip(batch, single, strict=True):
            assert torch.equal(mine[i], alone)


def test_canvas_of_each_block_may_be_given():
    pictures, indices = torch.randint(1, 256, (3, 3, 4, 4), dtype=torch.uint8), torch.tensor([5, 6, 9])
    chosen = torch.tensor([[1, 0, 0], [1, 1, 1], [2, 0, 1]])
    images, positions, _ = CanvasPacker(2, 1)(pictures, indices, 0, chosen, torch.tensor([0, 1, 1]))
    assert positions[1, 0].tolist() == [[6, 0, 0], [-1, -1, -1]]
    assert positions[2, 0].tolist() == [[6, 1, 1], [9, 0, 1]]
    assert torch.equal(images[1, :, :2, :2], pictures[1, :, :2, :2])
    assert torch.equal(images[2, :, :2, 2:], pictures[2, :, :2, 2:])
    assert not images[1, :, 2:].any()


def test_packer_says_what_is_wrong():
    pack = CanvasPacker(14, 2)
    frames, indices, none = torch.zeros(2, 3, 28, 56, dtype=torch.uint8), torch.arange(2), torch.zeros(0, 3).long()
    with pytest.raises(ValueError, match=r"multiples of patch \* merge = 28, got 28 x 42"):
        pack(frames[..., :42], indices, 0, none)
    with pytest.raises(ValueError, match=r"uint8, got \(2, 3, 28, 56\) torch.float32"):
        pack(frames.float(), indices, 0, none)
    with pytest.raises(ValueError, match="3 blocks need 2 P-canvases of 2 blocks, got p_canvases=1"):
        pack(frames, indices, 0, torch.zeros(3, 3).long(), p_canvases=1)
    with pytest.raises(ValueError, match="takes 2 blocks of 1 x 2, got 3 for one"):
        pack(frames, indices, 0, torch.zeros(3, 3).long(), torch.zeros(3).long())
    with pytest.raises(ValueError, match="each of 2 frames"):
        pack(frames, torch.arange(3), 0, none)


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
def test_packing_on_a_gpu_equals_the_cpu():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (8, 3, 280, 504), generator=generator, dtype=torch.uint8)
    scores = torch.rand(8, 10, 18, generator=generator)
    chosen = SaliencyBlockSelector()(scores)[:500]
    here = CanvasPacker()(pictures, torch.arange(8), 0, chosen)
    there = CanvasPacker()(pictures.cuda(), torch.arange(8).cuda(), 0, chosen.cuda())
    for mine, other in zip(here, there, strict=True):
        assert other.is_cuda
        assert torch.equal(mine, other.cpu())


@pytest.mark.parametrize("placed", [False, True])
def test_pictures_are_taken_one_after_the_other_and_only_those_shown(placed):
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (6, 3, 56, 84), dtype=torch.uint8, generator=generator)
    chosen = torch.randperm(3 * 6, generator=generator)[:11].sort().values
    blocks = torch.stack([torch.tensor([0, 2, 5])[chosen // 6], chosen // 3 % 2, chosen % 3], 1)
    canvas = torch.tensor([0] * 4 + [2] * 6 + [3]) if placed else None
    taken = []

    class Pictures(list):
        def __getitem__(self, place):
            taken.append(place)
            return super().__getitem__(place)

    packer = CanvasPacker(14, 2)
    arguments = (torch.arange(6) * 10, 3, blocks, canvas)
    joined, single = packer(frames, *arguments), packer(Pictures(frames.unbind()), *arguments)
    assert all(torch.equal(a, b) for a, b in zip(joined, single, strict=True))
    runs = [place for i, place in enumerate(taken) if i == 0 or taken[i - 1] != place]
    assert runs == [3, 0, 2, 5]


def test_pictures_of_other_sizes_are_refused():
    pictures = [torch.zeros(3, 28, 56, dtype=torch.uint8), torch.zeros(3, 56, 56, dtype=torch.uint8)]
    with pytest.raises(ValueError, match=r"frames must all be \(3, 28, 56\) uint8, got \(3, 56, 56\)"):
        CanvasPacker(14, 2)(pictures, torch.arange(2), 0, torch.tensor([[1, 0, 0]]))
