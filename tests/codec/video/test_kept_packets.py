"""Packets kept from the first look, and those left out because no picture refers to them: the same frames."""

import io
import warnings

import av
import numpy as np
import pytest
import torch

from ov2kit.codec import VideoStream
from ov2kit.codec.video import kept_packets
from ov2kit.codec.video.h264_references import is_unreferenced
from tests.clips import encode, shared_clip


def h264(container, **options):
    file = io.BytesIO()
    encode(file, container=container, frames=80, gop=40, bframes=3, size=(144, 176), **options)
    return file.getvalue()


def seen(clip, every):
    """Frames as far as they come, and what was lost of them."""
    found = []
    with VideoStream(clip, threads=2) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = stream.frames(range(0, len(stream), every), luma_size=(36, 44), reference=True, motion=True)
        for frame in loop:
            vectors = None if frame.motion is None else [frame.motion[name].tolist() for name in ("dst_x", "motion_x")]
            found.append((frame.index, frame.kind, frame.corrupt, frame.reference_index, vectors))
            found.append((frame.luma.tolist(), None if frame.reference is None else frame.reference.tolist()))
        return found, loop.losses


def both(clip, every, monkeypatch):
    """The same with packets kept and with packets read again."""
    kept = seen(clip, every)
    with monkeypatch.context() as patched:
        patched.setattr(kept_packets, "MOST_BYTES", 0)
        return kept, seen(clip, every)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("pyramid", ["none", "normal"])
def test_unreferenced_packets_are_those_that_a_decoder_skips(container, pyramid):
    """AVDISCARD_NONREF, one packet after the other: which of them give no picture."""
    clip = h264(container, options={"preset": "ultrafast", "b-pyramid": pyramid})
    with av.open(io.BytesIO(clip)) as source:
        stream = source.streams.video[0]
        test = is_unreferenced(stream.codec_context.extradata)
        packets = [packet for packet in source.demux(stream) if packet.size]
        answers = [test(bytes(packet)) for packet in packets]
        decoder = stream.codec_context
        decoder.thread_type, decoder.skip_frame, decoder.copy_opaque = "NONE", "NONREF", True
        for at, packet in enumerate(packets):
            packet.opaque = [at]
        shown = [frame.opaque[0] for packet in [*packets, None] for frame in decoder.decode(packet)]
    assert sum(answers) > 20
    assert [at for at, skipped in enumerate(answers) if not skipped] == sorted(shown)


def test_what_a_decoder_keeps_is_needed():
    def units(*heads):
        return b"".join((4).to_bytes(4, "big") + bytes([head, 1, 2, 3]) for head in heads)

    test = is_unreferenced(bytes([1, 100, 0, 30, 0xFF, 0xE0, 0]))
    assert test(units(0x01))
    assert test(units(0x09, 0x01, 0x01, 0x0C))
    for heads in (
        (0x21,),
        (0x01, 0x41),
        (0x06, 0x01),
        (0x67, 0x01),
        (0x68, 0x01),
        (0x0A, 0x01),
        (0x81,),
        (0x09,),
        (0x02,),
    ):
        assert not test(units(*heads)), heads
    assert not test(units(0x01)[:-1])  # cut
    assert not test(units(0x01) + b"\0\0\0\0")
    assert not test(b"")
    assert not is_unreferenced(bytes([1, 100, 0, 30, 0xFD, 0xE0, 0]))(units(0x01))  # lengths of two bytes
    annex_b = is_unreferenced(None)
    assert annex_b(b"\0\0\0\1\x09\xf0\0\0\1\x01\x9a")
    assert not annex_b(b"\x05\0\0\1\x01\x9a")
    assert not annex_b(b"\0\0\1\x01\x9a\0\0\1")


@pytest.mark.parametrize(
    "name", ["bbb_bframes.mp4", "bbb_vp9.webm", "nasa_hevc10.mp4", "bbb_mpeg4.mp4", "bbb_vp8.webm"]
)
def test_clips_of_each_codec(name, monkeypatch):
    with VideoStream(str(shared_clip(name))) as stream:
        assert stream._kept.data is not None
    kept, read = both(str(shared_clip(name)), 4, monkeypatch)
    assert len(kept[0]) >= 12
    assert kept == read


@pytest.mark.parametrize("seed", range(12))
def test_damaged_streams(seed, monkeypatch):
    """Bytes of pictures are overwritten: the same frames, marks and counts of losses."""
    clip = bytearray(h264(("mpegts", "mp4")[seed % 2], options={"preset": "ultrafast", "b-pyramid": "normal"}))
    with av.open(io.BytesIO(bytes(clip))) as source:
        places = [(packet.pos, packet.size) for packet in source.demux(source.streams.video[0]) if packet.size]
    drawn = np.random.default_rng(seed)
    for place in drawn.choice(len(places), 6, replace=False):
        at, size = places[place]
        spot = at + int(drawn.integers(0, min(size, 120)))
        clip[spot : spot + 4] = drawn.bytes(4)
    kept, read = both(bytes(clip), 3, monkeypatch)
    assert kept == read


def test_fields_are_left_to_the_decoder(monkeypatch):
    clip = h264("mp4", options={"preset": "ultrafast", "x264-params": "tff=1"}, interlaced=True)
    with VideoStream(clip) as stream:
        assert stream._kept.data is not None
        assert stream._kept.sieves is None
    with VideoStream(h264("mp4", options={"preset": "ultrafast"})) as stream:
        assert stream._kept.sieves is not None


def test_nothing_is_kept_of_what_bytes_do_not_tell_or_of_too_much(monkeypatch):
    with VideoStream(str(shared_clip("odd/headers_change.flv"))) as stream:  # new headers come beside a packet
        assert stream._kept.data is None
        expected = torch.stack([frame.luma for frame in stream.frames(luma_size=(28, 28))])
    assert len(expected) > 10
    clip = h264("mp4", options={"preset": "ultrafast"})
    with VideoStream(clip) as stream:
        assert len(stream._kept.data) == 80
        size = sum(map(len, stream._kept.data))
    monkeypatch.setattr(kept_packets, "MOST_BYTES", size)
    with VideoStream(clip) as stream:
        assert stream._kept.data is None
