"""Pictures that change their size in the middle of a stream, of which no header says anything."""

import pytest

from ov2kit.codec import CodecTokenizer, LiveTokenizer
from tests.codec.live.streams import check_chain, chunks, clip_of_sizes, frames_of, packets_of
from tests.codec.live.test_live_groups import check_pixels

CODECS = {
    "mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "vp9": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
}
WIDE, HIGH = (3, 84, 140), (3, 140, 112)  # canvases of 20,000 pixels at most, of pictures 128 x 96 and 144 x 192


def live():
    return LiveTokenizer(CodecTokenizer(max_pixels=20_000), tokens_per_second=45.0)


def pushed(tokenizer, parts):
    groups = [group for part in parts for group in tokenizer.push(part)]
    progress = tokenizer.progress
    return groups + tokenizer.finish(), progress


@pytest.mark.parametrize("codec", CODECS)
def test_groups_after_the_one_with_the_change_have_canvases_of_the_new_size(codec, tmp_path):
    data = clip_of_sizes((96, 128), (192, 144), **CODECS[codec])
    groups, progress = pushed(live(), packets_of(data))
    check_chain(groups)
    assert frames_of(groups[-1])[1] == 200
    assert (progress.failed_packets, progress.late_packets, progress.skipped_groups) == (0, 0, 0)
    change = next(k for k, group in enumerate(groups) if frames_of(group)[1] > 100)
    shapes = [tuple(group.canvases.images.shape[1:]) for group in groups]
    assert shapes == [WIDE] * (change + 1) + [HIGH] * (len(groups) - change - 1)
    assert 0 < change < len(groups) - 1
    (tmp_path / "x.mkv").write_bytes(data)
    check_pixels(groups[: change + 1], tmp_path / "x.mkv")
    check_pixels(groups[change + 1 :], tmp_path / "x.mkv")
    others, _ = pushed(live(), chunks(data, 10_000))
    assert [frames_of(group) for group in others] == [frames_of(group) for group in groups]
    assert all((a.canvases.images == b.canvases.images).all() for a, b in zip(groups, others, strict=True))


def test_pictures_may_change_back(tmp_path):
    data = clip_of_sizes((96, 128), (192, 144), (96, 128), **CODECS["mjpeg"])
    groups, _ = pushed(live(), packets_of(data))
    check_chain(groups)
    shapes = [tuple(group.canvases.images.shape[1:]) for group in groups]
    first, last = shapes.index(HIGH), len(shapes) - shapes[::-1].index(HIGH)
    assert set(shapes[:first]) == set(shapes[last:]) == {WIDE}
    assert set(shapes[first:last]) == {HIGH}
    for at, frame in ((first, 100), (last, 200)):  # the group before holds the first picture of the other size
        start, stop = frames_of(groups[at - 1])
        assert start <= frame < stop
