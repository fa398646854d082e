"""The set of events: its masks are where its pixels change, splits share nothing, times are those of the file."""

import json
import os
from dataclasses import replace
from typing import get_args

import av
import numpy as np
import pytest

from ov2kit.cli import run
from ov2kit.codec import VideoStream
from ov2kit.errors import DataError, OptionError
from ov2kit.recipes.evidence.films.encode import write_video
from ov2kit.recipes.evidence.films.event_actors import EventKind
from ov2kit.recipes.evidence.films.event_camera import CAMERAS, Camera, look
from ov2kit.recipes.evidence.films.event_scene import FOOTAGE, EventScene, frame_seconds, render_events
from ov2kit.recipes.evidence.films.eventset import make_eventset, read_events
from tests.paths import SAMPLE

SCENE = EventScene(seconds=2.0, size=(98, 168), events=(1, 1), noise=0.0, camouflage=0.0)
TIMES = np.arange(100) / 50


@pytest.mark.parametrize("kind", get_args(EventKind))
def test_pixels_change_where_the_mask_is_and_nowhere_else(kind):
    """Before a still camera without noise everything that differs between two frames is the event."""
    clip = render_events(4, SCENE, "still", TIMES, [kind])
    (event,) = clip.events
    assert event.kind == kind
    whole = np.logical_or.reduce(list(event.masks.values()))
    grown = np.zeros_like(whole)  # a soft rim of opacity below one half, and where a jump has left from
    rows, columns = whole.nonzero()
    grown[max(rows.min() - 6, 0) : rows.max() + 7, max(columns.min() - 6, 0) : columns.max() + 7] = True
    changes = np.ptp(clip.frames.astype(int), axis=0).max(axis=2)
    assert changes[whole].max() > 30
    assert changes[~grown].max() == 0
    for t in event.masks:
        assert event.start <= TIMES[t] <= event.stop


@pytest.mark.parametrize("footage", [name for name in FOOTAGE if not name.startswith("real")])
def test_the_same_seed_gives_the_same_pixels(footage):
    scene, times = replace(SCENE, noise=2.0), TIMES[::20]
    one, two, other = (render_events(seed, scene, footage, times, ["jump", "glow"]) for seed in (1, 1, 2))
    assert (one.frames == two.frames).all()
    assert (one.frames != other.frames).any()
    assert one.frames.shape == (5, 98, 168, 3)


def test_what_a_camera_sees_is_where_its_motion_puts_it():
    """A dot of the world at (dx, dy) from the middle comes to R(-turn) zoom (d - shift), to a pixel."""
    world = np.zeros((120, 200, 1), dtype=np.float32)
    world[60 + 9 - 1 : 60 + 9 + 2, 100 - 20 - 1 : 100 - 20 + 2] = 1
    camera = Camera(*(np.array([v]) for v in (-12.0, 4.0, 0.3, 1.4)))
    seen = look(world, camera, 0, (80, 120))[..., 0]
    y, x = (float((seen * at).sum() / seen.sum()) for at in np.mgrid[0:80, 0:120])
    d = np.array([-20 + 0.5 + 12.0, 9 + 0.5 - 4.0])  # middles of 200 and 120 pixels lie between two of them
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    expected = 1.4 * turn @ d + np.array([119 / 2, 79 / 2])
    assert np.abs(expected - (x, y)).max() < 0.3


def test_a_hand_shakes_slowly_and_everywhere_else_is_calm():
    times = np.arange(200) / 25
    shake = CAMERAS["shake"](np.random.default_rng(0), times, (196, 336))
    assert 1 < shake.x.std() < 12
    assert np.abs(np.diff(shake.x)).max() < 4  # pixels from frame to frame
    assert np.abs(shake.turn).max() < 0.1
    still = CAMERAS["still"](np.random.default_rng(0), times, (196, 336))
    assert (still.x == 0).all()


@pytest.mark.parametrize("encoding", ["x264-medium", "x264-longgop", "hevc", "vp9"])
def test_files_show_each_frame_at_its_time_when_the_rate_varies(tmp_path, encoding):
    times = frame_seconds(np.random.default_rng(1), 2.0, 25, variable=True)
    assert len(set(np.round(np.diff(times), 3))) > 1
    frames = np.repeat(np.arange(len(times), dtype=np.uint8)[:, None, None, None] * 3, 64, axis=1)
    frames = np.ascontiguousarray(np.broadcast_to(frames, (len(times), 64, 64, 3)))
    path = tmp_path / ("x.webm" if encoding == "vp9" else "x.mp4")
    write_video(path, frames, 25, encoding, seconds=times)
    shown = VideoStream(path)
    assert shown.num_frames == len(times)
    assert np.abs(shown.packets.frame_seconds - times).max() < 1e-6
    means = [float(frame.rgb.float().mean()) for frame in shown.frames()]
    assert (np.diff(means) > 0).all()


def test_a_set_is_read_as_it_was_made(tmp_path, capsys):
    out = tmp_path / "set"
    status = run([
        "eventset", "--out", str(out), "--clips", "1", "--footage", "still", "real", "leaves", "--kinds", "appear",
        "turn", "blink", "--encoding", "x264-veryfast", "--real", str(SAMPLE), str(SAMPLE), "--scene.seconds", "1.5",
        "--scene.size", "[84, 112]", "--scene.events", "[2, 2]", "--seed", "3",
    ])  # fmt: skip
    assert status == 0, capsys.readouterr().err
    tune, test, held = (read_events(out, split) for split in ("tune", "test", "held"))
    assert [clip.footage for clip in tune] == [clip.footage for clip in test] == ["still", "real"]
    assert [clip.footage for clip in held] == ["still", "real", "leaves"]
    assert {event.kind for clip in held[:2] for event in clip.events} == {"blink"}
    for clip in [*tune, *test, *held]:
        stream = VideoStream(clip.video)
        assert (stream.num_frames, stream.info.display_size) == (clip.frames, clip.size)
        at = stream.packets.frame_seconds
        for event in clip.events:
            assert event.kind in (("appear", "turn") if clip not in held else ("appear", "turn", "blink"))
            assert min(event.masks) == int((at < event.start).sum())
            assert all(event.start <= at[t] <= event.stop and m.any() for t, m in event.masks.items())
    first = [next(iter(VideoStream(clips[0].video).frames())).rgb for clips in (tune, test)]
    assert (first[0].float() - first[1].float()).abs().mean() > 10  # another background
    facts = json.loads((out / "eventset.json").read_text())
    (out / "eventset.json").write_text(json.dumps({**facts, "format": "ov2kit.eventset.9"}))
    with pytest.raises(DataError, match=r"eventset\.9"):
        read_events(out, "tune")
    (out / "eventset.json").write_text(json.dumps(facts))
    (out / "held.json").unlink()
    with pytest.raises(DataError, match=r"expected held\.json"):
        read_events(out, "held")


def test_a_recolored_object_keeps_its_luma():
    clip = render_events(4, SCENE, "still", TIMES, ["recolor"])
    (event,) = clip.events
    whole = np.logical_or.reduce(list(event.masks.values()))
    before, after = (clip.frames[at][whole].astype(float) for at in (0, -1))
    luma = np.array([0.299, 0.587, 0.114])
    inside = ((after > 0) & (after < 255)).all(axis=1)  # a clipped channel cannot be made up for
    assert np.abs((before - after) @ luma)[inside].max() < 2
    assert np.abs(before - after)[inside].max() > 60


def test_rates_are_constant_or_not_as_their_names_say(tmp_path):
    """Frames without content: a constant rate is filled up to its 400 kbit/s, a variable one is not."""
    frames = np.full((50, 64, 64, 3), 90, dtype=np.uint8)
    size = {}
    for encoding in ("x264-hrd", "x264-vbr"):
        write_video(tmp_path / f"{encoding}.mp4", frames, 25, encoding)
        size[encoding] = (tmp_path / f"{encoding}.mp4").stat().st_size
    assert size["x264-hrd"] > 0.9 * 2 * 400_000 / 8
    assert size["x264-vbr"] < 10_000


def test_a_pyramid_has_b_frames_that_others_refer_to(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, size=(2, 64, 64, 3)).repeat(15, axis=0).astype(np.uint8)
    for t in range(30):
        frames[t] = np.roll(frames[t], t, axis=1)
    referred = {}
    for encoding in ("x264-pyramid", "x264-nobframes"):
        write_video(tmp_path / f"{encoding}.mp4", frames, 25, encoding)
        with av.open(tmp_path / f"{encoding}.mp4") as container:
            packets = [bytes(packet) for packet in container.demux(video=0)]
        referred[encoding] = sum(
            reference > 0 for packet in packets for kind, reference in _slices(packet) if kind == 1
        )
    assert referred["x264-pyramid"] > 0
    assert referred["x264-nobframes"] == 0


def _slices(packet):
    """(slice_type modulo 5, nal_ref_idc) of each coded slice of an MP4 packet; ITU-T H.264, 7.3.1 and 7.3.3."""
    at = 0
    while at < len(packet):
        length = int.from_bytes(packet[at : at + 4], "big")
        unit = packet[at + 4 : at + 4 + length]
        at += 4 + length
        if unit[0] & 31 in (1, 5):
            bits = "".join(f"{byte:08b}" for byte in unit[1:12])
            values = []
            while len(values) < 2:  # first_mb_in_slice and slice_type, Exp-Golomb
                zeros = bits.index("1")
                values.append(int(bits[zeros : 2 * zeros + 1], 2) - 1)
                bits = bits[2 * zeros + 1 :]
            yield values[1] % 5, unit[0] >> 5 & 3


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system does not say how it schedules")
def test_an_encoder_does_not_make_this_process_a_real_time_one(tmp_path):
    """SVT-AV1 does, as root: whatever a test started after it went before everything else on the machine."""
    frames = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "clip.mp4", frames, 25, "av1")
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # which all that it starts inherits


def test_wrong_options_make_nothing(tmp_path):
    out = tmp_path / "set"
    for wrong, said in (
        ({"clips": 0}, "clips"),
        ({"clips": 1, "footage": ["stil"]}, "stil"),
        ({"clips": 1, "kinds": ["jumps"]}, "jumps"),
        ({"clips": 1, "footage": ["real"]}, "at least two video files"),
        ({"clips": 1, "kinds": []}, "at least one kind"),
    ):
        with pytest.raises(OptionError, match=said):
            make_eventset(out, **wrong)
        assert not out.exists()
    with pytest.raises(DataError, match="expected a set of events"):
        read_events(out, "tune")
