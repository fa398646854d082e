"""Packets of jobs, and decoding in the thread that asks for frames."""

import io
import threading
import time

import numpy as np
import pytest
import torch

from ov2kit.codec import VideoStream
from ov2kit.codec.video import decode, decode_plan, frame_maker, kept_packets
from ov2kit.codec.video.dealing import Dealer
from ov2kit.codec.video.jobs import DecodeJob
from ov2kit.errors import VideoError
from tests.clips import encode
from tests.patience import PATIENCE


def clip_of(gop):
    file = io.BytesIO()
    encode(file, codec="libx264", container="mp4", options={"preset": "ultrafast"}, gop=gop, frames=90, bframes=2)
    return file.getvalue()


@pytest.fixture(scope="module")
def clip():
    """90 frames, a key frame every 30."""
    return clip_of(30)


def test_packets_of_jobs_and_headers_before_them():
    packets = [f"packet {i}" for i in range(20)]
    dealer = Dealer(packets, frozenset({0, 6, 12}))
    jobs = [DecodeJob(((2, 4),)), DecodeJob(((6, 8), (9, 10))), DecodeJob(((13, 15),)), DecodeJob(((18, 30),))]
    dealt = []
    for job in jobs:
        primers, own = dealer.job(job)
        dealt.append(([at for at, _ in primers], [at for at, _ in own]))
    assert dealt == [([0], [2, 3]), ([0], [6, 7, 9]), ([0, 6, 12], [13, 14]), ([0, 6, 12], [18, 19])]
    assert dealer.job(DecodeJob(((30, 31),)))[0] == ()


def test_one_thread_is_the_callers(clip, monkeypatch):
    decoding, shown = set(), decode.shown_pictures

    def noted(*given):
        decoding.add(threading.current_thread().name)
        return shown(*given)

    monkeypatch.setattr(decode, "shown_pictures", noted)
    for threads, names in ((1, {threading.current_thread().name}), (2, {"ov2kit-decode"})):
        decoding.clear()
        with VideoStream(clip, threads=threads) as stream:
            assert len(list(stream.frames(luma_size=(28, 28)))) == 90
        assert decoding == names
    assert not [thread for thread in threading.enumerate() if thread.name == "ov2kit-decode"]


def test_frames_do_not_depend_on_who_decodes(clip):
    lumas = []
    for threads in (1, 2):
        with VideoStream(clip, threads=threads) as stream:
            wanted = np.arange(1, 90, 7).tolist()
            lumas.append(torch.stack([frame.luma for frame in stream.frames(wanted, luma_size=(28, 28))]))
    assert len(lumas[0]) == 13
    assert torch.equal(*lumas)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("gop", [30, 90])  # the stretch that fails is decoded again, or is all of the clip
def test_frames_before_a_fault_of_reading_are_given(gop, threads, monkeypatch):
    read, clip = decode.demux_packets, clip_of(gop)
    monkeypatch.setattr(kept_packets, "MOST_BYTES", 0)

    def failing(container, stream):
        for at, packet in enumerate(read(container, stream)):
            if at == 40:
                raise OSError("the disk is gone")
            yield packet

    with VideoStream(clip, threads=threads) as stream:
        monkeypatch.setattr(decode, "demux_packets", failing)
        given = []
        with pytest.raises(Exception, match="the disk is gone"):
            given.extend(frame.index for frame in stream.frames(luma_size=(28, 28)))
    assert given[:30] == list(range(30))
    assert given == sorted(given)


def test_jobs_of_more_packets_than_may_be_read_ahead(clip, monkeypatch):
    """One thread after the other then; and whoever leaves early waits for nobody."""
    with VideoStream(clip, threads=1) as stream:
        expected = torch.stack([frame.luma for frame in stream.frames(luma_size=(28, 28))])
    monkeypatch.setattr(kept_packets, "MOST_BYTES", 0)
    monkeypatch.setattr(decode, "_PACKET_BYTES_AHEAD", 1)
    with VideoStream(clip, threads=3) as stream:
        assert torch.equal(torch.stack([frame.luma for frame in stream.frames(luma_size=(28, 28))]), expected)
        frames = stream.frames(luma_size=(28, 28))
        next(frames)
        frames.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ov2kit-decode"]


def test_a_fault_of_a_decoding_thread_is_raised(clip, monkeypatch):
    def failing(*given):
        raise MemoryError("no memory for a decoder")

    monkeypatch.setattr(decode, "prime_decoder", failing)
    for threads in (1, 2):
        with VideoStream(clip, threads=threads) as stream, pytest.raises(MemoryError, match="for a decoder"):
            list(stream.frames(luma_size=(28, 28)))


def test_decoders_do_not_run_far_ahead_of_whoever_takes_frames(monkeypatch):
    """Jobs of few frames each: what all of them hold together is bounded, not what each does."""
    monkeypatch.setattr(decode_plan, "_FRAMES_AHEAD", 4)
    made, of_pass = [], frame_maker.FrameMaker.frame

    def noted(self, decoded):
        made.append(decoded.index)
        return of_pass(self, decoded)

    monkeypatch.setattr(frame_maker.FrameMaker, "frame", noted)
    file = io.BytesIO()
    encode(file, codec="libx264", container="mp4", options={"preset": "ultrafast"}, gop=50, frames=600, bframes=0)
    with VideoStream(file.getvalue(), threads=2) as stream:
        frames = stream.frames(range(49, 600, 50), luma_size=(28, 28))
        next(frames)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and len(made) < 12:
            time.sleep(0.02)
        assert len(made) <= 1 + 4 + 2  # taken, waiting, and one in the hands of each thread
        assert [frame.index for frame in frames] == list(range(99, 600, 50))
    assert sorted(made) == list(range(49, 600, 50))


def test_a_file_that_can_be_opened_once_and_not_again(clip, monkeypatch):
    """Each thread opens a container of its own; the frames before the interval of one that cannot are given."""
    prime, failed, stream = decode.prime_decoder, threading.Event(), VideoStream(clip, threads=2)
    calls, opened = iter(range(9)), stream._source.open

    def open_once():
        if next(calls):
            failed.set()
            raise VideoError("the file is gone")
        return opened()

    def waiting(*given):
        assert failed.wait(PATIENCE)
        return prime(*given)

    monkeypatch.setattr(stream._source, "open", open_once)
    monkeypatch.setattr(decode, "prime_decoder", waiting)
    given = []
    with pytest.raises(VideoError, match="the file is gone"):
        given.extend(frame.index for frame in stream.frames(luma_size=(28, 28)))
    assert given == list(range(60))  # short intervals share a job
    assert not [thread for thread in threading.enumerate() if thread.name == "ov2kit-decode"]
