"""FrameMaker and HeldBack alone: what becomes of a decoded picture, and of results that may be damaged."""

import sys
from dataclasses import replace

import av
import numpy as np
import pytest

from ov2kit.codec.stream import VideoStream
from ov2kit.codec.video.frame_maker import FrameMaker
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.queues import HeldBack
from ov2kit.codec.video.references import DecodedFrame
from tests.paths import SAMPLE


@pytest.fixture(scope="module")
def stream():
    return VideoStream(SAMPLE)


@pytest.fixture(scope="module")
def pictures():
    """The first three frames as FFmpeg gives them."""
    with av.open(str(SAMPLE)) as container:
        found = container.streams.video[0]
        found.codec_context.thread_type = "NONE"
        found.codec_context.options = {"flags2": "+export_mvs"}
        return [frame for frame, _ in zip(container.decode(video=0), range(3), strict=False)]


def made(stream, pictures, info=None, index=2, **request):
    maker = FrameMaker(FrameRequest(**request), stream.packets, info or stream.info)
    return maker.frame(DecodedFrame(index, pictures[index], pictures[0], 0, run=0))


def test_facts_come_from_the_table_and_the_picture(stream, pictures):
    frame = made(stream, pictures, size=(36, 64))
    with av.open(str(SAMPLE)) as container:
        sizes = {p.pts: p.size for p in container.demux(video=0) if p.size}
    assert (frame.index, frame.kind, frame.is_key) == (2, "PB"[pictures[2].pict_type == 3], False)
    assert frame.nbytes == sizes[pictures[2].pts]
    assert frame.seconds == pytest.approx(pictures[2].time - pictures[0].time)
    assert frame.coded_size == (360, 640)
    assert frame.rgb.shape == (3, 36, 64)
    assert (frame.luma, frame.reference, frame.motion, frame.quantizer) == (None,) * 4
    assert frame.reference_index == 0


def test_each_part_is_made_where_it_is_asked_for(stream, pictures):
    frame = made(stream, pictures, rgb=False, luma_size=(36, 64), reference=True, motion=True)
    assert frame.rgb is None
    area = {"width": 64, "height": 36, "format": "gray", "interpolation": "AREA"}
    assert np.array_equal(frame.luma.numpy(), pictures[2].reformat(**area).to_ndarray())
    assert np.array_equal(frame.reference.numpy(), pictures[0].reformat(**area).to_ndarray())
    exported = pictures[2].side_data.get("MOTION_VECTORS").to_ndarray()
    for name in exported.dtype.names:
        assert np.array_equal(frame.motion[name], exported[name])


def test_rgb_and_luma_are_turned_as_shown_and_luma_as_coded_is_not(stream, pictures):
    clockwise = Orientation(transpose=True, flip_x=True)
    turned = replace(stream.info, orientation=clockwise, display_size=(640, 360))
    shown = made(stream, pictures, turned, luma_size=(64, 36))
    coded = made(stream, pictures, turned, rgb=False, luma_size=(36, 64), as_coded=True)
    assert shown.rgb.shape == (3, 640, 360)  # the display size where none is given
    plain = made(stream, pictures, rgb=False, luma_size=(36, 64))
    assert np.array_equal(coded.luma, plain.luma)
    assert np.array_equal(shown.luma, np.rot90(plain.luma.numpy(), -1))


def test_a_picture_decoded_again_under_the_same_index_is_another_picture(stream, pictures):
    """Damage is decoded again: the luma kept for an index is that of its picture, not of the one before."""
    maker = FrameMaker(FrameRequest(rgb=False, luma_size=(36, 64)), stream.packets, stream.info)
    first = maker.frame(DecodedFrame(0, pictures[0], None, -1, run=0)).luma
    again = maker.frame(DecodedFrame(0, pictures[2], None, -1, run=1)).luma
    assert not np.array_equal(first, again)
    assert np.array_equal(again, made(stream, pictures, rgb=False, luma_size=(36, 64)).luma)


def test_luma_that_is_kept_keeps_no_picture(stream, pictures):
    """Pictures of 1080p are 3 MB each."""
    maker = FrameMaker(FrameRequest(rgb=False, luma_size=(36, 64), reference=True), stream.packets, stream.info)
    held = [sys.getrefcount(picture) for picture in pictures]
    first = maker.frame(DecodedFrame(2, pictures[2], pictures[0], 0, run=0))
    assert [sys.getrefcount(picture) for picture in pictures] == held
    again = maker.frame(DecodedFrame(1, pictures[1], pictures[0], 0, run=0))
    assert again.reference is first.reference  # kept it is


@pytest.mark.parametrize(("most", "at_once"), [(0, 5), (3, 5), (4, 5), (5, 0), (9, 0)])
def test_results_are_held_back_until_there_are_too_many(most, at_once):
    given = []
    held = HeldBack(given.append, most)
    for item in range(5):
        held.add(item)
        assert given == (list(range(item + 1)) if item + 1 > most else [])
    assert len(given) == at_once
    held.release()
    held.add(5)
    assert given == list(range(6))
