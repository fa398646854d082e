"""The contract of `Canvases`: every method, every rule that `validate` holds, nothing lost on the way."""

import errno
import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov2kit import Canvases
from ov2kit.canvases import CLIP_MEAN, CLIP_STD, frame_runs
from ov2kit.errors import AssetError, CanvasError, OutputError
from tests.paths import read_golden

PROMPT = read_golden("11_prompt.npz")
PROMPT_META = read_golden("11_prompt_meta.json")
LAYOUT = read_golden("03_block_layout.npz")
LAYOUT_META = read_golden("03_block_layout_meta.json")


def build(plan, *, patch=2, merge=2, blocks=(2, 3), groups=None, seed=0, **fields) -> Canvases:
    """Canvases from a plan: per canvas a frame index (whole frame) or a list of (frame, block row, block col).

    Pixels are 1..255 wherever a block is and black elsewhere.
    """
    rows, columns = blocks
    h, w = rows * merge, columns * merge
    positions = np.full((len(plan), h, w, 3), -1, np.int32)
    for k, content in enumerate(plan):
        listed = (
            content if isinstance(content, list) else [(content, r, c) for r in range(rows) for c in range(columns)]
        )
        for slot, (frame, r, c) in enumerate(listed):
            for a in range(merge):
                for b in range(merge):
                    at = (slot // columns) * merge + a, (slot % columns) * merge + b
                    positions[k, at[0], at[1]] = frame, r * merge + a, c * merge + b
    images = np.random.default_rng(seed).integers(1, 256, (len(plan), 3, h * patch, w * patch), dtype=np.uint8)
    images *= np.repeat(np.repeat(positions[..., 0] >= 0, patch, 1), patch, 2)[:, None]
    frames = sorted(set(positions[..., 0].ravel().tolist()) - {-1})
    defaults = {"frame_times": {f: f / 10 for f in frames}, "fps": 10.0, "signal": "luma"}
    return Canvases(
        torch.from_numpy(images),
        torch.from_numpy(positions),
        torch.tensor(groups if groups is not None else [0] * len(plan), dtype=torch.int32),
        torch.tensor([not isinstance(content, list) for content in plan], dtype=torch.bool),
        patch=patch,
        merge=merge,
        **(defaults | fields),
    )


PLAN = [3, [(4, 0, 1), (4, 1, 0), (7, 0, 0), (7, 0, 2), (7, 1, 2), (8, 0, 0)], 12, [(13, 1, 1), (15, 0, 0)]]


def make(**fields) -> Canvases:
    """Two groups of anchor and P-canvas; the last canvas holds two blocks and four of padding."""
    return build(PLAN, groups=[0, 0, 1, 1], provenance={"preset": "paper"}, **fields)


def test_example_is_valid():
    assert make().validate() == make()


# --- shapes and numbers


def test_counts():
    canvases = make()
    assert len(canvases) == 4
    assert canvases.grid == (4, 6)
    assert canvases.num_tokens == 6 + 6 + 6 + 2
    assert canvases.num_tokens == canvases.prompt().count("<|image_pad|>")
    assert canvases.grid_thw().tolist() == [[4, 4, 6]]
    assert canvases.grid_thw().dtype == torch.int64
    assert repr(canvases) == ("Canvases(4 of 8x12, 20 tokens, 2 groups, patch=2, merge=2, signal='luma', device=cpu)")


def test_segments_by_group_and_by_window():
    canvases = build([1, 2, 3, 4, 5], groups=[0, 0, 0, 2, 2])
    assert canvases.segments().lengths == (72, 48)
    assert canvases.segments(window=4).lengths == (96, 24)
    assert canvases.segments(window=1).lengths == (24,) * 5
    two = Canvases.cat([canvases, canvases])
    assert two.segments().lengths == (72, 48, 72, 48)
    assert two.segments(window=4).lengths == (96, 24, 96, 24)  # windows never span two clips
    assert two.segments().cu_seqlens.tolist() == [0, 72, 120, 192, 240]
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        canvases.segments(window=0)


def test_equal_group_ids_of_two_clips_are_two_segments():
    canvases = build(
        [1, 2], groups=[5, 5], clips=torch.tensor([0, 1], dtype=torch.int32), frame_times=({1: 0.0}, {2: 0.0})
    )
    assert canvases.segments().lengths == (24, 24)


def test_pixel_values_against_numpy():
    canvases = make()
    mean, std, p, m = np.float64(CLIP_MEAN), np.float64(CLIP_STD), 2, 2
    expected = []
    for picture in canvases.images.numpy().astype(np.float64):
        normal = (picture / 255 - mean[:, None, None]) / std[:, None, None]
        for block_row in range(2):
            for block_col in range(3):
                for a in range(m):
                    for b in range(m):
                        y, x = (block_row * m + a) * p, (block_col * m + b) * p
                        expected.append(normal[:, y : y + p, x : x + p].reshape(-1))
    values = canvases.pixel_values()
    assert values.shape == (96, 12)
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values.numpy(), np.stack(expected), rtol=0, atol=2e-6)


def test_pixel_values_with_own_mean_and_std():
    canvases = make()
    values = canvases.pixel_values(mean=(0, 0, 0), std=(1 / 255, 2 / 255, 4 / 255))
    first = canvases.images[0, :, :2, :2].float() / torch.tensor([1.0, 2.0, 4.0])[:, None, None]
    torch.testing.assert_close(values[0], first.reshape(-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", range(len(LAYOUT_META["cases"])))
def test_rows_come_in_golden_order(case):
    """Frames whose pixels name their patch come out as the reference orders positions."""
    merge = LAYOUT_META["cases"][case]["merge"]
    grid = LAYOUT[f"case{case}_grid_thw"]
    if len(grid) != 1:
        grid = grid[:1]
    t, h, w = grid[0].tolist()
    golden = torch.from_numpy(LAYOUT[f"case{case}_positions"][: t * h * w])
    frames = list(dict.fromkeys(golden[:, 0].tolist()))
    canvases = build(frames, patch=1, merge=merge, blocks=(h // merge, w // merge))
    assert torch.equal(canvases.flat_positions().long(), golden)
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    order = torch.arange(t)[:, None, None].expand(t, h, w)
    named = torch.stack([order, y.expand(t, h, w), x.expand(t, h, w)], dim=1).to(torch.uint8)
    values = replace(canvases, images=named).pixel_values(mean=(0, 0, 0), std=(1 / 255,) * 3)
    index = torch.tensor([frames.index(f) for f in golden[:, 0].tolist()])
    torch.testing.assert_close(values, torch.stack([index, golden[:, 1], golden[:, 2]], 1).float(), rtol=0, atol=1e-4)


def test_to_moves_every_tensor():
    moved = make().to("meta")
    for name in ("images", "positions", "groups", "is_anchor", "clips"):
        assert getattr(moved, name).device.type == "meta"
    assert moved.frame_times == make().frame_times
    assert moved.provenance == {"preset": "paper"}
    assert make().to("cpu") == make()


# --- prompt


def test_prompt_by_hand():
    pad = "<|image_pad|>"
    lines = [("0.3", 6), ("0.4", 2), ("0.7", 3), ("0.8", 1), ("1.2", 6), ("1.3", 1), ("1.5", 1)]
    tags = [f"<{s} seconds><|vision_start|>{pad * n}<|vision_end|>" for s, n in lines]
    assert make().prompt() == "".join(tag + "\n" for tag in tags)
    assert make().prompt(newline=False) == "".join(tags)
    assert make().prompt(decimals=2).startswith("<0.30 seconds><|vision_start|>")


def test_prompt_uses_times_not_fps():
    canvases = make(frame_times={3: -0.06, 4: 2.0, 7: 2.0, 8: 2.24, 12: 10.0, 13: 3600.55, 15: 0.0}, fps=1.0)
    stamps = [line.split(">")[0] for line in canvases.prompt().splitlines()]
    seconds = ["-0.1", "2.0", "2.0", "2.2", "10.0", f"{3600.55:.1f}", "0.0"]
    assert stamps == [f"<{s} seconds" for s in seconds]


def test_prompt_of_one_frame_in_two_canvases_is_one_run_but_not_across_clips():
    assert (
        build([5, [(5, 1, 1)]]).prompt() == "<0.5 seconds><|vision_start|>" + "<|image_pad|>" * 7 + "<|vision_end|>\n"
    )
    # Padding between the two ends the run, as in the reference.
    assert (
        build([[(5, 0, 0)], [(5, 1, 1)]]).prompt() == "<0.5 seconds><|vision_start|><|image_pad|><|vision_end|>\n" * 2
    )
    full = build([2])
    two = Canvases.cat([full, replace(full, frame_times={2: 7.0})])
    assert two.prompt() == full.prompt() + full.prompt().replace("0.2", "7.0")


def test_prompt_names_the_frame_without_a_time():
    with pytest.raises(CanvasError, match="no time for source frame 7"):
        replace(make(), frame_times={3: 0.3, 4: 0.4}).prompt()


@pytest.mark.parametrize("case", range(len(PROMPT_META["cases"])))
def test_runs_are_the_golden_ones(case):
    meta = PROMPT_META["cases"][case]
    runs = frame_runs(torch.from_numpy(PROMPT[f"case{case}_positions"][:, 0]), meta["merge"])
    tagged = [[f"<{frame / meta['fps']:.{meta['decimals']}f} seconds>", tokens] for frame, tokens in runs]
    assert tagged == meta["runs"]


# --- the constructor


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("images", torch.zeros(4, 8, 12, 3, dtype=torch.uint8), r"images must be \(K, 3, H, W\) uint8"),
        ("images", torch.zeros(4, 3, 8, 12), "got .*float32"),
        ("images", torch.zeros(4, 3, 8, 13, dtype=torch.uint8), "multiples of patch . merge = 4, got 8 x 13"),
        ("positions", torch.zeros(4, 4, 6, 3, dtype=torch.int64), "positions must be .*int32, got .*int64"),
        ("positions", torch.zeros(4, 6, 4, 3, dtype=torch.int32), r"positions must be \(4, 4, 6, 3\)"),
        ("groups", torch.zeros(3, dtype=torch.int32), r"groups must be \(4,\)"),
        ("is_anchor", torch.zeros(4, dtype=torch.uint8), "is_anchor must be .*bool, got .*uint8"),
        ("clips", torch.zeros(5, dtype=torch.int32), r"clips must be \(4,\)"),
        ("groups", torch.zeros(4, dtype=torch.int32, device="meta"), "groups is on meta, images are on cpu"),
        ("patch", 0, "patch must be at least 1, got 0"),
        ("merge", -1, "merge must be at least 1, got -1"),
        ("fps", (1.0, 2.0), "one number per clip: 1, got 2"),
    ],
)
def test_constructor_refuses(field, value, message):
    with pytest.raises(CanvasError, match=message):
        replace(make(), **{field: value})


# --- validate: one test per rule


def put(canvases, field, at, value):
    tensor = getattr(canvases, field).clone()
    tensor[at] = value
    return replace(canvases, **{field: tensor})


def swap_blocks(canvases, k, first, second):
    """Exchange two blocks of canvas k, pixels and positions, given by their (row, col) on the canvas."""
    positions, images = canvases.positions.clone(), canvases.images.clone()
    pairs = (
        (positions[k], canvases.positions[k], 2),
        (images[k].permute(1, 2, 0), canvases.images[k].permute(1, 2, 0), 4),
    )
    for tensor, source, side in pairs:
        a, b = ((slice(r * side, r * side + side), slice(c * side, c * side + side)) for r, c in (first, second))
        tensor[a], tensor[b] = source[b], source[a]
    return replace(canvases, positions=positions, images=images)


A, B = slice(0, 2), slice(2, 4)  # rows or columns of the first and the second block
BROKEN = {
    "no canvas": (lambda c: build([]), "there is no canvas"),
    "group goes back": (lambda c: put(c, "groups", slice(None), torch.tensor([0, 1, 0, 1])), "canvas 2: .*goes back"),
    "negative group": (lambda c: put(c, "groups", 0, -1), "canvas 0: .*negative"),
    "clip without times": (lambda c: put(c, "clips", 3, 1), "canvas 3: .*beyond the 1 clips"),
    "negative clip": (lambda c: put(c, "clips", 0, -1), "canvas 0: .*negative"),
    "block partly padding": (lambda c: put(c, "positions", (1, 0, 0), -1), "canvas 1: a block is only partly padding"),
    "padding is not -1": (lambda c: put(c, "positions", (3, 2, 0, 1), -2), "canvas 3: .*only partly padding"),
    "half negative": (lambda c: put(c, "positions", (3, 2, 0, 1), 0), "canvas 3: .*only partly padding"),
    "padding not black": (lambda c: put(c, "images", (3, 0, 7, 11), 1), "canvas 3: a padding block is not black"),
    "all padding": (lambda c: put(put(c, "positions", 1, -1), "images", 1, 0), "canvas 1: every block is padding"),
    "two frames in a block": (lambda c: put(c, "positions", (1, 0, 0, 0), 3), "canvas 1: .*2 x 2 neighboring"),
    "patches swapped": (
        lambda c: put(c, "positions", (1, A, A), c.positions[1, A, A].transpose(0, 1)),
        "canvas 1: .*2 x 2 neighboring",
    ),
    "off the block grid": (
        lambda c: put(c, "positions", (1, A, A, 2), c.positions[1, A, A, 2] + 1),
        "canvas 1: .*2 x 2 neighboring",
    ),
    "row outside": (
        lambda c: put(c, "positions", (1, B, slice(4, 6), 1), c.positions[1, B, 4:6, 1] + 4),
        "canvas 1: .*outside the 4 x 6",
    ),
    "column outside": (
        lambda c: put(c, "positions", (3, A, B, 2), c.positions[3, A, B, 2] + 6),
        "canvas 3: .*outside the 4 x 6",
    ),
    "frame without time": (
        lambda c: replace(c, frame_times={3: 0.0}),
        r"canvas 1: no time for source frame\(s\) \[4, 7, 8\]",
    ),
    "time not finite": (lambda c: replace(c, frame_times=c.frame_times | {7: math.nan}), "canvas 1: .*not a finite"),
    "blocks out of order": (lambda c: swap_blocks(c, 1, (0, 0), (0, 1)), "canvas 1: .*increasing"),
    "time goes back": (lambda c: swap_blocks(c, 3, (0, 0), (0, 1)), "canvas 3: .*increasing"),
    "same block twice": (
        lambda c: put(c, "positions", (1, A, B), c.positions[1, A, A]),
        "canvas 1: .*increasing",
    ),
    "anchor of several frames": (lambda c: put(c, "is_anchor", 1, True), "canvas 1: an anchor must be one whole frame"),
    "anchor not whole": (lambda c: put(c, "is_anchor", 3, True), "canvas 3: an anchor must be one whole frame"),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_validate_catches(rule):
    spoil, message = BROKEN[rule]
    with pytest.raises(CanvasError, match=message):
        spoil(make()).validate()


def test_padding_may_lie_anywhere_on_a_canvas():
    canvases = make()
    assert swap_blocks(canvases, 3, (0, 1), (1, 2)).validate() is not None


@st.composite
def valid_canvases(draw):
    merge, patch = draw(st.sampled_from([(1, 2), (2, 1), (2, 2), (3, 1)]))
    rows, columns = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    slots = rows * columns
    cells = [(f, r, c) for f in (0, 1, 5, 40) for r in range(rows) for c in range(columns)]
    block_lists = st.lists(st.sampled_from(cells), min_size=1, max_size=slots, unique=True).map(sorted)
    plan = draw(st.lists(st.one_of(st.sampled_from([0, 1, 5, 40]), block_lists), min_size=1, max_size=5))
    groups = sorted(draw(st.lists(st.integers(0, 3), min_size=len(plan), max_size=len(plan))))
    return build(plan, patch=patch, merge=merge, blocks=(rows, columns), groups=groups, seed=draw(st.integers(0, 9)))


def mutations(c: Canvases):
    """Single changes, each of which breaks the contract whatever the canvases hold."""
    yield lambda k: put(c, "positions", (k, 0, 0, 0), -2)
    yield lambda k: put(c, "positions", (k, slice(None), slice(None), 1), c.positions[k, ..., 1] + c.grid[0] + 1)
    yield lambda k: put(c, "positions", (k, ..., 0), 10_000)  # a frame without a time, or half padding
    yield lambda k: put(c, "groups", k, -1)
    yield lambda k: put(c, "clips", k, 7)
    yield lambda k: replace(c, frame_times={})
    if c.merge > 1:
        yield lambda k: put(c, "positions", (k, 0, 0, 2), c.positions[k, 0, 0, 2] + 1)
        yield lambda k: put(c, "positions", (k, -1, -1, 0), c.positions[k, -1, -1, 0] + 1)


@settings(max_examples=120)
@given(valid_canvases(), st.data())
def test_random_canvases_are_valid_and_mutants_are_not(canvases, data):
    canvases.validate()
    assert canvases.num_tokens == canvases.prompt().count("<|image_pad|>")
    assert canvases.segments().num_tokens == len(canvases.flat_positions()) == len(canvases.pixel_values())
    mutate = data.draw(st.sampled_from(list(mutations(canvases))))
    k = data.draw(st.integers(0, len(canvases) - 1))
    with pytest.raises(CanvasError):
        mutate(k).validate()


# --- cat and split


def test_cat_shifts_ids_and_split_undoes_it():
    first = make()
    second = build([0, [(1, 0, 0)]], groups=[0, 1], signal="none", fps=30.0, provenance={"preset": "release"})
    third = build([9], fps=5.0)
    both = Canvases.cat([first, second, third]).validate()
    assert both.groups.tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert both.clips.tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert both.grid_thw().tolist() == [[4, 4, 6], [2, 4, 6], [1, 4, 6]]
    assert both.fps == (10.0, 30.0, 5.0)
    assert both.signal == "mixed"
    assert both.num_tokens == first.num_tokens + second.num_tokens + third.num_tokens
    assert both.prompt() == first.prompt() + second.prompt() + third.prompt()
    parts = both.split()
    assert parts == [first, second, third]
    assert [p.provenance for p in parts] == [first.provenance, second.provenance, third.provenance]
    nested = Canvases.cat([Canvases.cat([first, second]), third])
    assert nested == both
    assert [p.provenance for p in nested.split()] == [p.provenance for p in parts]


def test_cat_keeps_rows_in_order():
    first, second = make(), make(seed=1)
    both = Canvases.cat([first, second])
    assert torch.equal(both.pixel_values(), torch.cat([first.pixel_values(), second.pixel_values()]))
    assert torch.equal(both.flat_positions(), torch.cat([first.flat_positions(), second.flat_positions()]))


def test_cat_of_one_is_the_same():
    assert Canvases.cat([make()]) == make()
    assert Canvases.cat([make()]).provenance == make().provenance


def test_facts_of_clips_are_tuples_however_they_were_given():
    one, times = build([1, 2]), {1: 0.1, 2: 0.2}
    assert (one.clip_times(), one.clip_fps(), one.clips.tolist()) == ((times,), (10.0,), [0, 0])
    listed = build([1, 2], frame_times=(times,), fps=(10.0,))  # a tuple of one is read as what it holds
    assert (listed.frame_times, listed.fps) == (times, 10.0)
    assert listed == one
    clips = torch.tensor([0, 1], dtype=torch.int32)
    two = build([1, 2], clips=clips, frame_times=({1: 0.1}, {2: 0.2}))  # one rate for both
    assert (two.fps, two.clip_fps(), two.clip_times()) == ((10.0, 10.0), (10.0, 10.0), ({1: 0.1}, {2: 0.2}))
    assert [(part.frame_times, part.fps, part.clips.tolist()) for part in two.split()] == [
        ({1: 0.1}, 10.0, [0]),
        ({2: 0.2}, 10.0, [0]),
    ]
    with pytest.raises(ValueError, match="frame_times must hold one mapping per clip, got an empty tuple"):
        build([1], frame_times=())
    with pytest.raises(ValueError, match="fps must hold one number per clip: 2, got 1"):
        build([1, 2], clips=clips, frame_times=({1: 0.1}, {2: 0.2}), fps=(10.0,))


def test_cat_refuses():
    with pytest.raises(CanvasError, match="at least one"):
        Canvases.cat([])
    for other in (
        build([1], blocks=(3, 2)),
        build([1], patch=1, merge=4, blocks=(2, 3)),
        build([1], patch=4, merge=1, blocks=(2, 3)),
    ):
        with pytest.raises(CanvasError, match="one canvas size, patch and merge"):
            Canvases.cat([make(), other])


def test_comparison():
    assert make() == replace(make(), provenance={})
    assert make() != put(make(), "images", (0, 0, 0, 0), 0)
    assert make() != put(make(), "groups", 3, 2)
    assert make() != replace(make(), frame_times=make().frame_times | {3: 0.31})
    assert make() != replace(make(), signal="none")
    assert make() != build(PLAN[:3], groups=[0, 0, 1])
    assert make() != "canvases"


# --- save and load


@pytest.mark.parametrize("clips", [1, 2])
def test_save_and_load_lose_nothing(tmp_path, clips):
    canvases = Canvases.cat([make(), build([1], signal="none", fps=29.97)][:clips])
    path = canvases.save(tmp_path / "deep" / "er")
    assert path == tmp_path / "deep" / "er" / "canvases.safetensors"
    loaded = Canvases.load(tmp_path / "deep" / "er")
    assert loaded == canvases
    assert loaded.provenance == canvases.provenance
    assert [p.name for p in path.parent.iterdir()] == ["canvases.safetensors"]
    loaded.validate()
    build([2]).save(path.parent)  # a second save replaces the first
    assert Canvases.load(path.parent) == build([2])


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), KeyboardInterrupt()])
def test_interrupted_save_leaves_nothing(tmp_path, monkeypatch, error):
    def write_half(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise error

    raised = OutputError if isinstance(error, OSError) else KeyboardInterrupt

    kept = make().save(tmp_path / "old")
    monkeypatch.setattr("safetensors.torch.save_file", write_half)
    for folder in ("old", "new"):
        with pytest.raises(raised):
            build([1]).save(tmp_path / folder)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert [p.name for p in (tmp_path / "old").iterdir()] == [kept.name]
    assert Canvases.load(tmp_path / "old") == make()


def test_save_refuses_what_json_cannot_hold_before_writing(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        replace(make(), provenance={"tensor": torch.ones(1)}).save(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_save_into_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for place in ("taken", "taken/below"):
        with pytest.raises(OutputError, match=r"taken.*what should be a folder is a file"):
            make().save(tmp_path / place)
    assert (tmp_path / "taken").read_text() == "mine"


def edit_header(path: Path, edit) -> None:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    ours = json.loads(header["__metadata__"]["ov2kit"])
    edit(header, ours)
    header["__metadata__"]["ov2kit"] = json.dumps(ours)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])


SPOILT = {
    "missing": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not tensors at all"),
    "other format": lambda path: edit_header(path, lambda h, m: m.update(format="x")),
    "no merge": lambda path: edit_header(path, lambda h, m: m.pop("merge")),
    "merge is text": lambda path: edit_header(path, lambda h, m: m.update(merge="2")),
    "times are text": lambda path: edit_header(path, lambda h, m: m.update(frame_times=["ab"])),
    "no times": lambda path: edit_header(path, lambda h, m: m.update(frame_times=[])),
    "sizes do not fit": lambda path: edit_header(path, lambda h, m: m.update(patch=3)),
    "tensor missing": lambda path: edit_header(path, lambda h, m: h.update(group=h.pop("groups"))),
}


@pytest.mark.parametrize("name", SPOILT)
def test_load_refuses(tmp_path, name):
    path = make().save(tmp_path)
    SPOILT[name](path)
    said = {"missing": "no such file", "other format": "expected format 'ov2kit.canvases.2', got 'x'"}
    with pytest.raises(
        AssetError, match=f"canvases.safetensors: {said.get(name, 'not a file written by .*load_assets')}"
    ):
        Canvases.load(tmp_path)
