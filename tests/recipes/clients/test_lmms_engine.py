"""Canvases in the form that lmms-engine reads, beside what its own front end hands it."""

import dataclasses

import av
import pytest
import torch

from ov2kit import Canvases
from ov2kit.codec import CodecTokenizer
from ov2kit.errors import CanvasError
from ov2kit.recipes.clients.lmms_engine import EngineVideo
from tests.clips import encode
from tests.paths import SAMPLE

TIMES = [0, 40, 80, 500, 1000, 2500, 2540, 2580, 4000, 4040, 4080, 6000]


@pytest.fixture(scope="module")
def canvases(tmp_path_factory):
    """Several groups of a clip whose times follow no rate."""
    clip = encode(tmp_path_factory.mktemp("clip") / "vfr.mp4", frames=len(TIMES), times_ms=TIMES)
    found = CodecTokenizer(6, canvases_per_group=2, max_pixels=16_000)(str(clip))
    assert len(found.segments().lengths) > 1
    return clip, found


def test_fields_follow_from_the_canvases(canvases):
    clip, own = canvases
    video = EngineVideo.of(own)
    assert torch.equal(video.canvases, own.images)
    assert torch.equal(video.patch_positions.view(own.positions.shape), own.positions.long())
    assert video.n_groups == len(own.segments().lengths) == int(video.gop_ids[-1]) + 1
    with av.open(str(clip)) as file:
        true = [frame.time for frame in file.decode(video=0)]
    for group in range(video.n_groups):
        mine = video.gop_ids == group
        frames = own.positions[mine][..., 0]
        assert video.source_pts[mine].tolist() == pytest.approx([true[int(frames.min())]] * int(mine.sum()))


def test_they_have_the_forms_that_its_own_front_end_gives(canvases):
    utils = pytest.importorskip("lmms_video_utils", reason="needs lmms-eval and lmms-video-utils: make clients")
    theirs = utils.fetch_codec_video(str(SAMPLE), target_canvas=8, max_pixels=20_000)
    mine = EngineVideo.of(canvases[1])
    assert {field.name for field in dataclasses.fields(mine)} == {field.name for field in dataclasses.fields(theirs)}
    for name in ("canvases", "patch_positions", "gop_ids", "source_pts"):
        ours, other = getattr(mine, name), getattr(theirs, name)
        assert (ours.dtype, ours.ndim, ours.shape[1:2]) == (other.dtype, other.ndim, other.shape[1:2]), name
    for video in (mine, theirs):
        height, width = (side // 14 for side in video.canvases.shape[2:])
        assert len(video.patch_positions) == len(video.canvases) * height * width
        whole = video.patch_positions[: height * width].view(height, width, 3)  # the first canvas is a whole frame
        assert whole[0, :, 2].tolist() == list(range(width))
        assert whole[:, 0, 1].tolist() == list(range(height))
        assert [len(set(video.source_pts[video.gop_ids == n].tolist())) for n in range(video.n_groups)] == (
            [1] * video.n_groups
        )
        assert isinstance(video.fps, float)
        assert isinstance(video.n_groups, int)


def test_several_clips_or_a_group_without_a_picture_are_refused(canvases):
    _, own = canvases
    with pytest.raises(CanvasError, match=r"canvases\.split"):
        EngineVideo.of(Canvases.cat([own, own]))
    with pytest.raises(CanvasError, match="every block is padding"):
        EngineVideo.of(dataclasses.replace(own, positions=torch.full_like(own.positions, -1)))
