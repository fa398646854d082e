"""Sources as they are: late, bursty, dying, silent, full of garbage; on the loopback device alone."""

import gc
import itertools
import os
import socket
import threading
import time

import numpy as np
import pytest
import torch

from ov2kit.codec import CodecTokenizer, LiveTokenizer
from ov2kit.codec.live.inputs import GrowingFile, Stop
from ov2kit.codec.live.mp4_index import BoxWalk
from ov2kit.codec.live.reader import Reader
from ov2kit.errors import OptionError, VideoError
from tests.codec.live.clock import stopped_clock
from tests.codec.live.rtsp import rtsp_server
from tests.codec.live.senders import free_port, http_server, paced, parts_of, pipe_writer, tcp_server, udp_sender
from tests.codec.live.streams import check_chain, chunks, frames_of, packets_of, pushed, ts_clip
from tests.patience import PATIENCE, wait_until

DATA = {"frames": 200, "bframes": 0}  # 8 s


@pytest.fixture
def clock(monkeypatch):
    return stopped_clock(monkeypatch)


def live(**options):
    options = {"delay_seconds": 1.0, "tokens_per_second": 45.0} | options
    return LiveTokenizer(CodecTokenizer(max_pixels=20_000), **options)


def check_same(groups, data, *, has_end=True):
    """What is pushed at once, but for clocks; a datagram does not say that it is the last."""
    check_chain(groups)
    expected = pushed(live(), packets_of(data))
    assert len(groups) == len(expected) > 2
    for mine, theirs in list(zip(groups, expected, strict=True))[: None if has_end else -1]:
        assert mine.canvases == theirs.canvases
    assert frames_of(groups[-1])[1] >= frames_of(expected[-1])[1] - (0 if has_end else 3)


@pytest.mark.parametrize("kind", ["tcp", "udp", "http", "pipe"])
def test_groups_over_a_network_or_pipe_are_those_of_the_bytes(kind, tmp_path, clock):
    data = ts_clip(**DATA)
    os.mkfifo(tmp_path / "pipe")
    sender = {
        "tcp": lambda: tcp_server(lambda peer: paced(data, 0.5, peer.sendall)),
        "udp": lambda: udp_sender(data, 0.5),
        "http": lambda: http_server(data, 0.5),
        "pipe": lambda: pipe_writer(tmp_path / "pipe", data, 0.5),
    }[kind]
    give_up = 60.0 if kind == "udp" else PATIENCE
    with sender() as address, live().watch(address, reconnect=False, give_up_seconds=give_up) as groups:
        if kind == "udp":  # has no end: it is left when all that is complete has come
            threading.Thread(target=lambda: (wait_until(lambda: groups.progress.packets >= 198), groups.stop())).start()
        found = list(groups)
    check_same(found, data, has_end=kind != "udp")


@pytest.mark.parametrize("bframes", [0, 3])
def test_groups_over_rtsp_are_those_of_the_packets(bframes, clock):
    """FFmpeg gives the first picture without a time, and others without a decoding time."""
    data, asked = ts_clip(frames=200, bframes=bframes), []
    with (
        rtsp_server(data, 8.0, asked) as address,
        live().watch(address, reconnect=False, give_up_seconds=PATIENCE) as groups,
    ):
        found = list(groups)
    assert asked[0][:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
    check_chain(found)
    expected = pushed(live(), packets_of(data))
    assert len(found) == len(expected) > 3
    for mine, theirs in list(zip(found, expected, strict=True))[:-1]:  # without the next a picture is not complete
        for name in ("images", "positions", "groups", "is_anchor"):
            assert torch.equal(getattr(mine.canvases, name), getattr(theirs.canvases, name)), name
        assert dict(mine.canvases.clip_times()[0]) == pytest.approx(dict(theirs.canvases.clip_times()[0]), abs=1e-9)
    assert frames_of(found[-1])[1] >= 199


def gone_twice(clock, faults):
    """Notes faults; when a source has ended for the second time nothing comes any more."""

    def on_fault(fault):
        faults.append(fault)
        if "refused" not in fault and sum("refused" not in each for each in faults) == 2:
            clock.seconds += PATIENCE

    return on_fault


def test_a_camera_that_hangs_up_is_called_again(clock):
    """Over RTSP: what follows has time stamps of its own, and the time between is a gap."""
    data, asked, faults = ts_clip(frames=100, bframes=0), [], []

    def called(turn):
        clock.seconds += 0.5 * turn

    with (
        rtsp_server(data, 10.0, asked, turns=2, called=called) as address,
        live().watch(address, give_up_seconds=PATIENCE, on_fault=gone_twice(clock, faults)) as groups,
    ):
        found = list(groups)
    check_chain(found)
    assert [session[3] for session in asked] == ["PLAY", "PLAY"]
    assert 198 <= frames_of(found[-1])[1] <= 200
    gaps = [after.start_seconds - before.end_seconds for before, after in itertools.pairwise(found)]
    assert max(gaps) == pytest.approx(0.5, abs=0.05)  # a frame


def test_a_file_that_grows_is_followed_and_an_object_with_read(tmp_path, clock, monkeypatch):
    """It grows whenever its reader waits at its end; the last part is written when the first group has come."""
    data, path = ts_clip(**DATA), tmp_path / "x.ts"
    path.write_bytes(data[:1000])
    first, parts, wait = threading.Event(), list(chunks(data[1000:], len(data) // 4)), Stop.wait

    def grow(stop, seconds):
        if not parts:
            return wait(stop, seconds)
        if len(parts) == 1:
            first.wait(PATIENCE)
        with open(path, "ab") as out:
            out.write(parts.pop(0))
        return False

    monkeypatch.setattr(Stop, "wait", grow)
    with live().watch(path, give_up_seconds=0.3) as groups:
        found = []
        for group in groups:
            found.append(group)
            if len(found) == 1:
                assert parts  # before the file is complete
                first.set()
    check_same(found, data)
    with open(path, "rb") as file, live().watch(file) as groups:
        check_same(list(groups), data)
        assert not file.closed


def test_a_group_comes_when_the_delay_has_been_sent_and_needs_no_more(clock):
    """The sender goes on when the group is there that is due: of what is 8 s long, 1.5 s after the delay of 1 s."""
    data, found, arrived = ts_clip(**DATA), [], threading.Condition()
    ends = [group.end_seconds for group in pushed(live(), packets_of(data))]
    assert len(ends) > 4
    waited = []

    def lead(peer):
        for due, part in parts_of(data, 8.0):
            with arrived:  # FFmpeg first learns the stream: the first group may come with the second
                while len(found) < len(ends) - 1 and due > ends[max(1, len(found))] + 1.0 + 1.5:
                    waited.append(due)
                    assert arrived.wait(PATIENCE)
            peer.sendall(part)

    with tcp_server(lead) as address, live().watch(address, reconnect=False, give_up_seconds=PATIENCE) as groups:
        for group in groups:
            with arrived:
                found.append(group)
                arrived.notify()
    check_same(found, data)
    assert waited


def test_latency_is_measured_on_the_clock():
    data, sent = ts_clip(**DATA), []

    def send(peer):
        sent.append(time.monotonic())
        peer.sendall(data)

    with tcp_server(send) as address, live().watch(address, reconnect=False) as groups:
        for group in groups:
            assert 0 < group.latency_seconds < time.monotonic() - sent[0]


def test_a_sender_that_dies_and_returns_leaves_a_gap(clock):
    data = ts_clip(**DATA)
    faults = []

    def returns(peer):
        clock.seconds += 1.5
        peer.sendall(data)

    with (
        tcp_server(lambda peer: peer.sendall(data), returns) as address,
        live().watch(address, give_up_seconds=PATIENCE, on_fault=gone_twice(clock, faults)) as groups,
    ):
        found = list(groups)
        progress = groups.progress
    check_chain(found)
    assert frames_of(found[-1])[1] == 400
    assert {"reconnected", "silence"} & {group.reason for group in found}
    second = next(group for group in found if frames_of(group)[0] == 200)
    assert second.start_seconds == pytest.approx(8.0 + 1.5, abs=0.05)  # the time until it was opened again
    assert progress.packets == 400
    assert any("ended" in fault for fault in faults)


def test_a_sender_that_stalls_does_not_hold_the_group(clock):
    """Time goes on while it stalls, and it goes on when the silence was noticed."""
    data = ts_clip(**DATA)
    half = len(data) // 2 // 188 * 188
    heard, found = threading.Event(), []

    def stalls(peer):
        peer.sendall(data[:half])
        limit = time.monotonic() + PATIENCE
        while not heard.wait(0.02) and time.monotonic() < limit:
            clock.seconds += 0.05
        peer.sendall(data[half:])

    with tcp_server(stalls) as address:
        options = {"delay_seconds": 0.5, "silence_seconds": 0.7}
        with live(**options).watch(address, reconnect=False, give_up_seconds=PATIENCE) as groups:
            for group in groups:
                found.append(group)
                if group.reason == "silence":
                    heard.set()
    check_chain(found)
    assert heard.is_set()
    assert frames_of(found[-1])[1] == 200


def test_nothing_and_garbage_end_in_one_error_without_a_busy_loop(monkeypatch):
    port = free_port()
    faults, waits, looks = [], [], []
    wait, get = Stop.wait, Reader.get
    monkeypatch.setattr(Stop, "wait", lambda stop, seconds: waits.append(seconds) or wait(stop, seconds / 10))
    monkeypatch.setattr(Reader, "get", lambda reader, seconds: looks.append(seconds) or get(reader, seconds))
    with monkeypatch.context() as patch:
        clock = stopped_clock(patch)

        def on_fault(fault):
            faults.append(fault)
            clock.seconds += PATIENCE * (len(faults) == 3)

        with pytest.raises(VideoError, match=rf"tcp://127.0.0.1:{port}: Connection refused"):
            list(live().watch(f"tcp://127.0.0.1:{port}", give_up_seconds=PATIENCE, on_fault=on_fault))
    assert waits[:3] == [0.5, 1.0, 2.0]  # before it is tried again
    silent, before = socket.create_server(("127.0.0.1", 0)), len(looks)
    with pytest.raises(VideoError, match=r"nothing came for 1 s|Immediate exit"):
        list(live().watch(f"tcp://127.0.0.1:{silent.getsockname()[1]}", give_up_seconds=1.0))
    silent.close()
    assert len(looks) - before < 20
    garbage = np.random.default_rng(0).bytes(300_000)
    with tcp_server(lambda peer: peer.sendall(garbage)) as address, pytest.raises(VideoError, match="tcp://127"):
        list(live().watch(address, reconnect=False))


def test_stop_ends_with_what_was_seen():
    data = ts_clip(**DATA)
    half = len(data) // 2 // 188 * 188
    done, left = threading.Event(), []

    def hangs(peer):
        peer.sendall(data[:half])
        left.append(done.wait(PATIENCE))

    with (
        tcp_server(hangs) as address,
        live(silence_seconds=PATIENCE).watch(address, reconnect=False, give_up_seconds=2 * PATIENCE) as groups,
    ):
        found = [next(groups)]
        groups.stop()
        found += list(groups)
        assert not left  # the sender hangs as before
        done.set()
    check_chain(found)
    assert found[-1].reason == "end"


def test_a_reader_that_is_slow_holds_the_sender_back_and_keeps_little():
    """A sender at full speed, and a reader that takes one group: what waits between is bounded."""
    data = ts_clip(**DATA) * 60
    sent = []

    def floods(peer):
        for part in chunks(data, 1 << 16):
            peer.sendall(part)
            sent.append(len(part))

    with tcp_server(floods) as address, live().watch(address, reconnect=False) as groups:
        next(groups)
        time.sleep(1.0)
        waiting = groups._reader._queue.qsize()
        assert waiting <= 1024
        assert sum(sent) < len(data)


def test_handles_and_threads_are_given_back(tmp_path):
    data, path = ts_clip(**DATA), tmp_path / "x.ts"
    path.write_bytes(data)

    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def both():
        list(live().watch(path, give_up_seconds=0.1))
        with tcp_server(lambda peer: peer.sendall(data)) as address:
            list(live().watch(address, reconnect=False))

    both()
    before = count()
    for _ in range(3):
        both()
    wait_until(lambda: count()[0] <= before[0] + 1 and count()[1] <= before[1])  # a thread may be about to end


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ftp://host/x.ts", "unknown scheme 'ftp'; known: http, https"),
        ("concat://a|b", "unknown scheme 'concat'"),
        ("nothere.ts", "nothere.ts: No such file or directory; expected a file, a named pipe or an address"),
        ("/dev/null", "/dev/null: neither a file nor a named pipe"),
        (7, "source must be a path, an address, or an object with read, got 7"),
    ],
)
def test_what_cannot_be_read_is_refused(source, message):
    with pytest.raises(VideoError, match=message):
        live().watch(source)


def test_options_are_checked_and_passwords_not_shown():
    with pytest.raises(OptionError, match="give_up_seconds must be above 0, got 0"):
        live().watch("x", give_up_seconds=0)
    port = free_port()
    with pytest.raises(VideoError) as caught:
        list(live().watch(f"http://me:secret@127.0.0.1:{port}/x", reconnect=False, give_up_seconds=1.0))
    assert "secret" not in str(caught.value)


class CountingStop:
    """What a reader waits on; nothing stops it."""

    def __init__(self):
        self.waits = 0

    def wait(self, seconds):
        self.waits += 1
        return False


def test_the_end_of_a_file_is_waited_for_once_however_often_it_is_asked_for(tmp_path):
    path, stop = tmp_path / "growing", CountingStop()
    path.write_bytes(b"first")
    source = GrowingFile(path, 0.5)
    reader, _ = source.open(stop, BoxWalk())
    assert reader.read(99) == b"first"
    assert reader.read(99) == b""
    once = stop.waits
    assert once > 0
    assert (reader.read(99), reader.read(99), stop.waits) == (b"", b"", once)
    with open(path, "ab") as file:
        file.write(b"more")
    assert (reader.read(99), stop.waits) == (b"more", once)
    assert (reader.read(99), stop.waits) == (b"", 2 * once)
    source.close()
