"""Threads inside a decoder: when they are used, and that pictures do not depend on them."""

import io
import warnings

import av
import numpy as np
import pytest

from ov2kit.codec import VideoStream
from ov2kit.codec.video import decode
from ov2kit.codec.video.decode_plan import plan_decode
from ov2kit.codec.video.frame_request import FrameRequest
from tests.clips import decoded, encode

av.logging.set_level(None)

CODECS = {  # encoder, container, options, frames from one key frame to the next
    "hevc": ("libx265", "mp4", {"preset": "ultrafast", "x265-params": "log-level=none:scenecut=0"}, 60),
    "vp9": ("libvpx-vp9", "matroska", {"deadline": "realtime", "cpu-used": "8"}, 60),
    "av1": ("libsvtav1", "matroska", {"preset": "12", "crf": "40"}, 60),
    "h264": ("libx264", "mp4", {"preset": "ultrafast"}, 60),
    "hevc, even": ("libx265", "mp4", {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=0"}, 60),
}


@pytest.fixture(scope="module")
def clips():
    """Bytes of each clip, 80 frames: intervals of 60 and 20; 120, and so two of 60, where they are even."""
    made = {}
    for name, (encoder, container, options, gop) in CODECS.items():
        try:
            av.Codec(encoder, "w")
        except av.error.FFmpegError:
            continue
        file = io.BytesIO()
        frames = 120 if "even" in name else 80
        encode(file, codec=encoder, container=container, options=options, gop=gop, frames=frames, bframes=3)
        made[name] = file.getvalue()
    return made


def clip_of(clips, name):
    return clips[name] if name in clips else pytest.skip(f"this FFmpeg has no {CODECS[name][0]}")


def plan_of(stream, threads, can_retry=True):
    wanted = np.ones(len(stream), dtype=bool)
    return plan_decode(stream.packets, stream.info, wanted, FrameRequest(), threads, can_retry)


@pytest.mark.parametrize(
    ("name", "inside", "without_retry"),
    [("hevc", 2, 1), ("vp9", 2, 2), ("av1", 2, 1), ("h264", 1, 1), ("hevc, even", 1, 1)],
)
def test_threads_are_inside_the_decoder_where_intervals_are_unlike_and_there_are_no_vectors(
    clips, name, inside, without_retry
):
    stream = VideoStream(clip_of(clips, name))
    plan = plan_of(stream, 2)
    assert (plan.threads, plan.frame_threads) == (2 // inside, inside)
    assert plan_of(stream, 2, can_retry=False).frame_threads == without_retry
    assert (plan_of(stream, 1).threads, plan_of(stream, 1).frame_threads) == (1, 1)


@pytest.mark.parametrize("name", ["hevc", "vp9", "av1"])
def test_pictures_are_those_of_a_plain_decode(clips, name, monkeypatch):
    prepared = []
    monkeypatch.setattr(decode, "prepare_decoder", spy(decode.prepare_decoder, prepared))
    data = clip_of(clips, name)
    truth = decoded(data)
    for indices in (None, [70], [3, 40, 79]):
        frames = list(VideoStream(data, threads=3).frames(indices))
        assert [frame.index for frame in frames] == (indices or list(range(80)))
        for frame in frames:
            assert np.array_equal(frame.rgb.permute(1, 2, 0), truth[frame.index])
    assert 3 in prepared


def spy(call, threads):
    def called(context, **options):
        threads.append(options.get("frame_threads", 1))
        call(context, **options)

    return called


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_stream_gives_what_one_thread_gives(clips, seed):
    """Left to itself, libdav1d with threads gives up pictures before the damage."""
    data = bytearray(clip_of(clips, "av1"))
    places = np.random.default_rng(seed).integers(len(data) // 3, len(data) - 200, size=2)
    for place in places:
        data[place : place + 40] = bytes(range(200, 240))
    given = [frames_and_losses(bytes(data), threads) for threads in (1, 2, 3)]
    assert given[0][1].failed_packets > 0
    for frames, losses in given[1:]:
        assert losses == given[0][1]
        assert frames.keys() == given[0][0].keys()
        assert all(np.array_equal(rgb, given[0][0][index]) for index, rgb in frames.items())


def frames_and_losses(data, threads):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = VideoStream(data, threads=threads).frames()
        frames = {frame.index: frame.rgb.numpy() for frame in loop}
    return frames, loop.losses
