"""Whole frames beside blocks in one budget: the same tokens as either source, and every pixel in its place."""

from functools import cache

import numpy as np
import pytest
import torch

from ov2kit.codec import CodecTokenizer, FrameTokenizer, LiveTokenizer, Provenance
from ov2kit.errors import OptionError
from tests.clips import decoded
from tests.codec.live.streams import check_chain, packets_of, pushed, ts_clip
from tests.codec.tokenizers.test_tokenizer import assert_every_block_is_its_source
from tests.paths import SAMPLE

SMALL = {"max_pixels": 20_000, "threads": 1}
WAYS = {
    "paper": {},
    "release": {"preset": "release"},  # and top-k
    "blocks of four": {"block": 2, "anchor": "sharpest"},
    "anchor in the middle": {"anchor": "mid"},
}


@cache
def pictures(height, width):
    return decoded(SAMPLE, (height, width))


def frames_shown_whole(canvases):
    return canvases.positions[canvases.is_anchor][:, 0, 0, 0].tolist()


@pytest.mark.parametrize("way", WAYS)
def test_whole_frames_are_whole_blocks_are_others_and_the_tokens_are_as_many(way):
    canvases = CodecTokenizer(8, frame_share=0.5, **WAYS[way], **SMALL)(SAMPLE)
    assert_every_block_is_its_source(canvases, pictures(*canvases.images.shape[2:]))
    codec = CodecTokenizer(8, **WAYS[way], **SMALL)(SAMPLE)
    assert len(canvases) == len(codec) == 8
    assert canvases.num_tokens == codec.num_tokens
    assert int(canvases.is_anchor.sum()) == 4
    frames = canvases.positions[..., 0]
    for group in canvases.groups.unique():
        mine = canvases.groups == group
        whole = frames[mine & canvases.is_anchor].flatten(1)
        assert (whole == whole[:, :1]).all()
        assert (whole[1:, 0] > whole[:-1, 0]).all()
        others = frames[mine & ~canvases.is_anchor]
        assert not torch.isin(others, whole).any()  # what is shown whole is not shown again
        assert (others >= 0).all()


def test_at_equal_tokens_as_frames_and_in_the_same_form():
    hybrid, frames = CodecTokenizer(8, frame_share=0.75, **SMALL)(SAMPLE), FrameTokenizer(8, **SMALL)(SAMPLE)
    assert hybrid.images.shape == frames.images.shape
    assert hybrid.num_tokens == frames.num_tokens
    whole = dict(zip(frames_shown_whole(hybrid), hybrid.images[hybrid.is_anchor], strict=True))
    sampled = dict(zip(frames_shown_whole(frames), frames.images, strict=True))
    assert 0 in whole.keys() & sampled.keys()
    for frame in whole.keys() & sampled.keys():
        assert torch.equal(whole[frame], sampled[frame])


def test_a_share_of_one_is_whole_frames_at_moments_of_the_groups():
    canvases = CodecTokenizer(8, frame_share=1.0, **SMALL)(SAMPLE).validate()
    assert canvases.is_anchor.all()
    seconds = [canvases.frame_times[frame] for frame in frames_shown_whole(canvases)]
    for group in Provenance.of(canvases).groups:
        inside = [s for s in seconds if group.seconds[0] <= s <= group.seconds[1]]
        assert len(inside) == group.canvases
        steps = np.diff([*inside, group.seconds[1]])
        assert steps.max() < 2 * steps[:-1].min()


def test_provenance_says_which_and_is_silent_without():
    made = CodecTokenizer(8, frame_share=0.5, **SMALL)(SAMPLE)
    assert made.provenance["options"]["frame_share"] == 0.5
    groups = Provenance.of(made).groups
    assert [frame for group in groups for frame in group.whole] == frames_shown_whole(made)
    assert all(group.anchor in group.whole for group in groups)
    plain = CodecTokenizer(8, **SMALL)(SAMPLE)
    assert "frame_share" not in plain.provenance["options"]
    assert all("whole" not in group for group in plain.provenance["groups"])


def test_group_by_group_is_the_same():
    tokenizer = CodecTokenizer(9, canvases_per_group=3, frame_share=0.6, **SMALL)
    whole, parts = tokenizer(SAMPLE), list(tokenizer.stream(SAMPLE))
    assert len(parts) > 1
    for name in ("images", "positions", "groups", "is_anchor"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
    assert [g for part in parts for g in part.provenance["groups"]] == whole.provenance["groups"]


def test_live_groups_have_their_share():
    live = LiveTokenizer(CodecTokenizer(frame_share=0.5, **SMALL))
    groups = pushed(live, packets_of(ts_clip()))
    check_chain(groups)
    assert max(len(group.canvases) for group in groups) > 2
    for group in groups:
        canvases = group.canvases.validate()
        assert int(canvases.is_anchor.sum()) == round(len(canvases) / 2)
        (record,) = Provenance.of(canvases).groups
        assert list(record.whole) == frames_shown_whole(canvases)


@pytest.mark.parametrize("share", [0, -0.5, 1.01, float("nan"), "half", True])
def test_no_other_share(share):
    with pytest.raises(OptionError, match="frame_share"):
        CodecTokenizer(8, frame_share=share)


def test_the_same_tokenizer_with_another_share():
    codec = CodecTokenizer(8, preset="event", **SMALL)
    hybrid = codec.with_frame_share(0.5)
    assert (codec.frame_share, hybrid.frame_share) == (None, 0.5)
    assert hybrid(SAMPLE) == CodecTokenizer(8, preset="event", frame_share=0.5, **SMALL)(SAMPLE)
    assert hybrid.with_frame_share(None)(SAMPLE) == codec(SAMPLE)
