"""What a stream without end brings: clocks that wrap and jump, gaps, other headers, sizes, rates and codecs."""

import io
import itertools

import av
import numpy as np
import pytest

from ov2kit.codec import CodecTokenizer, LiveTokenizer
from tests.clips import encode, picture
from tests.codec.live.streams import check_chain, chunks, frames_of, packets_of, pushed, ts_clip
from tests.codec.live.test_live_groups import check_pixels

WRAP = 1 << 33


def live(**options):
    return LiveTokenizer(CodecTokenizer(max_pixels=20_000), **({"tokens_per_second": 45.0} | options))


def moved(packets, ticks, first=0):
    """Packets with their time stamps of 33 bits moved on, from the `first` on."""
    for number, packet in enumerate(packets):
        if packet.dts is not None and number >= first:
            packet.pts, packet.dts = (packet.pts + ticks) % WRAP, (packet.dts + ticks) % WRAP
        yield packet


def check_same(groups, others):
    assert len(groups) == len(others)
    for mine, theirs in zip(groups, others, strict=True):
        assert (mine.canvases.images == theirs.canvases.images).all()
        assert (mine.canvases.positions == theirs.canvases.positions).all()
        assert dict(mine.canvases.clip_times()[0]) == pytest.approx(dict(theirs.canvases.clip_times()[0]), abs=1e-6)


def test_a_wrap_of_the_time_stamps_changes_nothing():
    plain = pushed(live(), packets_of(ts_clip()))
    for seconds in (0.5, 5.0, 11.9):  # the wrap falls into the clip
        check_same(pushed(live(), moved(packets_of(ts_clip()), WRAP - int((1.4 + seconds) * 90_000))), plain)


def test_the_same_as_a_muxer_writes_it():
    """Bytes whose stamps wrap 5 s after their start, by FFmpeg's own muxer."""
    source, target = io.BytesIO(ts_clip()), io.BytesIO()
    options = {"mpegts_copyts": "1"}
    with av.open(source) as clip, av.open(target, "w", format="mpegts", options=options) as out:
        stream = out.add_stream_from_template(clip.streams.video[0])
        for packet in clip.demux(clip.streams.video[0]):
            if packet.dts is not None:
                packet.pts, packet.dts = (packet.pts + WRAP - 576_000), (packet.dts + WRAP - 576_000)
                packet.stream = stream
                out.mux(packet)
    check_same(pushed(live(), chunks(target.getvalue(), 50_000)), pushed(live(), packets_of(ts_clip())))


def test_a_gap_is_kept_and_ends_the_group():
    groups = pushed(live(), moved(packets_of(ts_clip()), 20 * 90_000, first=130))
    check_chain(groups)
    before, after = next(pair for pair in itertools.pairwise(groups) if pair[0].reason == "gap")
    assert frames_of(after)[0] == frames_of(before)[1] in range(126, 132)
    assert after.start_seconds - before.end_seconds == pytest.approx(20.0, abs=0.2)
    assert groups[-1].end_seconds == pytest.approx(32.0, abs=0.1)
    assert frames_of(groups[-1])[1] == 300


@pytest.mark.parametrize("seconds", [-7.0, -3600.0, 3600.0, 20_000.0])
def test_after_a_jump_of_the_clock_time_goes_on(seconds):
    tokenizer = live()
    groups = [g for p in moved(packets_of(ts_clip()), int(seconds * 90_000), first=150) for g in tokenizer.push(p)]
    assert tokenizer.progress.jumps == 1
    groups += tokenizer.finish()
    check_chain(groups)
    assert [group.reason for group in groups].count("jump") == 1
    assert groups[-1].end_seconds == pytest.approx(12.0, abs=0.2)
    assert frames_of(groups[-1])[1] == 300


def test_another_size_in_other_headers_begins_another_group_of_its_own_canvas_size():
    data = ts_clip(frames=100, size=(96, 128)) + ts_clip(frames=100, size=(192, 144))
    groups = pushed(live(), packets_of(data))
    check_chain(groups)
    shapes = [tuple(group.canvases.images.shape[2:]) for group in groups]
    assert shapes[0][0] < shapes[0][1]
    assert shapes[-1][0] > shapes[-1][1]
    change = next(k for k, (a, b) in enumerate(itertools.pairwise(shapes)) if a != b)
    assert set(shapes[: change + 1]) == {shapes[0]}
    assert set(shapes[change + 1 :]) == {shapes[-1]}
    assert frames_of(groups[change])[1] == 100
    assert groups[change].reason in ("headers", "jump")
    assert frames_of(groups[-1])[1] == 200
    first = groups[change + 1].canvases
    frame = int(first.positions[0, 0, 0, 0])
    assert frame == 100
    assert float(first.images[0].float().mean()) == pytest.approx(picture(0, 192, 144).mean(), abs=6)


def test_another_frame_rate_keeps_the_times():
    data = ts_clip(frames=100, fps=25) + ts_clip(frames=100, fps=10)
    groups = pushed(live(), packets_of(data))
    check_chain(groups)
    times = sorted(time for group in groups for time in group.canvases.clip_times()[0].values())
    assert groups[-1].end_seconds == pytest.approx(4.0 + 10.0, abs=0.3)
    assert max(np.diff([t for t in times if t < 3.9])) < 1.0
    assert frames_of(groups[-1])[1] == 200


def test_another_codec_goes_on_where_the_last_ended():
    tokenizer = live()
    groups = [g for p in packets_of(ts_clip(frames=100)) for g in tokenizer.push(p)]
    groups += [g for p in packets_of(ts_clip(frames=100, codec="mpeg2video")) for g in tokenizer.push(p)]
    groups += tokenizer.finish()
    check_chain(groups)
    codecs = [group.canvases.provenance["codec"] for group in groups]
    assert list(dict.fromkeys(codecs)) == ["h264", "mpeg2video"]
    last = codecs.index("mpeg2video") - 1
    assert groups[last].reason == "reconnected"
    assert frames_of(groups[last])[1] == 100
    assert groups[last].end_seconds == pytest.approx(4.0)
    assert groups[last + 1].start_seconds == pytest.approx(4.0, abs=0.05)
    assert frames_of(groups[-1])[1] == 200


def test_a_stream_that_begins_and_breaks_in_the_middle_of_an_interval():
    """Packets are lost, as over UDP: what is shown is still what the file shows from the next keyframe on."""
    packets = [p for p in packets_of(ts_clip()) if p.size]
    tokenizer = live()
    kept = packets[10:120] + packets[160:]
    groups = [g for p in kept for g in tokenizer.push(p)] + tokenizer.finish()
    check_chain(groups)
    assert tokenizer.progress.frames == 0
    total = frames_of(groups[-1])[1]
    assert 300 - 40 - 25 - 3 <= total <= 300 - 40
    assert groups[-1].end_seconds == pytest.approx(12.0 - 25 * 0.04, abs=0.7)


def test_bytes_lost_on_the_way_lose_their_frames_and_no_more():
    data = ts_clip()
    parts = [part for k, part in enumerate(chunks(data, 188 * 7)) if k % 40 != 20]
    groups = pushed(live(), parts)
    check_chain(groups)
    assert frames_of(groups[-1])[1] > 200
    assert groups[-1].end_seconds == pytest.approx(12.0, abs=1.5)


def test_a_stream_of_one_keyframe_alone_needs_no_more_memory(tmp_path):
    """Infinite intervals, as of cameras and calls: the decoder goes on, nothing is kept from its start."""
    path = encode(tmp_path / "x.ts", frames=600, gop=10_000, bframes=0, options={"x264-params": "keyint=infinite"})
    tokenizer, most, groups = live(), 0, []
    for packet in packets_of(path):
        groups += tokenizer.push(packet)
        most = max(most, len(tokenizer._session._run._window))
    groups += tokenizer.finish()
    check_chain(groups)
    assert most < 25 * (6 + 2 + 1)
    check_pixels(groups, path)
