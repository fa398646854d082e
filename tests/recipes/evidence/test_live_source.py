"""Clips as a stream: canvases of the evidence's live source against `LiveTokenizer` fed by hand."""

import av
import numpy as np
import pytest
import torch

from ov2kit.codec import CodecTokenizer, LiveTokenizer, VideoStream
from ov2kit.recipes.evidence.films.difficulty import Difficulty
from ov2kit.recipes.evidence.films.jumpset import make_jumpset
from ov2kit.recipes.evidence.runs.canvas_store import build_canvases, read_canvases, read_facts
from ov2kit.recipes.evidence.runs.live_canvases import live_canvases
from ov2kit.recipes.evidence.runs.one_run import run_variant
from ov2kit.recipes.evidence.runs.variant import SweepError, Variant
from ov2kit.recipes.evidence.sweep import read_sweep

SECONDS = 3.0
FIELDS = {"train": 2, "val": 1, "test": 1, "batch": 2, "budget": 6, "difficulty": {"seconds": [SECONDS, SECONDS]}}
LIVE = {**FIELDS, "source": "live", "delay_seconds": 0.3}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_jumpset(
        tmp_path_factory.mktemp("sets") / "mix",
        (2, 1, 1),
        seed=5,
        size=64,
        difficulty=Difficulty(seconds=(SECONDS, SECONDS)),
    )


@pytest.fixture(scope="module")
def stored(clips, tmp_path_factory):
    """Folder of the canvases of a variant, by its options."""

    folders = {}

    def make(**options):
        variant = Variant.of(options)
        if variant not in folders:
            folders[variant] = tmp_path_factory.mktemp("canvases")
            build_canvases(variant, clips, folders[variant])
        return folders[variant]

    return make


def test_canvases_are_those_of_a_stream_fed_by_hand(stored, clips):
    """Patch by patch, from groups that are told apart by their times on the stream."""
    tokenizer = CodecTokenizer(
        patch=16, merge=1, canvas_size=(64, 64), min_seconds=0.4, max_seconds=3.0, bin_seconds=0.1
    )
    live = LiveTokenizer(tokenizer, delay_seconds=0.3, tokens_per_second=6 * 16 / SECONDS)
    paths = [clips / "videos" / f"train_0000{number}.mp4" for number in (1, 0, 1)]
    groups, frames, opened = [], [], []
    for path in paths:
        opened.append(av.open(str(path)))
        packets = list(opened[-1].demux(video=0))
        frames.append(sum(packet.pts is not None for packet in packets))
        groups += [group for packet in packets for group in live.push(packet)]
    groups += live.finish()
    for container in opened:
        container.close()
    for clip, number in zip(read_canvases(stored(**LIVE), "train"), (1, 2), strict=True):
        begin, before = number * SECONDS, sum(frames[:number])
        own = [group for group in groups if begin - 1e-3 <= group.start_seconds < begin + SECONDS - 1e-3]
        assert len(own) > 1
        patches, positions, seconds, ids = [], [], [], []
        for order, group in enumerate(own):
            (times,) = group.canvases.clip_times()
            for picture, places in zip(group.canvases.images, group.canvases.positions, strict=True):
                ids.append(order)
                for row in range(4):
                    for column in range(4):
                        at = picture[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
                        patches.append(at.reshape(-1))
                        frame, *place = places[row, column].tolist()
                        positions.append((frame - before, *place))
                        seconds.append(times[frame] - begin)
        assert torch.equal(clip.patches, torch.stack(patches))
        assert clip.positions.tolist() == [list(place) for place in positions]
        assert clip.seconds.numpy() == pytest.approx(np.array(seconds), abs=1e-4)
        assert list(clip.groups) == ids


def test_without_a_bound_a_stream_is_its_clips_bit_for_bit(stored):
    waited, whole = (stored(**FIELDS, source=source) for source in ("live", "codec"))
    for split, count in (("train", 2), ("test", 1)):
        found = list(zip(read_canvases(waited, split), read_canvases(whole, split), strict=True))
        assert len(found) == count
        for mine, theirs in found:
            for name in ("patches", "positions", "seconds"):
                assert torch.equal(getattr(mine, name), getattr(theirs, name)), name
            assert (mine.groups, mine.starts, mine.duration) == (theirs.groups, theirs.starts, theirs.duration)


def test_a_rate_is_that_of_the_budget_unless_given(stored):
    facts = {name: read_facts(stored(**LIVE, **options), "train") for name, options in {
        "budget": {}, "the same": {"tokens_per_second": 32.0}, "more": {"tokens_per_second": 64.0}
    }.items()}  # fmt: skip
    tokens = {name: sum(found["tokens"]) for name, found in facts.items()}
    assert tokens["budget"] == tokens["the same"] < tokens["more"]


def test_a_clip_that_is_left_without_tokens_is_an_error(clips):
    tokenizer = CodecTokenizer(patch=16, merge=1, canvas_size=(64, 64))
    live = LiveTokenizer(tokenizer, delay_seconds=0.3, tokens_per_second=0.5, burst_tokens=32)
    video = VideoStream(clips / "videos" / "train_00000.mp4", threads=1)
    with pytest.raises(SweepError, match=r"train_00000\.mp4: its stream had no tokens for it; raise budget or"):
        list(live_canvases(live, [video]))


def test_a_run_of_a_stream_trains(stored):
    variant = Variant.of({**LIVE, "steps": 2, "depth": 1})
    found = run_variant(variant, 0, stored(**LIVE))
    assert np.isfinite(found["loss"])
    assert found["tokens"] > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"delay_seconds": 1.0}, r"delay_seconds is of source live; .* got source 'codec'"),
        ({"source": "frames", "delay_seconds": 1.0}, r"delay_seconds is of source live; .* got source 'frames'"),
        ({"source": "live", "tokens_per_second": 16.0}, "tokens_per_second is the rate of a live source with a delay"),
        ({"source": "live", "delay_seconds": -1.0}, "delay_seconds must be at least 0, got -1"),
        ({"source": "live", "delay_seconds": float("nan")}, "delay_seconds must be a finite number, got nan"),
        ({"source": "live", "delay_seconds": 1.0, "tokens_per_second": 0.0}, "tokens_per_second must be above 0"),
        ({"source": "live", "delay_seconds": 1.0, "grouping": "readiness"}, "grouping readiness looks at a whole clip"),
        ({"source": "live", "pruning": "evs", "encoded": 16}, "expected source frames"),
    ],
)
def test_what_a_stream_cannot_have_is_refused_by_name(given, message):
    with pytest.raises(SweepError, match=message):
        Variant.of(given)


def test_what_was_run_before_there_were_streams_is_found_again():
    """Names of results on disk, from before."""
    keys = {
        ("955aa143f477", "e23d986ab2e6", "b2b33b3589bf"): {},
        ("955aa143f477", "8a9a3c24f5f7", "3f6fde0aaef1"): {"source": "frames"},
        ("955aa143f477", "38419ba2a29c", "58b41e82b207"): {"source": "hybrid"},
        ("955aa143f477", "6e2d01c9ba5e", "fb3b1d4f79dd"): {"source": "frames", "pruning": "evs", "encoded": 16},
        ("ffa1aaa5572d", "f9beb1e3dd66", "2eb48507bc4c"): {"bin_seconds": 0.5, "difficulty": {"seconds": [24.0, 24.0]}},
    }
    for expected, given in keys.items():
        variant = Variant.of(given)
        assert (variant.data_key(), variant.canvas_key(), variant.run_key(3)) == expected
    live = Variant.of(LIVE)
    others = [{**LIVE, "delay_seconds": 0.4}, {**LIVE, "tokens_per_second": 9.0}, {**FIELDS, "source": "live"}, FIELDS]
    assert len({live.canvas_key(), *(Variant.of(other).canvas_key() for other in others)}) == 5
    assert Variant.of({**LIVE, "frame_share": 0.1}).run_key(0) == live.run_key(0)


def test_the_sweep_of_delays_has_clips_that_are_longer_than_any_delay():
    (experiment,) = read_sweep("live.yaml")[1]
    delays = {row.label["delay"]: row.variant.delay_seconds for row in experiment.rows}
    assert [delays[f"{each:g} s"] for each in (0.5, 1, 2, 4, 8)] == [0.5, 1, 2, 4, 8]
    assert delays["whole clips"] is delays["unbounded"] is None
    for row in experiment.rows:
        assert dict(row.variant.difficulty)["seconds"][0] >= 3 * 8
        assert row.variant.source == ("codec" if row.label["delay"] == "whole clips" else "live")
        assert row.rival is None or row.rival.source == "codec"
