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
from ov2kit.codec.live.inputs import GrowingFile
from ov2kit.errors import OptionError, VideoError
from tests.codec.live.rtsp import rtsp_server
from tests.codec.live.senders import free_port, http_server, paced, pipe_writer, tcp_server, udp_sender
from tests.codec.live.streams import check_chain, chunks, frames_of, packets_of, pushed, ts_clip

DATA = {"frames": 200, "bframes": 0}  # 8 s


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
def test_groups_over_a_network_or_pipe_are_those_of_the_bytes(kind, tmp_path):
    data = ts_clip(**DATA)
    os.mkfifo(tmp_path / "pipe")
    sender = {
        "tcp": lambda: tcp_server(lambda peer: paced(data, 1.0, peer.sendall)),
        "udp": lambda: udp_sender(data, 1.0),
        "http": lambda: http_server(data, 1.0),
        "pipe": lambda: pipe_writer(tmp_path / "pipe", data, 1.0),
    }[kind]
    with sender() as address, live().watch(address, reconnect=False, give_up_seconds=2.0) as groups:
        found = list(groups)
    check_same(found, data, has_end=kind != "udp")


@pytest.mark.parametrize("bframes", [0, 3])
def test_groups_over_rtsp_are_those_of_the_packets(bframes):
    """FFmpeg gives the first picture without a time, and others without a decoding time."""
    data, asked = ts_clip(frames=200, bframes=bframes), []
    with rtsp_server(data, 8.0, asked) as address, live().watch(address, reconnect=False) as groups:
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


def test_a_camera_that_hangs_up_is_called_again():
    """Over RTSP: what follows has time stamps of its own, and the time between is a gap."""
    data, asked = ts_clip(frames=100, bframes=0), []
    with rtsp_server(data, 10.0, asked, turns=2) as address, live().watch(address, give_up_seconds=1.5) as groups:
        found = list(groups)
    check_chain(found)
    assert [session[3] for session in asked] == ["PLAY", "PLAY"]
    assert 198 <= frames_of(found[-1])[1] <= 200
    assert any(after.start_seconds - before.end_seconds > 0.2 for before, after in itertools.pairwise(found))


def test_a_file_that_grows_is_followed_and_an_object_with_read(tmp_path):
    data, path = ts_clip(**DATA), tmp_path / "x.ts"
    path.write_bytes(data[:1000])
    first = threading.Event()

    def grow():
        for part in chunks(data[1000:], len(data) // 4):
            time.sleep(0.15)
            with open(path, "ab") as out:
                out.write(part)
            first.wait(0.2)

    writer = threading.Thread(target=grow)
    writer.start()
    with live().watch(path, give_up_seconds=1.0) as groups:
        found = []
        for group in groups:
            found.append(group)
            if len(found) == 1:
                assert writer.is_alive()  # before the file is complete
                first.set()
    writer.join()
    check_same(found, data)
    with open(path, "rb") as file, live().watch(file) as groups:
        check_same(list(groups), data)
        assert not file.closed


def test_latency_is_bounded_in_real_time_and_measured_on_the_clock():
    """8 s of video in 4 s: the delay of the stream lasts half as long; what comes on top is decoding."""
    data, seen, sent = ts_clip(**DATA), [], {}
    begin = time.monotonic()

    def send(peer):
        sent["begin"] = time.monotonic()
        paced(data, 4.0, peer.sendall)

    with tcp_server(send) as address, live(delay_seconds=1.0).watch(address, reconnect=False) as groups:
        for group in groups:
            seen.append((time.monotonic(), group))
    assert begin <= sent["begin"]
    live_ones = [(at, group) for at, group in seen if group.reason != "end"][1:]  # FFmpeg first learns the stream
    assert len(live_ones) >= 2
    for at, group in live_ones:
        due = sent["begin"] + group.end_seconds / 2
        assert at - due <= 0.5 + group.latency_seconds + 0.3
        assert at - due <= 0.5 + 2.0  # two busy cores
        assert group.latency_seconds > 0


def test_a_sender_that_dies_and_returns_leaves_a_gap():
    data = ts_clip(**DATA)
    faults = []

    def turn(peer):
        paced(data, 0.3, peer.sendall)

    with (
        tcp_server(turn, turn) as address,
        live().watch(address, give_up_seconds=1.5, on_fault=faults.append) as groups,
    ):
        found = list(groups)
        progress = groups.progress
    check_chain(found)
    assert frames_of(found[-1])[1] == 400
    assert "reconnected" in {group.reason for group in found} | ({"silence"} & {g.reason for g in found})
    second = next(group for group in found if frames_of(group)[0] == 200)
    assert 8.0 + 0.2 <= second.start_seconds <= 8.0 + 2.5  # the time until it was opened again
    assert progress.packets == 400
    assert any("ended" in fault for fault in faults)


def test_a_sender_that_stalls_does_not_hold_the_group():
    data = ts_clip(**DATA)
    half = len(data) // 2 // 188 * 188
    times = []

    def stalls(peer):
        paced(data[:half], 0.2, peer.sendall)
        time.sleep(1.5)
        peer.sendall(data[half:])

    with tcp_server(stalls) as address:
        options = {"delay_seconds": 0.5, "silence_seconds": 0.7}
        with live(**options).watch(address, reconnect=False) as groups:
            found = []
            for group in groups:
                found.append(group)
                times.append(time.monotonic())
    check_chain(found)
    assert "silence" in [group.reason for group in found]
    last = next(k for k, group in enumerate(found) if group.reason == "silence")
    assert times[last + 1] - times[last] > 0.4  # it came while nothing was sent
    assert frames_of(found[-1])[1] == 200


def test_nothing_and_garbage_end_in_one_error_without_a_busy_loop():
    port = free_port()
    faults = []
    used = time.process_time()
    with pytest.raises(VideoError, match=rf"tcp://127.0.0.1:{port}: Connection refused"):
        list(live().watch(f"tcp://127.0.0.1:{port}", give_up_seconds=1.2, on_fault=faults.append))
    assert 2 <= len(faults) <= 5  # tried again after 0.25, 0.5, ... s
    silent = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(VideoError, match=r"nothing came for 1 s|Immediate exit"):
        list(live().watch(f"tcp://127.0.0.1:{silent.getsockname()[1]}", give_up_seconds=1.0))
    silent.close()
    assert time.process_time() - used < 1.0
    garbage = np.random.default_rng(0).bytes(300_000)
    with tcp_server(lambda peer: peer.sendall(garbage)) as address, pytest.raises(VideoError, match="tcp://127"):
        list(live().watch(address, reconnect=False))


def test_stop_ends_with_what_was_seen():
    data = ts_clip(**DATA)
    half = len(data) // 2 // 188 * 188
    done = threading.Event()

    def hangs(peer):
        peer.sendall(data[:half])
        done.wait(8)

    with tcp_server(hangs) as address, live().watch(address, reconnect=False) as groups:
        found = [next(groups)]
        groups.stop()
        begin = time.monotonic()
        found += list(groups)
        assert time.monotonic() - begin < 3
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
    for _ in range(4):
        both()
    after = count()
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1]


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
    reader, _ = source.open(stop)
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
