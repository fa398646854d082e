"""With a delay without bound the canvases are those of the whole clip, bit by bit."""

import pytest
import torch

from ov2kit.codec import CodecTokenizer, LiveTokenizer, MotionResidualSaliency
from tests.clips import SHARED, shared_clip
from tests.codec.live.streams import chunks, joined, packets_of, pushed
from tests.paths import SAMPLE

SMALL = {"budget_canvases": 12, "max_pixels": 20_000}
WAYS = {
    "paper": {},
    "release": {"preset": "release"},
    "one scale": {"saliency": MotionResidualSaliency(normalize="clip")},
    "block": {"block": 2, "anchor": "sharpest", "grouping": "container"},
}
CLIPS = sorted(
    str(path.relative_to(SHARED))
    for path in (*SHARED.glob("*.*"), *SHARED.glob("odd/*.*"))
    if path.suffix != ".md" and path.is_file()
)


def check_same(groups, whole):
    for name in ("images", "positions", "groups", "is_anchor"):
        assert torch.equal(joined(groups, name), getattr(whole, name)), name
    times = {frame: time for group in groups for frame, time in group.canvases.clip_times()[0].items()}
    assert times == dict(whole.clip_times()[0])
    assert {group.canvases.fps for group in groups} == {whole.fps}
    assert [g for group in groups for g in group.canvases.provenance["groups"]] == whole.provenance["groups"]
    assert groups[-1].canvases.provenance["lost"] == whole.provenance["lost"]


def live(**options):
    return LiveTokenizer(CodecTokenizer(**SMALL, **options), delay_seconds=None)


@pytest.mark.parametrize("way", WAYS)
def test_the_sample_as_packets_and_as_bytes(way):
    whole = CodecTokenizer(**SMALL, **WAYS[way])(SAMPLE)
    check_same(pushed(live(**WAYS[way]), packets_of(SAMPLE)), whole)
    for size in (777, 1 << 20):
        check_same(pushed(live(**WAYS[way]), chunks(SAMPLE.read_bytes(), size)), whole)


@pytest.mark.filterwarnings("ignore::ov2kit.errors.DamagedVideoWarning")
@pytest.mark.parametrize("name", CLIPS or ["bbb_360p.mp4"])
def test_public_and_odd_clips(name):
    path = shared_clip(name)
    whole = CodecTokenizer(**SMALL)(path)
    check_same(pushed(live(), packets_of(path, metadata_errors="replace")), whole)
    if path.suffix in (".ts", ".mkv", ".webm", ".flv"):
        check_same(pushed(live(), chunks(path.read_bytes(), 10_007)), whole)


def test_damage_is_met_as_in_a_file(tmp_path):
    """A hole in the middle of a keyframe interval; what a job misses is decoded again from the start."""
    from tests.codec.live.streams import ts_clip

    data = bytearray(ts_clip(frames=120))
    data[len(data) // 2 : len(data) // 2 + 3 * 188] = bytes(3 * 188)
    path = tmp_path / "hole.ts"
    path.write_bytes(data)
    with pytest.warns(Warning, match="hole.ts"):
        whole = CodecTokenizer(**SMALL)(path)
    with pytest.warns(Warning, match="pushed packets"):
        check_same(pushed(live(), packets_of(path)), whole)


def test_nothing_comes_before_the_end_and_the_tokenizer_can_be_used_again():
    tokenizer = live()
    for _ in range(2):
        assert [group for packet in packets_of(SAMPLE) for group in tokenizer.push(packet)] == []
        groups = tokenizer.finish()
        assert len(groups) > 1
        assert {group.reason for group in groups} == {"end"}
