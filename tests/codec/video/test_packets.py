"""The packet table: times rounded once, and pictures counted alike whether or not the counter sees every packet."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from ov2kit.codec import VideoStream
from ov2kit.codec.video import scan
from ov2kit.codec.video.entry_points import starts_at
from ov2kit.codec.video.packets import _seconds, read_packets
from ov2kit.codec.video.shown import SECOND_FIELD, PictureCounter
from ov2kit.codec.video.source import demux_packets
from tests.clips import encode, shared_clip

_LONG = (1 << 53) + 1  # the first integer that is no float


@pytest.mark.parametrize(
    "ticks",
    [
        [],
        [0, 512, 1024, -512],
        [None, 512, None],
        [_LONG, -_LONG, 3],
        [_LONG // 1001, _LONG // 1001 + 1],
        [(1 << 63) - 1, None, -(1 << 63) + 1],
    ],
)
@pytest.mark.parametrize("base", [Fraction(1, 12800), Fraction(1001, 30000), Fraction(7, 3)])
def test_seconds_are_those_of_whole_numbers_rounded_once(ticks, base):
    seconds = _seconds(ticks, base)
    assert seconds.dtype == np.float64
    assert seconds.shape == (len(ticks),)
    exact = [None if tick is None else float(tick * base) for tick in ticks]
    assert [None if np.isnan(each) else each for each in seconds.tolist()] == exact


class SeesEveryPacket(PictureCounter):
    passes_others = False


def columns(clip, monkeypatch, counter):
    with monkeypatch.context() as patched:
        patched.setattr(scan, "PictureCounter", counter)
        with VideoStream(clip) as stream:
            table = stream.packets
    return table.begins.tolist(), table.order.tolist(), table.frame_seconds.tolist(), table.exact


@pytest.mark.parametrize(
    "name",
    [
        "bottles.mp4", "bbb_bframes.mp4", "bbb_mpeg4.mp4", "bbb_vp8.webm", "bbb_vp9.webm", "camera_mjpeg.avi",
        "nasa_hevc10.mp4", "pattern_av1.mkv", "odd/field_pictures.ts", "odd/field_pictures_joined.ts",
        "odd/headers_change.flv", "odd/vp8_hidden.webm", "odd/vp9_hidden.webm", "odd/xvid_packed.avi",
    ],
)  # fmt: skip
def test_packets_that_are_passed_over_begin_one_picture_each(name, monkeypatch):
    clip = str(shared_clip(name))
    assert columns(clip, monkeypatch, PictureCounter) == columns(clip, monkeypatch, SeesEveryPacket)


class NoKey:
    """A packet without its key flag."""

    is_keyframe = False

    def __init__(self, packet):
        self._packet = packet

    def __getattr__(self, name):
        return getattr(self._packet, name)

    def __bytes__(self):
        return bytes(self._packet)


def test_fields_after_pictures_that_were_passed_over_are_paired():
    """The parameter sets that allow fields come with a key packet in mid-stream; the fields after it are no keys."""
    frames = io.BytesIO()
    encode(frames, container="mpegts", frames=40, size=(144, 176))
    clip = frames.getvalue() + shared_clip("odd/field_pictures.ts").read_bytes()
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        packets = [packet if at <= 40 else NoKey(packet) for at, packet in enumerate(demux_packets(container, stream))]
        assert packets[40].is_keyframe
        assert not packets[1].is_keyframe
        counter = PictureCounter("h264", stream.codec_context.extradata)
        table = read_packets(packets, stream, starts_at("h264", None), counter)
    assert table.begins.tolist() == [1] * 40 + [1, SECOND_FIELD] * 50


@pytest.mark.parametrize(
    ("codec", "container", "more", "expected"),
    [
        ("libx264", "mp4", {}, True),
        ("libx264", "mp4", {"options": {"x264-params": "tff=1"}}, False),
        ("libx265", "mp4", {}, False),  # its tails are looked at
        ("mpeg4", "mp4", {}, False),  # its sizes are looked at
        ("mjpeg", "avi", {"pix_fmt": "yuvj420p"}, True),
    ],
)
def test_who_has_to_see_every_packet(codec, container, more, expected, monkeypatch):
    made = []

    class Kept(PictureCounter):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(scan, "PictureCounter", Kept)
    file = io.BytesIO()
    encode(file, codec=codec, container=container, **more)
    with VideoStream(file.getvalue()):
        assert made[0].passes_others is expected
