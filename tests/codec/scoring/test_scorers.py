"""Scorers: what each asks of a frame, and that they read no more of it than that."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from ov2kit.codec import (
    ByteShareSaliency,
    EstimatedBitsScorer,
    ExternalMapScorer,
    MotionResidualSaliency,
    RandomSaliency,
    RandomScorer,
    SaliencyScorer,
    VideoStream,
)
from ov2kit.codec.scoring.block_scorer import BlockScorer
from ov2kit.codec.video.frame_request import FrameRequest
from tests.paths import SAMPLE

SIZE, GRID = (112, 196), (4, 7)
FRAMES = range(3, 12)
MAPS = {frame: np.full((5, 5), frame, dtype=np.float32) for frame in FRAMES}
SCORERS = {
    "saliency": (lambda: SaliencyScorer(MotionResidualSaliency()), "motion+residual"),
    "bytes": (lambda: SaliencyScorer(ByteShareSaliency()), "motion+residual"),
    "luma": (lambda: SaliencyScorer(MotionResidualSaliency(), "none"), "luma"),
    "bits": (EstimatedBitsScorer, "bit-cost, estimated"),
    "random": (lambda: RandomScorer(RandomSaliency()), "random"),
    "external": (lambda: ExternalMapScorer(MAPS), "external"),
}
#: (height, width) of luma, and whether reference, motion, quantizer, as_coded are asked for
ASKED = {
    "saliency": ((40, 70), True, True, False, False),
    "bytes": ((40, 70), True, True, False, False),
    "luma": ((40, 70), True, False, False, False),
    "random": ((40, 70), True, False, False, False),
    "external": (None, False, False, False, False),
}


@pytest.fixture(scope="module")
def stream():
    return VideoStream(SAMPLE)


def decoded(stream, request, **more):
    kinds = {field.name: getattr(request, field.name) for field in fields(FrameRequest)}
    return list(stream.frames(FRAMES, **kinds | more))


@pytest.mark.parametrize("name", SCORERS)
def test_scores_and_signal(stream, name):
    scorer, signal = SCORERS[name][0](), SCORERS[name][1]
    request = scorer.request(stream.info, SIZE, GRID)
    assert request.size == SIZE
    if name in ASKED:
        assert (request.luma_size, request.reference, request.motion, request.quantizer, request.as_coded) == ASKED[
            name
        ]
    frames = decoded(stream, request)
    found = scorer.scores(frames, stream.info, GRID)
    assert found.signal == signal
    assert found.values.shape == (len(FRAMES), *GRID)
    assert (found.bits_from is not None) == (name == "bits")
    # the picture is not read, and threads do not matter
    bare = [replace(frame, rgb=None) for frame in frames]
    assert torch.equal(scorer.scores(bare, stream.info, GRID, threads=2).values, found.values)


def test_estimated_bits_ask_for_the_picture_as_coded(stream):
    assert stream.info.coded_size == (360, 640)
    for motion in ("auto", "none"):
        asked = EstimatedBitsScorer(motion).request(stream.info, SIZE, GRID)
        assert asked.as_coded
        assert asked.reference
        assert asked.motion is asked.quantizer is (motion != "none")
        assert asked.luma_size == (90, 160)  # four pixels per edge of a macroblock


def test_only_external_maps_leave_frames_uncovered():
    frames = np.arange(20)
    for name, (make, _) in SCORERS.items():
        assert make().covered(frames).tolist() == (list(FRAMES) if name == "external" else frames.tolist())
    assert len(ExternalMapScorer(MAPS).covered(frames[:0])) == 0


def test_a_frame_without_a_map_scores_nothing(stream):
    frames = decoded(stream, FrameRequest(SIZE))
    scorer = ExternalMapScorer({frame: MAPS[frame] for frame in list(FRAMES)[1:]}, "scores")
    values = scorer.scores(frames, stream.info, GRID).values
    assert not values[0].any()
    expected = torch.tensor([28.0 * 28 * frame for frame in list(FRAMES)[1:]])  # pixels of a block
    torch.testing.assert_close(values[1:], expected[:, None, None].expand(-1, *GRID))


def test_only_scales_over_the_clip_need_all_of_it():
    for normalize in ("frame", "group", "clip"):
        scorer = SaliencyScorer(MotionResidualSaliency(normalize=normalize))
        assert scorer.needs_whole_clip == (normalize == "clip")
    assert not any(make().needs_whole_clip for make, _ in SCORERS.values())


def test_the_old_scorer_warns_and_gives_the_same(stream):
    with pytest.warns(DeprecationWarning, match="use SaliencyScorer, EstimatedBitsScorer or ExternalMapScorer"):
        old = BlockScorer(MotionResidualSaliency())
    new = SaliencyScorer(MotionResidualSaliency())
    frames = decoded(stream, new.request(stream.info, SIZE, GRID))
    expected = new.scores(frames, stream.info, GRID)
    values, signal = old(frames, stream.info.orientation, GRID)
    assert torch.equal(values, expected.values)
    assert signal == expected.signal
    values, signal = old(frames, stream.info.orientation, GRID, score_maps=MAPS)
    assert torch.equal(values, ExternalMapScorer(MAPS).scores(frames, stream.info, GRID).values)
    assert signal == "external"
    bits = EstimatedBitsScorer()
    coded = decoded(stream, bits.request(stream.info, SIZE, GRID))
    assert torch.equal(old.estimated_bits(coded, stream.info, GRID)[0], bits.scores(coded, stream.info, GRID).values)
