"""What a stream loses without a fault of its decoder: pictures that come too late, groups without tokens."""

import pytest

from ov2kit.codec import CodecTokenizer, LiveTokenizer
from tests.codec.live.streams import check_chain, frames_of, packets_of, ts_clip

CANVAS = 15  # tokens of a canvas of 140 x 84


def live(**options):
    return LiveTokenizer(CodecTokenizer(max_pixels=20_000), **options)


def times(groups):
    return {round(time, 3) for group in groups for time in group.canvases.clip_times()[0].values()}


def intra_packets():
    """Of 12 s in which every picture decodes alone, in the order in which they are shown."""
    return [packet for packet in packets_of(ts_clip(gop=1, bframes=0)) if packet.size]


def later(packets, first, place):
    """The packet `first` comes as the one at `place`; what it shows, it still shows at its own time."""
    stamps = [packet.dts for packet in packets]
    packets.insert(place, packets.pop(first))
    for packet, dts in zip(packets, stamps, strict=True):
        packet.dts = dts
    return packets


@pytest.mark.parametrize(("first", "late"), [(20, 1), (195, 0)], ids=["of a group that was given", "of the open group"])
def test_a_picture_that_comes_too_late_is_counted_and_not_shown(first, late):
    tokenizer = live(tokens_per_second=45.0, delay_seconds=1.0)
    given = []
    for number, packet in enumerate(later(intra_packets(), first, 200)):
        if number == 200:
            assert packet.pts < packet.dts
            is_due = packet.pts * float(packet.time_base) - 1.4 < (given[-1].end_seconds if given else 0.0)
            assert is_due == bool(late)
        given += tokenizer.push(packet)
    assert tokenizer.progress.late_packets == late
    assert tokenizer.progress.failed_packets == 0
    groups = given + tokenizer.finish()
    check_chain(groups)
    assert frames_of(groups[-1])[1] == 300 - late
    assert (round(first / 25, 3) in times(groups)) <= (not late)


def test_each_late_picture_counts_once():
    tokenizer = live(tokens_per_second=45.0, delay_seconds=1.0)
    packets = later(later(intra_packets(), 20, 200), 30, 220)
    groups = [group for packet in packets for group in tokenizer.push(packet)]
    assert tokenizer.progress.late_packets == 2
    assert frames_of((groups + tokenizer.finish())[-1])[1] == 298


def stretches(tokenizer, seconds, packets):
    """Push packets, and let the source fall silent after every so many seconds of 25 frames."""
    groups = []
    for number, packet in enumerate(packets):
        if number and number % (25 * seconds) == 0:
            groups += tokenizer.pause()
        groups += tokenizer.push(packet)
    return groups


def test_groups_without_tokens_are_skipped_and_counted():
    tokenizer = live(tokens_per_second=0.5, burst_tokens=2 * CANVAS)
    groups = stretches(tokenizer, 1, intra_packets()) + tokenizer.pause()
    progress = tokenizer.progress
    assert [frames_of(group) for group in groups] == [(0, 25)]  # which took the whole burst; 12 s bring 6 tokens
    assert groups[0].canvases.num_tokens == 2 * CANVAS
    assert (progress.groups, progress.skipped_groups, progress.frames) == (1, 11, 300)
    assert tokenizer.finish() == []


def test_after_skipped_groups_frames_and_groups_are_counted_on_and_tokens_come_back():
    tokenizer = live(tokens_per_second=CANVAS / 4, burst_tokens=2 * CANVAS)
    groups = stretches(tokenizer, 1, intra_packets()) + tokenizer.pause()
    # 2 canvases at 1 s, then one more each time that 4 s have filled the bucket
    assert [(group.number, *frames_of(group), len(group.canvases)) for group in groups] == [
        (0, 0, 25, 2), (1, 100, 125, 1), (2, 200, 225, 1),
    ]  # fmt: skip
    assert tokenizer.progress.skipped_groups == 9
    assert [round(group.start_seconds) for group in groups] == [0, 4, 8]
