"""Groups of a stream from keyframe to keyframe, and of equal length."""

import av
import numpy as np
import pytest

from ov2kit.codec import CodecTokenizer, ContainerGrouping, LiveTokenizer
from ov2kit.codec.live.plain_cuts import PlainCuts
from ov2kit.codec.live.window import HeldPacket
from tests.clips import encode
from tests.codec.live.streams import check_chain, frames_of, packets_of, pushed, ts_clip
from tests.codec.live.test_live_groups import check_pixels


def live(grouping, **options):
    return LiveTokenizer(CodecTokenizer(max_pixels=10_000, grouping=grouping), **options)


def keyframe_seconds(path):
    """From a plain demux."""
    with av.open(str(path)) as clip:
        packets = [p for p in clip.demux(video=0) if p.pts is not None]
    first = min(p.pts for p in packets)
    return sorted(float((p.pts - first) * p.time_base) for p in packets if p.is_keyframe)


@pytest.mark.parametrize("bframes", [0, 3])
def test_groups_begin_with_the_keyframes_and_wait_for_reordered_pictures_alone(tmp_path, bframes):
    path = encode(tmp_path / "x.ts", frames=300, gop=60, bframes=bframes)
    for grouping in ("container", ContainerGrouping()):
        groups = pushed(live(grouping), packets_of(path))
        check_chain(groups)
        check_pixels(groups, path)
        assert [group.start_seconds for group in groups] == pytest.approx(keyframe_seconds(path), abs=1e-6)
        assert [group.reason for group in groups] == ["keyframe"] * (len(groups) - 1) + ["end"]
        assert max(group.waited_seconds for group in groups) <= 0.04 * (bframes + 2)
        assert frames_of(groups[-1])[1] == 300


def test_keyframes_too_near_for_the_rate_join_and_too_far_do_not_hold_a_group(tmp_path):
    near = encode(tmp_path / "near.ts", frames=400, gop=10, bframes=0)
    groups = pushed(live("container", tokens_per_second=10.0, burst_tokens=40.0), packets_of(near))
    check_chain(groups)
    keys = np.array(keyframe_seconds(near))
    for group in groups:
        assert np.abs(keys - group.start_seconds).min() < 1e-6
    assert 3 < len(groups) < len(keys) / 2
    far = ts_clip(frames=400, gop=10_000, bframes=0)
    groups = pushed(live("container"), packets_of(far))
    check_chain(groups)
    assert {group.reason for group in groups[:-1]} == {"longest"}
    assert [group.start_seconds for group in groups] == pytest.approx([0.0, 6.0, 12.0], abs=0.05)


def test_equal_groups_are_as_long_as_the_rate_has_tokens_for():
    groups = pushed(live("fixed", tokens_per_second=20.0), packets_of(ts_clip(frames=600)))
    check_chain(groups)
    per_canvas = groups[0].tokens // len(groups[0].canvases)
    options = CodecTokenizer(max_pixels=10_000).settings
    length = options.canvases_per_group * per_canvas / 20.0
    starts = [group.start_seconds for group in groups]
    assert len(starts) == int(np.ceil(24.0 / length)) > 4
    assert starts == pytest.approx([k * length for k in range(len(starts))], abs=0.0401)
    assert {group.reason for group in groups[:-1]} == {"longest"}


def packet(number, seconds, nbytes, *, is_key=False):
    return HeldPacket(
        number=number, packet=None, seconds=seconds, dts=seconds, nbytes=nbytes, is_key=is_key, is_entry=is_key,
        begins=1, is_disposable=False, is_corrupt=False, arrived=0.0,
    )  # fmt: skip


def test_what_a_group_spent_is_counted_in_running_quotas():
    """Ten seconds at 100 a second, ten at 300, in groups of 5 s with a half-life of 5 s; keyframes do not count."""
    cuts = PlainCuts(
        at_keyframes=False, seconds_per_group=5.0, longest_seconds=9.0, half_life_seconds=5.0, cost="bytes",
        begin_seconds=0.0, may_cut=lambda end: False,
    )  # fmt: skip
    endings = []
    for second in range(21):
        endings += cuts.until(float(second))
        cuts.add(packet(2 * second, float(second), 9999, is_key=True))
        cuts.add(packet(2 * second + 1, second + 0.5, 100 if second < 10 else 300))
    assert [ending.seconds for ending in endings] == [5.0, 10.0, 15.0, 20.0]
    totals, expected = [500, 500, 1500, 1500], []
    for k in range(4):
        weights = [0.5 ** (k - j) for j in range(k + 1)]
        mean = sum(w * total for w, total in zip(weights, totals, strict=False)) / (5 * sum(weights))
        expected.append(totals[k] / (5 * mean))
    assert [ending.share for ending in endings] == pytest.approx(expected)
