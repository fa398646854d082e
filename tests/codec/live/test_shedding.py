"""Streams that come faster than they are tokenized: what is left out is chosen, counted and reported."""

import time

import pytest

from ov2kit.codec import CodecTokenizer, LiveTokenizer
from ov2kit.codec.live.window import HeldPacket, Window
from ov2kit.errors import OptionError
from tests.clips import encode
from tests.codec.live.clock import stopped_clock
from tests.codec.live.senders import paced, tcp_server
from tests.codec.live.streams import frames_of, packets_of, ts_clip
from tests.codec.live.test_live_groups import check_pixels


def live(**options):
    options = {"delay_seconds": 1.0, "tokens_per_second": 45.0} | options
    return LiveTokenizer(CodecTokenizer(max_pixels=20_000), **options)


@pytest.fixture
def clock(monkeypatch):
    return stopped_clock(monkeypatch)


def with_lag(path, lag, clock, most=10.0):
    """Groups of a clip whose packets are looked at so many seconds after they came, by their number."""
    from ov2kit.codec.live.shedding import Shedding

    session = live()._new_session()
    session.shedding = Shedding(most)
    groups, decoded = [], 0
    packets = packets_of(path)
    for number, packet in enumerate(packets):
        if packet.dts is not None:
            arrived = clock.seconds - lag(number)
            groups += session.add(packet, arrived, packet.stream.container, packet.stream, "<clip>")
            decoded = session._run._decoder.lost.decoded_frames
    return groups + list(session.pause("end")), session.progress, decoded


def check_gaps(groups, frames):
    """Groups follow each other but for what was left out; times say how much that was."""
    end = frame = 0
    for group in groups:
        group.canvases.validate()
        assert group.start_seconds - end == pytest.approx(group.shed_seconds, abs=0.02 + 1e-6)  # half a frame
        assert (frames_of(group)[0] == frame) == (group.shed_seconds == 0)
        assert (frames_of(group)[0] - frame) * 0.04 == pytest.approx(group.shed_seconds, abs=1e-6)
        frame, end = frames_of(group)[1], group.end_seconds
    assert frame == frames


@pytest.mark.parametrize(
    ("gop", "bframes", "params"), [(25, 0, ""), (25, 3, ""), (25, 3, "open-gop=1"), (10_000, 0, "")]
)
def test_late_groups_are_left_out_and_what_is_shown_is_right(tmp_path, clock, gop, bframes, params):
    path = encode(
        tmp_path / "x.ts", frames=400, gop=gop, bframes=bframes, options={"x264-params": params} if params else {}
    )
    groups, progress, decoded = with_lag(path, lambda number: 11.0 if 100 <= number < 300 else 0.0, clock)
    check_gaps(groups, 400)
    check_pixels(groups, path)
    assert progress.shed_groups >= 2
    assert 4.0 < progress.shed_seconds < 10.0
    assert sum(group.shed_seconds for group in groups) == pytest.approx(progress.shed_seconds)
    assert progress.failed_packets == 0
    assert {group.canvases.provenance["lost"]["corrupt_frames"] for group in groups} == {0}
    whole, other, all_decoded = with_lag(path, lambda number: 0.0, clock)
    assert (other.shed_groups, other.thinned_groups) == (0, 0)
    ends = {group.end_seconds for group in whole}
    assert {group.end_seconds for group in groups} <= ends  # they are cut where they would have been cut
    if gop == 25:  # what no shown picture needs was not decoded
        assert decoded < all_decoded - 100


def test_first_there_are_fewer_candidates(tmp_path, clock):
    path = encode(tmp_path / "x.ts", frames=300, bframes=0)
    groups, progress, _ = with_lag(path, lambda number: 6.0, clock)
    whole, _, _ = with_lag(path, lambda number: 0.0, clock)
    assert (progress.shed_groups, progress.thinned_groups) == (0, len(groups) - 1)  # nothing comes after the last
    assert [group.end_seconds for group in groups] == [group.end_seconds for group in whole]
    assert sum(len(g.canvases.clip_times()[0]) for g in groups) < sum(len(g.canvases.clip_times()[0]) for g in whole)
    check_pixels(groups, path)


def test_a_slow_model_and_a_fast_source():
    """16 s of video in 1.5 s, and half a second of thought about each group."""
    data, faults, found = ts_clip(frames=400, bframes=0), [], []
    with (
        tcp_server(lambda peer: paced(data, 1.5, peer.sendall)) as address,
        live().watch(address, reconnect=False, max_lag_seconds=0.3, on_fault=faults.append) as groups,
    ):
        for group in groups:
            found.append(group)
            time.sleep(0.5)
    assert groups.progress.shed_groups >= 2
    assert any("left out: they come faster than they can be tokenized" in fault for fault in faults)
    check_gaps(found, 400)


def test_without_a_bound_the_sender_waits_and_nothing_is_left_out():
    data = ts_clip(frames=200, bframes=0)
    with tcp_server(lambda peer: peer.sendall(data)) as address, live().watch(address, reconnect=False) as groups:
        found = []
        for group in groups:
            found.append(group)
            time.sleep(0.1)
    assert groups.progress.shed_groups == 0
    check_gaps(found, 200)


def test_what_has_no_room_to_wait_is_left_out_whatever_the_bound(clock):
    from ov2kit.codec.live.shedding import Shedding

    now = clock.seconds
    assert Shedding(10.0, lambda: True).leaves_out(Shedding(10.0, lambda: True).lag(now))
    never = Shedding()
    assert not never.leaves_out(Shedding(is_full=lambda: True).lag(now))
    assert never.candidates(8, never.lag(now - 1e6)) == 8


def test_sources_that_cannot_be_held_back_have_a_bound():
    from ov2kit.codec.live.inputs import Address

    held = {scheme: Address(f"{scheme}://127.0.0.1:9/x").can_wait for scheme in ("rtsp", "udp", "rtp", "srt", "rtmp")}
    assert set(held.values()) == {False}
    assert {Address(f"{scheme}://127.0.0.1:9/x").can_wait for scheme in ("tcp", "http", "https")} == {True}
    with pytest.raises(OptionError, match="max_lag_seconds must be above 0, got 0"):
        live().watch("x.ts", max_lag_seconds=0)


@pytest.mark.parametrize("leading", [False, True])
def test_packets_are_dropped_before_a_keyframe_only_if_nothing_shown_needs_them(leading):
    """Decode order: two pictures left out, a keyframe at 2.0 s, and one that is shown before it or after it."""
    window, last = Window(0.04), 1.9 if leading else 2.1
    for number, (seconds, is_entry) in enumerate([(1.0, True), (1.5, False), (2.0, True), (last, False)]):
        window.add(
            HeldPacket(
                number=number, packet=object(), seconds=seconds, dts=0.04 * number, nbytes=9, is_key=is_entry,
                is_entry=is_entry, begins=1, is_disposable=False, is_corrupt=False, arrived=0.0,
            )
        )  # fmt: skip
    window.forget(window.table(), 2)
    assert window.skip_to_entry() is not leading
    assert [item.number for item in window] == ([0, 1, 2, 3] if leading else [2, 3])
    assert not window.skip_to_entry()
