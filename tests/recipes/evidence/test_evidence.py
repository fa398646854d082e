"""The procedural set, its canvases, the read-out and the small model of the evidence."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
import torch

from ov2kit import Segments
from ov2kit.encoders import OneVisionEncoder
from ov2kit.errors import Ov2kitError
from ov2kit.recipes import build_tokenizers
from ov2kit.recipes.architecture.parts import PositionsName, connectors, position_module
from ov2kit.recipes.data.visual_tokenizers import SaliencyName
from ov2kit.recipes.evidence.films.actors import distractor, event_times, jumper
from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.encode import write_video
from ov2kit.recipes.evidence.films.jumpset import JumpsetError, make_jumpset
from ov2kit.recipes.evidence.films.scene import render
from ov2kit.recipes.evidence.runs.canvas_store import (
    MERGE,
    PATCH,
    _tokenizer,
    build_canvases,
    mirrored,
    read_canvases,
    read_facts,
)
from ov2kit.recipes.evidence.runs.clip_batch import pack
from ov2kit.recipes.evidence.runs.flops import encoder_flops
from ov2kit.recipes.evidence.runs.one_run import run_variant
from ov2kit.recipes.evidence.runs.readout import PLACE_WAVES, TimeReadout, event_targets, peaks, place_waves
from ov2kit.recipes.evidence.runs.small_model import JumpModel
from ov2kit.recipes.evidence.runs.variant import ConnectorName, SeenBy, SweepError, Variant
from ov2kit.recipes.evidence.sweep import read_sweep
from ov2kit.recipes.metrics.start_times import parse_answer
from ov2kit.recipes.prompt.layout import Visibility

SHORT = Difficulty(seconds=(2.0, 2.4))
STILL = Difficulty(
    seconds=(4.0, 4.0), jumpers=(1, 1), distractors=(0, 0), noise=0.0, drift=0.0, lighting=0.0, feints=0.0
)
TIMES = np.arange(250) / 25


@pytest.fixture(scope="module")
def jumpset(tmp_path_factory) -> Path:
    return make_jumpset(tmp_path_factory.mktemp("sets") / "mix", (2, 1, 2), seed=3, size=64, difficulty=SHORT)


@pytest.fixture(scope="module")
def stored(jumpset, tmp_path_factory):
    """Folder of the canvases of a variant, by its options."""
    folders = {}

    def make(**options) -> Path:
        variant = Variant.of(options)
        if variant.canvas_key() not in folders:
            folders[variant.canvas_key()] = tmp_path_factory.mktemp("canvases")
            build_canvases(variant, jumpset, folders[variant.canvas_key()])
        return folders[variant.canvas_key()]

    return make


def lowest_red_row(frame: np.ndarray) -> int:
    red = (frame[..., 0] > 150) & (frame[..., 1] < 110) & (frame[..., 2] < 110)
    return int(np.flatnonzero(red.any(axis=1)).max())


def test_feet_leave_the_ground_at_the_noted_times_and_at_no_other():
    clip = render(11, STILL, size=96, fps=30)
    assert len(clip.starts) >= 2
    feet = np.array([lowest_red_row(frame) for frame in clip.frames])
    times = np.arange(len(feet)) / 30
    in_air = np.zeros(len(feet), dtype=bool)
    for start in clip.starts:
        assert feet[np.searchsorted(times, start - 0.02)] - feet[np.searchsorted(times, start + 0.16)] >= 5
        in_air |= (times > start) & (times < start + STILL.flight[1])
    assert np.ptp(feet[~in_air]) <= 2  # it stands everywhere else, also crouching


def test_a_seed_decides_every_pixel():
    one, two, other = render((5, 0, 1), SHORT), render((5, 0, 1), SHORT), render((5, 1, 1), SHORT)
    assert one.starts == two.starts
    assert np.array_equal(one.frames, two.frames)
    assert one.frames.shape != other.frames.shape or not np.array_equal(one.frames, other.frames)


def test_a_jumper_changes_its_place_in_the_air_only_unless_it_feints():
    shuffled = crouched = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        knobs = Difficulty(feints=0.0 if seed < 20 else 1.0)
        actor, starts = jumper(rng, TIMES, 10.0, knobs)
        moving = np.abs(np.diff(actor.x, append=actor.x[-1])) > 1e-9
        flying = actor.air > 1e-9
        assert actor.x.min() >= 0.1199
        assert actor.x.max() <= 0.8801
        assert sum(np.diff(flying.astype(int), prepend=0) == 1) == len(starts)
        on_foot = moving & ~(flying | np.roll(flying, -1) | np.roll(flying, 1))
        if seed < 20:
            assert not on_foot.any()
        else:
            shuffled += bool(on_foot.any())
            crouched += bool((actor.squat[~np.roll(flying, 6) & ~np.roll(flying, -6) & ~flying] > 0.5).any())
    assert shuffled >= 10
    assert crouched >= 10


def test_events_of_one_object_keep_their_distance_and_vary():
    knobs = Difficulty(pause=(0.4, 1.0), flight=(0.3, 0.5))
    gaps = []
    for seed in range(20):  # long, or the pauses that do not end in time would be missed
        events = event_times(np.random.default_rng(seed), 400.0, knobs)
        assert all(0.3 <= length <= 0.5 for _, length in events)
        assert events[-1][0] + events[-1][1] <= 399.9
        gaps += [b - (a + length) for (a, length), (b, _) in pairwise(events)]
    assert min(gaps) >= 0.39  # starts are rounded to hundredths
    assert np.mean(gaps) == pytest.approx(1.4, abs=0.05)
    assert np.std(gaps) == pytest.approx(1.0, abs=0.1)  # of an exponential: its mean


def test_distractors_rest_and_never_look_like_a_jump():
    moved = []
    for seed in range(60):
        for rest in (1.5, 0.0):
            actor = distractor(np.random.default_rng(seed), TIMES, 10.0, Difficulty(rest=rest))
            floats = actor.air.max() > 0
            assert not floats or actor.air.min() > 0.09  # one that floats never touches the ground
            moved.append((rest, float((np.abs(np.diff(actor.air if floats else actor.x)) > 1e-5).mean())))
    share = {rest: np.mean([m for r, m in moved if r == rest]) for rest in (1.5, 0.0)}
    assert 0.2 < share[1.5] < 0.7
    assert share[0.0] > 0.9


def test_glow_begins_at_the_noted_times_and_nothing_else_happens():
    knobs = Difficulty(
        event="glow", seconds=(6.0, 6.0), jumpers=(1, 1), noise=0.0, drift=0.0, lighting=0.0, distractors=(0, 0)
    )
    clip = render(4, knobs, size=64, fps=25)
    brighter = clip.frames.astype(int).sum(axis=(1, 2, 3)) - int(clip.frames[0].astype(int).sum())
    times = np.arange(len(brighter)) / 25
    glowing = np.zeros(len(times), dtype=bool)
    for start in clip.starts:
        own = (times > start + 0.08) & (times < start + knobs.flight[0] - 0.04)
        assert brighter[own].min() > 500
        glowing |= (times > start) & (times < start + knobs.flight[1])
    assert len(clip.starts) >= 2
    assert np.abs(brighter[~glowing]).max() == 0


def test_snow_and_switched_light_are_where_they_should_be():
    quiet = {"seconds": (6.0, 6.0), "noise": 0.0, "drift": 0.0, "jumpers": (0, 0), "distractors": (0, 0)}
    snowy = render(0, Difficulty(**quiet, lighting=0.0, snow=0.5), size=64).frames.astype(int)
    change = np.abs(np.diff(snowy, axis=0)).mean(axis=(0, 2, 3))
    assert change[:32].min() > 50
    assert change[32:].max() == 0
    switched = render(0, Difficulty(**quiet, lighting=0.3, switches=0.5), size=64).frames.mean(axis=(1, 2, 3))
    steady = render(0, Difficulty(**quiet, lighting=0.3, switches=0.0), size=64).frames.mean(axis=(1, 2, 3))
    assert np.abs(np.diff(steady, 2)).max() < 0.3  # gray levels: slow change is smooth
    assert np.abs(np.diff(switched, 2)).max() > 4


def test_the_widest_pan_stays_on_the_background():
    clip = render(0, Difficulty(seconds=(20.0, 20.0), drift=0.4), size=32)
    assert clip.frames.shape == (500, 32, 32, 3)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"event": "walk"}, "unknown event 'walk'; known: jump, glow"),
        ({"seconds": (6.0, 5.0)}, r"seconds\[0\] must not be greater than seconds\[1\], got .*6.0.*5.0"),
        ({"snow": 1.5}, "snow must be from 0 to 1, got 1.5"),
        ({"pause": (-1.0, 1.0)}, r"pause\[0\] must be at least 0, got -1.0"),
        ({"drift": 0.5}, "drift must be from 0 to 0.4, got 0.5"),
    ],
)
def test_impossible_knobs_are_named(knobs, message):
    with pytest.raises(ValueError, match=message):
        Difficulty(**knobs)


@pytest.mark.parametrize(
    ("encoding", "kinds"), [("x264-medium", "IPB"), ("x264-nobframes", "IP"), ("x264-intra", "I"), ("hevc", "IPB")]
)
def test_encodings_are_what_they_are_called_and_repeat(tmp_path, encoding, kinds):
    clip = render(2, SHORT, size=64, fps=25)
    paths = [tmp_path / f"{name}.mp4" for name in "ab"]
    for path in paths:
        write_video(path, clip.frames, 25, encoding)
    if encoding != "hevc":  # x265 makes another file each time: there both have to be right
        assert paths[0].read_bytes() == paths[1].read_bytes()
    for path in paths:
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
            assert container.streams.video[0].codec_context.name == ("hevc" if encoding == "hevc" else "h264")
        assert {"?IPB"[int(frame.pict_type)] for frame in frames} == set(kinds)
        assert [round(frame.time * 25) for frame in frames] == list(range(len(clip.frames)))
        error = frames[10].to_ndarray(format="rgb24").astype(float) - clip.frames[10]
        assert np.sqrt((error**2).mean()) < 12  # gray levels; chroma is halved and noise is thrown away


def test_set_has_the_jumpscore_layout(jumpset):
    lists = {name: json.loads((jumpset / f"{name}.json").read_text()) for name in ("train", "val", "test")}
    assert [len(lists[name]) for name in ("train", "val", "test")] == [2, 1, 2]
    assert json.loads((jumpset / "annotations.json").read_text()) == lists["test"]
    records = [record for own in lists.values() for record in own]
    for record in records:
        assert set(record) == {"id", "video", "question", "answer"}
        assert (jumpset / record["video"]).is_file()
        split, number = record["id"].split("_")
        clip = render((3, ("train", "val", "test").index(split), int(number)), SHORT, 64, 25)
        assert parse_answer(record["answer"]) == list(clip.starts)
    assert len({record["answer"] for record in records}) >= 4


def test_same_arguments_same_bytes_and_no_overwriting(jumpset, tmp_path):
    again = make_jumpset(tmp_path / "again", (2, 1, 2), seed=3, size=64, difficulty=SHORT)
    for path in sorted(jumpset.rglob("*.*")):
        twin = again / path.relative_to(jumpset)
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(twin.read_bytes()).digest(), path.name
    with pytest.raises(JumpsetError, match="again: exists already"):
        make_jumpset(again, 8)
    with pytest.raises(Ov2kitError, match=r"unknown encoding 'mpeg9'.*x264-medium"):
        make_jumpset(tmp_path / "x", 8, encoding="mpeg9")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"]


@pytest.mark.parametrize("budget", [4, 8])
def test_budgets_are_equal_to_the_token(stored, budget):
    for options in (
        {"source": "frames"},
        {"source": "codec"},
        {"source": "codec", "grouping": "container"},
        {"source": "codec", "saliency": "random"},
        {"source": "codec", "block": 2},
    ):
        facts = read_facts(stored(budget=budget, **options), "test")
        assert facts["tokens"] == [budget * 16] * 2, options


def test_stored_clips_hold_the_pictures_times_and_answers(stored, jumpset):
    clips = read_canvases(stored(source="frames", budget=4), "test")
    records = json.loads((jumpset / "test.json").read_text())
    for clip, record in zip(clips, records, strict=True):
        assert list(clip.starts) == json.loads(record["answer"])
        with av.open(str(jumpset / record["video"])) as container:
            rate = float(container.streams.video[0].average_rate)
            frames = list(container.decode(video=0))
        assert clip.duration == pytest.approx(len(frames) / rate, abs=0.05)
        for canvas in range(4):
            index = int(clip.positions[canvas * 16, 0])
            assert float(clip.seconds[canvas * 16]) == pytest.approx(frames[index].time, abs=1e-4)
            coded = torch.from_numpy(frames[index].to_ndarray(format="yuv420p")[:PATCH, :PATCH]).float()
            corner = clip.patches[canvas * 16].view(3, PATCH, PATCH).float()
            shown = (torch.tensor([0.299, 0.587, 0.114])[:, None, None] * corner).sum(0)  # what chroma leaves alone
            assert (shown - (coded - 16) * 255 / 219).abs().mean() < 0.4  # gray levels: rounding


def test_blank_clips_have_the_times_of_frames_and_nothing_to_see(stored):
    blank, frames = (read_canvases(stored(source=source, budget=4), "test") for source in ("blank", "frames"))
    for nothing, something in zip(blank, frames, strict=True):
        assert not nothing.patches.any()
        assert something.patches.float().std() > 10
        assert torch.equal(nothing.positions, something.positions)
        assert torch.equal(nothing.seconds, something.seconds)
        assert nothing.starts == something.starts


def test_mirroring_turns_the_whole_picture(stored):
    clip = read_canvases(stored(source="frames", budget=4), "test")[0]
    turned = mirrored(clip, 4)

    def picture(of) -> torch.Tensor:
        shown = torch.zeros(3, 64, 64, dtype=torch.uint8)
        for patch, (_, row, column) in zip(of.patches[:16], of.positions[:16].tolist(), strict=True):
            place = (slice(None), slice(row * PATCH, (row + 1) * PATCH), slice(column * PATCH, (column + 1) * PATCH))
            shown[place] = patch.view(3, PATCH, PATCH)
        return shown

    assert torch.equal(picture(turned), picture(clip).flip(-1))
    assert turned.starts == clip.starts
    padded = type(clip)(clip.patches, torch.full_like(clip.positions, -1), clip.seconds, clip.groups, (), 1.0)
    assert torch.equal(mirrored(padded, 4).positions, padded.positions)


@pytest.mark.parametrize(
    ("visibility", "lengths"),
    [("group", [32, 64, 48, 48]), ("full", [96, 96]), ("canvas", [16] * 12), ("window", [32] * 6)],
)
def test_visibility_by_hand(visibility, lengths, stored):
    clip = read_canvases(stored(source="frames", budget=4), "train")[0]
    grow = {name: torch.cat([getattr(clip, name)] * 2)[: 6 * 16] for name in ("patches", "positions", "seconds")}
    clips = [type(clip)(**grow, groups=groups, starts=(1.0,), duration=2.0) for groups in (
        (0, 0, 1, 1, 1, 1), (0, 0, 0, 1, 1, 1),
    )]  # fmt: skip
    assert list(pack(clips, visibility).segments.lengths) == lengths
    with pytest.raises(SweepError, match=r"unknown visibility 'all'.*group, full"):
        pack(clips, "all")


def test_readout_is_attention_over_all_tokens():
    """Pooling by frame first must equal the plain softmax over tokens, which is written out here."""
    readout = TimeReadout(16, heads=3, channels=4, hidden=8).double()
    tokens = torch.randn(7, 16, dtype=torch.float64)
    frame = torch.tensor([0, 1, 1, 2, 3, 3, 3])  # clip 0 has frames 0-2, clip 1 one frame (of three places)
    nan = float("nan")
    seconds = torch.tensor([[0.1, 0.5, 1.7], [0.9, nan, nan]], dtype=torch.float64)
    queries = torch.arange(9, dtype=torch.float64) * 0.25
    seen = {}
    readout.mix.register_forward_pre_hook(lambda module, given: seen.update(mix=given[0]))
    place = torch.rand(7, 2, dtype=torch.float64)
    logits = readout(tokens, place, frame, seconds, queries)
    assert logits.shape == (2, 9)

    waves = [torch.cos(torch.pi * k * place[:, axis]) for axis in (0, 1) for k in (1, 2, 3)]
    x = torch.cat([readout.norm(tokens), torch.stack(waves, dim=1)], dim=1)
    score = 8 * torch.tanh(readout.score(x) / 8)
    value = readout.value(x).view(7, 3, 4)
    for clip, members in enumerate(([0, 1, 2, 3], [4, 5, 6])):
        time = seconds.flatten()[frame[members]]
        for q, query in enumerate(queries):
            parts = []
            for head in range(3):
                distance = query - time
                width = readout.log_widths[head].exp()
                logit = score[members, head] - torch.sqrt(((distance - readout.offsets[head]) / width) ** 2 + 1)
                weight = logit.softmax(0)
                mixed = weight @ value[members, head]
                parts += [mixed, (weight @ distance)[None], logit.logsumexp(0)[None] / 4]
            torch.testing.assert_close(seen["mix"][clip, q], torch.cat(parts), rtol=0, atol=1e-9)


def test_every_place_of_a_frame_reads_differently():
    steps = (torch.arange(8) + 0.5) / 8
    waves = place_waves(torch.cartesian_prod(steps, steps))
    assert waves.shape == (64, 2 * PLACE_WAVES)
    apart = torch.cdist(waves, waves) + 9 * torch.eye(64)
    assert apart.min() > 0.2


def test_targets_and_peaks_by_hand():
    times = torch.arange(6) * 0.1
    target = event_targets([(0.2,), ()], times, 0.1)
    expected = torch.tensor([np.exp(-2), np.exp(-0.5), 1, np.exp(-0.5), np.exp(-2), np.exp(-4.5)], dtype=torch.float32)
    torch.testing.assert_close(target[0], expected)
    assert not target[1].any()
    # a parabola through (0.2, 0.6, 0.4): its top is (0.2 - 0.4) / 2 / (0.2 - 1.2 + 0.4) = 1/6 of a step later
    found = peaks(torch.tensor([0.0, 0.2, 0.6, 0.4, 0.0, 0.0, 0.0, 0.0, 0.3, 0.0]), 0.1, 0.25)
    assert found == pytest.approx([0.1 * (2 + 1 / 6), 0.8])
    assert peaks(torch.tensor([0.0, 0.5, 0.0, 0.4, 0.0]), 0.1, 0.25) == pytest.approx([0.1])  # too near: the higher
    assert peaks(torch.tensor([0.0, 0.5, 0.0]), 0.1, 0.6) == []


@pytest.mark.parametrize("connector", get_args(ConnectorName))
def test_every_connector_gives_the_budget_and_learns_end_to_end(stored, connector):
    clips = read_canvases(stored(source="codec", budget=4), "train")
    batch = pack(clips, "group")
    torch.manual_seed(0)
    model = JumpModel(connector=connector)
    seen = []
    model.readout.norm.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    model(batch, torch.arange(5) * 0.4).square().sum().backward()
    assert seen == [2 * 4 * 16 // MERGE**2]
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # a run of one row has one weight, whatever asks for it
    assert without == (["connector.query.weight"] if connector == "pool" else [])


def test_clips_of_a_batch_do_not_see_each_other(stored):
    clips = read_canvases(stored(source="codec", budget=4), "train")
    torch.manual_seed(0)
    queries = torch.arange(20) * 0.1
    for visibility in ("group", "full", "spatial"):
        model = JumpModel(visibility=visibility, positions="exact").eval()
        both = model(pack(clips, visibility), queries)
        alone = torch.cat([model(pack([clip], visibility), queries) for clip in clips])
        torch.testing.assert_close(both, alone, rtol=0, atol=1e-5)
        assert (both[0] - both[1]).abs().max() > 1e-3


def test_hybrids_are_stored_with_their_share_of_whole_frames(stored):
    clip = read_canvases(stored(source="hybrid", budget=4, frame_share=0.5), "test")[0]
    per_canvas = clip.positions.view(4, -1, 3)
    assert sum(len(canvas[:, 0].unique()) == 1 for canvas in per_canvas) == 2
    assert (per_canvas[..., 0] >= 0).all()


def test_variants_share_what_they_can():
    base = Variant()
    assert Variant.of(base.plain()) == base
    assert Variant(positions="none").canvas_key() == base.canvas_key() != Variant(saliency="random").canvas_key()
    assert Variant(saliency="random").data_key() == base.data_key() != Variant(encoding="vp9").data_key()
    frames = Variant(source="frames")
    assert Variant(source="frames", saliency="random").canvas_key() == frames.canvas_key()
    assert Variant(source="frames", saliency="random").run_key(1) == frames.run_key(1) != frames.run_key(2)
    hybrid = Variant(source="hybrid")
    assert hybrid.canvas_key() != base.canvas_key() == Variant(frame_share=0.2).canvas_key()
    assert hybrid.run_key(1) != Variant(source="hybrid", frame_share=0.2).run_key(1)
    glow = Variant.of({"difficulty": {"event": "glow", "seconds": [2, 3]}})
    assert Variant.of(json.loads(json.dumps(glow.plain()))) == glow
    assert Variant(lr=4e-3).run_key(0) == base.run_key(0) != Variant(lr=2e-3).run_key(0)
    assert frames.lr == 2e-3  # each source has the rate that validation chose for it
    with pytest.raises(SweepError, match=r"unknown key 'sorce' of a variant.*did you mean 'source'"):
        Variant.of({"sorce": "codec"})


def test_damaged_canvases_are_not_trained_on(stored, tmp_path):
    whole = stored(source="frames", budget=4) / "test.safetensors"
    content = bytearray(whole.read_bytes())
    clip = read_canvases(whole.parent, "test")[0]
    at = content.index(clip.patches.numpy().tobytes()[:256])
    for place in (at, len(content) - 1, 40):
        changed = bytearray(content)
        changed[place] ^= 0x10
        (tmp_path / "test.safetensors").write_bytes(changed)
        with pytest.raises(SweepError, match=r"test\.safetensors: is damaged .*remove .* to make it again"):
            read_canvases(tmp_path, "test")


def test_names_mean_what_they_mean_in_the_recipes():
    """One table: every variant of the small experiment is the module that the recipes build by that name."""
    vision = {"hidden_size": 32, "num_attention_heads": 1, "spatial_merge_size": MERGE}
    grid = torch.cartesian_prod(*[torch.arange(3)] * 3)
    for name in get_args(PositionsName):
        mine, theirs = JumpModel(positions=name).encoder, position_module(name, vision)
        assert type(mine.position) is type(theirs)
        assert mine.position.pairing == theirs.pairing
        turned, expected = mine.position(grid), theirs(grid)
        assert (turned is None) is (expected is None) is (name == "none")
        if expected is not None:
            assert all(torch.equal(a, b) for a, b in zip(turned, expected, strict=True))
    assert set(get_args(ConnectorName)) == set(connectors()) - {"query", "conv"}
    for name in get_args(ConnectorName):
        assert type(JumpModel(connector=name).connector) is connectors()[name]
    for name in get_args(SaliencyName):
        mine, theirs = _tokenizer(Variant(saliency=name)), build_tokenizers(saliency=name)[0]
        assert repr(mine.scorer) == repr(theirs.scorer)
        assert getattr(mine.scorer, "motion", None) == getattr(theirs.scorer, "motion", None)  # random takes no motion
    assert set(get_args(SeenBy)) == {*get_args(Visibility), "spatial", "causal"}


def test_operations_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    encoder = OneVisionEncoder(64, 2, 2, 128, patch=PATCH, merge=MERGE, backend="eager")
    counter = FlopCounterMode(display=False)
    with counter:
        for n in (16, 24):  # apart: what computes and masks the pairs of others is counted with them
            encoder(torch.randn(n, 3 * PATCH**2), torch.zeros(n, 3, dtype=torch.int32), Segments.from_lengths([n]))
    assert counter.get_total_flops() == encoder_flops(64, 2, 128, 3 * PATCH**2, Segments.from_lengths([16, 24]))


@pytest.mark.parametrize("pruning", ["evs", "uniqueness"])
def test_pruned_tokens_keep_their_times_and_places(stored, pruning):
    """What the read-out gets is what the connector made of the rows that are kept, frame and place with it."""
    clips = read_canvases(stored(source="frames", budget=8), "train")
    batch = pack(clips, "group")
    torch.manual_seed(0)
    model = JumpModel(pruning=pruning, kept_tokens=4 * 16).eval()
    seen = {}
    model.readout.register_forward_pre_hook(lambda module, given: seen.update(given=given))
    model(batch, torch.arange(20) * 0.1)
    tokens, place, frame = seen["given"][:3]
    assert len(tokens) == len(place) == len(frame) == 2 * 4 * 16
    whole = JumpModel(kept_tokens=1).eval()
    whole.load_state_dict(model.state_dict())
    whole.readout.register_forward_pre_hook(lambda module, given: seen.update(all=given))
    whole(batch, torch.arange(20) * 0.1)
    by_place = {(int(f), *p.tolist()): t for t, p, f in zip(*seen["all"][:3], strict=True)}
    assert all(torch.equal(by_place[int(f), *p.tolist()], t) for t, p, f in zip(tokens, place, frame, strict=True))
    assert torch.bincount(frame // 8).tolist() == [64, 64]  # of each clip


def test_half_precision_is_near_and_reaches_every_weight(stored):
    batch = pack(read_canvases(stored(source="codec", budget=4), "train"), "group")
    torch.manual_seed(0)
    model, queries = JumpModel(64), torch.arange(20) * 0.1
    whole = model(batch, queries)
    model.precision = "bfloat16"
    half = model(batch, queries)
    assert whole.dtype == half.dtype == torch.float32
    assert 0 < (whole - half).abs().max() < 0.05
    half.square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.abs().max() > 0 for p in model.parameters())


def test_the_sweep_of_minutes_runs_at_a_small_size(jumpset, tmp_path):
    """Every kind of row of it, trained for two steps on two clips."""
    budget, _, pruning = read_sweep("minutes.yaml")[1]
    small = {"train": 2, "val": 1, "test": 2, "size": 64, "canvas": 64, "width": 32, "depth": 1, "steps": 2, "batch": 2}
    rows = {row.label["input"]: row.variant.plain() for row in (*budget.rows, *pruning.rows)}
    assert set(rows) == {"paper", "event", "frames", "hybrid", "blank", "evs", "uniqueness"}
    found = {}
    for name, fields in rows.items():
        own = {**fields, **small, "budget": 4, "difficulty": {"seconds": [2.0, 2.4]}, "data_seed": 3}
        variant = Variant.of({**own, "encoded": 8 if fields["encoded"] else None})
        folder = tmp_path / variant.canvas_key()
        if not folder.exists():
            build_canvases(variant, jumpset, folder)
        found[name] = run_variant(variant, 0, folder)
    assert {run["tokens"] for run in found.values()} == {64.0}
    assert found["evs"]["tokens_range"] == [64, 64]
    assert found["evs"]["encoder_gflops"] > 1.9 * found["frames"]["encoder_gflops"]
    assert {run["device"] for run in found.values()} == {"cpu"}
    assert all(np.isfinite(run["loss"]) for run in found.values())
