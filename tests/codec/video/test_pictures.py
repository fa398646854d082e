"""Scaled pictures: luma is the luma that was coded, and a picture kept as decoded gives the RGB of one that was not."""

import threading

import av
import numpy as np
import pytest

from ov2kit.codec.stream import VideoStream
from ov2kit.codec.video.block_scaler import Layout
from ov2kit.codec.video.decode_plan import plan_decode
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.pictures import PictureScaler
from tests.paths import SAMPLE

FULL, LIMITED = 2, 1
BT709, BT601, BT2020, SMPTE240M = 1, 5, 9, 7


def picture(pix_fmt, colorspace, color_range, height=48, width=64):
    """Random planes under given tags; what plane 0 holds is known."""
    frame = av.VideoFrame(width, height, pix_fmt)
    rng = np.random.default_rng(7)
    deep = frame.format.components[0].bits > 8
    for number, plane in enumerate(frame.planes):
        shape = (plane.height, plane.line_size // (2 if deep else 1))
        level = 180 if color_range == FULL and number == 0 else 150
        values = np.kron(rng.integers(30, level, (shape[0] // 4, shape[1] // 4)), np.ones((4, 4), int))
        full = np.full(shape, 128)
        full[: values.shape[0], : values.shape[1]] = values
        plane.update((full * 4).astype("<u2").tobytes() if deep else full.astype(np.uint8).tobytes())
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def coded_luma(frame, full):
    """(height, width) gray levels of plane 0, stretched to the full range."""
    plane, deep = frame.planes[0], frame.format.components[0].bits > 8
    kind = "<u2" if deep else np.uint8
    level = np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : frame.width] / (4.0 if deep else 1.0)
    return level if full else np.clip((level - 16) * 255 / 219, 0, 255)


@pytest.mark.parametrize("colorspace", [BT709, BT601, BT2020, SMPTE240M])
@pytest.mark.parametrize(
    ("pix_fmt", "color_range"),
    [("yuv420p", LIMITED), ("yuv420p", FULL), ("yuvj420p", FULL), ("yuv444p", LIMITED), ("yuv420p10le", LIMITED)],
)
def test_luma_is_plane_0_whatever_the_color_matrix(pix_fmt, colorspace, color_range):
    frame = picture(pix_fmt, colorspace, color_range)
    found = PictureScaler().luma(frame, (24, 32), Orientation())
    means = coded_luma(frame, color_range == FULL).reshape(24, 2, 32, 2).mean((1, 3))
    assert np.abs(found - means).max() <= 1.0


def test_a_picture_kept_as_decoded_gives_the_same_rgb():
    stream = VideoStream(SAMPLE)
    scaled = stream.frames([0, 7, 30], size=(84, 140), motion=True)
    kept = stream.frames([0, 7, 30], size=(84, 140), motion=True, rgb=False, picture=True)
    for one, other in zip(scaled, list(kept), strict=True):
        assert one.picture is None
        assert other.rgb is None
        assert np.array_equal(one.rgb, other.picture.rgb())
        assert np.array_equal(one.motion, other.motion) if one.motion is not None else other.motion is None


def test_frames_in_waiting_are_bounded_by_the_bytes_of_their_pictures():
    stream = VideoStream(SAMPLE)
    wanted = np.ones(len(stream), dtype=bool)
    plans = [
        plan_decode(stream.packets, stream.info, wanted, request, 2)
        for request in (FrameRequest((84, 140)), FrameRequest((2000, 4000)), FrameRequest(rgb=False, picture=True))
    ]
    nbytes = [3 * 84 * 140, 3 * 2000 * 4000, 360 * 640 * 3 // 2]
    assert [plan.ahead for plan in plans] == [96, 2, 96]
    assert all(plan.hold * size <= 64 << 20 for plan, size in zip(plans, nbytes, strict=True))


def test_luma_and_rgb_of_one_picture_in_two_threads():
    """While PyAV scaled luma, the picture was tagged BT.601, and RGB of it that another thread made was wrong."""
    frame, scaler, as_coded = picture("yuv420p", BT709, LIMITED, 720, 1280), PictureScaler(), Orientation()
    expected = scaler.rgb(frame, (288, 512), as_coded)
    ended = threading.Event()

    def lumas():
        while not ended.is_set():
            scaler.luma(frame, (576, 1024), as_coded)

    other = threading.Thread(target=lumas)
    other.start()
    try:
        found = [scaler.rgb(frame, (288, 512), as_coded) for _ in range(40)]
        layouts = {scaler.layout(frame) for _ in range(200)}
    finally:
        ended.set()
        other.join()
    assert all(np.array_equal(each, expected) for each in found)
    assert layouts == {Layout.of(frame)}
    assert frame.colorspace == BT709
