"""Groups as they come: right pixels, right frames, in time, and of nothing that has not been seen."""

import itertools

import numpy as np
import pytest
import torch

from ov2kit.codec import CodecTokenizer, FixedGrouping, LiveTokenizer, MotionResidualSaliency, VideoStream
from ov2kit.codec.live.scales import RunningScale
from ov2kit.errors import BudgetError, OptionError, VideoError
from tests.clips import encode, shared_clip
from tests.codec.live.streams import check_chain, chunks, frames_of, packets_of, pushed, ts_clip
from tests.paths import SAMPLE

SMALL = {"max_pixels": 20_000}
WAYS = {
    "paper": {},
    "release": {"preset": "release", "grouping": "bitcost"},
    "one scale": {"saliency": MotionResidualSaliency(normalize="clip")},
    "block": {"block": 2, "anchor": "sharpest"},
    "luma": {"motion": "none", "cost": "log1p"},
}


def live(*, tokenizer=None, **options):
    return LiveTokenizer(CodecTokenizer(**SMALL, **(tokenizer or {})), **options)


def check_pixels(groups, path):
    """Every patch of every canvas is, bit by bit, where its position says, in an ordinary decode of the file."""
    size = tuple(groups[0].canvases.images.shape[2:])
    with VideoStream(path) as stream:
        shown = {frame for group in groups for frame in group.canvases.clip_times()[0]}
        pictures = {frame.index: frame for frame in stream.frames(sorted(shown), size=size)}
    for group in groups:
        canvases, patch = group.canvases, group.canvases.patch
        for frame, seconds in canvases.clip_times()[0].items():
            assert seconds == pytest.approx(pictures[frame].seconds, abs=2e-3), frame
        for k, y, x in itertools.product(range(len(canvases)), *map(range, canvases.grid)):
            t, row, column = canvases.positions[k, y, x].tolist()
            if t >= 0:
                here = canvases.images[k, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
                there = pictures[t].rgb[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
                assert torch.equal(here, there), (k, y, x, t)


@pytest.mark.parametrize("way", WAYS)
def test_pixels_frames_and_times_are_those_of_the_file(way):
    groups = pushed(live(tokenizer=WAYS[way]), packets_of(SAMPLE))
    check_chain(groups)
    check_pixels(groups, SAMPLE)
    assert frames_of(groups[-1])[1] == 132
    assert groups[-1].end_seconds == pytest.approx(5.28)


@pytest.mark.parametrize(
    "name",
    ["nasa_hevc10.mp4", "bbb_vp9.webm", "bbb_mpeg4.mp4", "bbb_bframes.mp4", "odd/vp8_hidden.webm",
     "odd/vp9_hidden.webm", "odd/field_pictures.ts", "odd/field_pictures_joined.ts", "odd/picture_late.mkv",
     "odd/rate_changes.mp4", "camera_mjpeg.avi", "pattern_av1.mkv"],
)  # fmt: skip
def test_other_codecs_and_odd_files(name):
    path = shared_clip(name)
    groups = pushed(live(), packets_of(path))
    check_chain(groups)
    check_pixels(groups, path)
    with VideoStream(path) as stream:
        assert frames_of(groups[-1])[1] == len(stream)


@pytest.mark.parametrize("bframes", [0, 3])
def test_groups_do_not_depend_on_what_comes_later(bframes):
    """Those of a stream that is cut off are those of the whole one, but for the last."""
    data = ts_clip(bframes=bframes, frames=400)
    packets = sum(1 for _ in packets_of(data)) - 1
    whole = pushed(live(delay_seconds=1.0), packets_of(data))
    assert len(whole) > 5
    for stop in (packets // 3, packets // 2):
        tokenizer = live(delay_seconds=1.0)
        early = [g for packet in itertools.islice(packets_of(data), stop) for g in tokenizer.push(packet)]
        assert len(early) > 1
        for mine, theirs in zip(early, whole, strict=False):
            assert mine.canvases == theirs.canvases
            assert (mine.start_seconds, mine.end_seconds, mine.reason) == (
                theirs.start_seconds, theirs.end_seconds, theirs.reason,
            )  # fmt: skip


def test_groups_do_not_depend_on_how_bytes_are_cut():
    data = ts_clip()
    found = [pushed(live(), chunks(data, size)) for size in (188, 5000, len(data))]
    found.append(pushed(live(), packets_of(data)))
    for groups in found:
        assert len(groups) == len(found[0]) > 3
        assert all(a.canvases == b.canvases for a, b in zip(groups, found[0], strict=True))


@pytest.mark.parametrize("delay", [0.0, 0.5, 1.0, 2.0, 4.0])
def test_a_group_waits_no_longer_than_the_delay(delay):
    """In time of the stream: the delay, the frame that completes a bin, and what the decoder holds back."""
    tokenizer, last, ends = live(delay_seconds=delay), 0.0, []
    for packet in packets_of(ts_clip(frames=500)):
        for group in tokenizer.push(packet):
            ends.append(last - group.end_seconds)
            assert group.waited_seconds <= delay + 0.04 * 5 + 1e-6
        if packet.dts is not None:
            last = float(packet.dts * packet.time_base) - 1.48  # of the first picture
    assert len(ends) > 5
    assert max(ends) <= delay + 0.04 * 5 + 1e-6


def test_the_rate_is_kept_and_used():
    rate, burst = 40.0, 400.0
    groups = pushed(live(tokens_per_second=rate, burst_tokens=burst), packets_of(ts_clip(frames=900)))
    check_chain(groups)
    ends = np.array([group.end_seconds for group in groups])
    sums = np.concatenate([[0], np.cumsum([group.tokens for group in groups])])
    for first in range(len(groups)):
        assert (sums[first + 1 :] - sums[first] <= burst + rate * (ends[first:] - ends[first]) + 1e-6).all()
    assert sums[-1] >= 0.8 * rate * ends[-1]
    assert len(groups) > 4


def test_a_small_rate_stretches_the_groups():
    groups = pushed(live(tokens_per_second=4.0, burst_tokens=100), packets_of(ts_clip(frames=900)))
    check_chain(groups)
    assert {len(group.canvases) for group in groups} == {2}  # an I and a P canvas, which the rate has room for
    assert max(group.end_seconds - group.start_seconds for group in groups) > 6.0
    assert frames_of(groups[-1])[1] == 900


def test_silence_ends_the_open_group_and_packets_may_follow():
    packets = list(packets_of(ts_clip(frames=400)))
    tokenizer, groups = live(), []
    for number, packet in enumerate(packets):
        if number == 130:
            assert len(groups) < 4
            groups += tokenizer.pause()
            assert groups[-1].reason == "silence"
            assert tokenizer.pause() == []
        groups += tokenizer.push(packet)
    groups += tokenizer.finish()
    check_chain(groups)
    assert frames_of(groups[-1])[1] == 400
    shown = next(group for group in groups if group.reason == "silence")
    assert frames_of(shown)[1] in range(126, 131)


def test_a_cut_that_is_due_is_made_when_nothing_comes():
    packets = list(packets_of(ts_clip(frames=400)))
    tokenizer, groups, early = live(delay_seconds=3.5), [], 0
    for packet in packets:
        groups += tokenizer.push(packet)
        due = tokenizer.expire()
        early += len(due)
        groups += due
    groups += tokenizer.finish()
    check_chain(groups)
    assert early == len(groups) - 1  # each as soon as it was due, none before
    assert max(group.waited_seconds for group in groups) < 1.0
    assert frames_of(groups[-1])[1] == 400


def test_the_running_scale_is_a_geometric_mean_with_a_half_life():
    class Fixed(MotionResidualSaliency):
        def scales(self, luma, *arguments, **options):
            return torch.tensor([float(luma), 2.0])

    class Signals:
        def __init__(self, value):
            self.luma = self.reference = torch.tensor(value)
            self.valid, self.nbytes, self.distance = torch.ones(1, dtype=torch.bool), None, None

    scale = RunningScale(Fixed(normalize="clip"), half_life_groups=2)
    seen = []
    scale.saliency.forward = lambda *a, scale, **k: seen.append(scale) or scale
    for value in (1.0, 8.0, 3.0):
        scale.of_signals(Signals(value), None, (1, 1))
    d = 0.5**0.5
    weights = np.array([d * d, d, 1.0])
    expected = np.exp((weights * np.log([1.0, 8.0, 3.0])).sum() / weights.sum())
    assert seen[-1].tolist() == pytest.approx([expected, 2.0], rel=1e-5)
    assert seen[0].tolist() == pytest.approx([1.0, 2.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: live(delay_seconds=-1), "delay_seconds must be at least 0, got -1"),
        (lambda: live(delay_seconds=float("nan")), "delay_seconds must be a finite number, got nan"),
        (lambda: live(tokens_per_second=0), "tokens_per_second must be above 0, got 0"),
        (lambda: LiveTokenizer("clip.mp4"), "tokenizer must be a CodecTokenizer, got 'clip.mp4'"),
        (lambda: live(tokenizer={"preset": "release"}), "looks at a whole clip; a stream with a bounded delay takes"),
        (lambda: live(tokenizer={"grouping": FixedGrouping(2)}), "looks at a whole clip"),
        (lambda: live().push("clip.mp4"), "push takes bytes or a video packet of PyAV, got str"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_a_burst_without_room_for_two_canvases_is_refused():
    with pytest.raises(BudgetError, match="burst_tokens=30 has no room for two canvases of"):
        pushed(live(burst_tokens=30), packets_of(SAMPLE))


def test_bytes_and_packets_are_not_mixed():
    tokenizer = live()
    tokenizer.push(next(packets_of(SAMPLE)))
    with pytest.raises(OptionError, match="came as packets so far"):
        tokenizer.push(b"abc")


@pytest.mark.parametrize("size", [0, 1, 1000, 2_000_000])
def test_garbage_is_one_error_at_the_end_at_the_latest(size):
    tokenizer = live()
    data = np.random.default_rng(0).bytes(size)
    with pytest.raises(VideoError, match=r"<pushed bytes>: .*opened as it comes"):
        pushed(tokenizer, chunks(data, 9000) if data else [b""])
    assert len(pushed(tokenizer, packets_of(SAMPLE))) == 3  # and the tokenizer is as new


def test_a_decoder_in_use_elsewhere_is_refused():
    packets = packets_of(SAMPLE)
    first = next(packets)
    first.decode()
    with pytest.raises(VideoError, match="the decoder of this stream is in use"):
        live().push(first)


def test_reordered_pictures_without_time_stamps_are_refused(tmp_path):
    path = encode(tmp_path / "x.h264", container="h264", frames=100, bframes=2)
    with pytest.raises(VideoError, match=r"cannot be put in order .* container such as MPEG-TS"):
        pushed(live(), chunks(path.read_bytes(), 4000))
    path = encode(tmp_path / "y.h264", container="h264", frames=100, bframes=0)
    groups = pushed(live(), chunks(path.read_bytes(), 4000))
    check_chain(groups)
    assert frames_of(groups[-1])[1] == 100
    assert groups[-1].end_seconds == pytest.approx(4.0, abs=0.05)
