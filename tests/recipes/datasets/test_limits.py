"""Every bound has its own error, and no file makes FFmpeg open another one."""

import pytest

from ov2kit.errors import OptionError, VideoError
from ov2kit.recipes.datasets.limits import LimitError, Limits, check_limits
from tests.clips import encode


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("limits") / "clip.mp4", frames=30, size=(96, 128), fps=25)


@pytest.mark.parametrize(
    ("kind", "enough", "too_few"),
    [
        ("bytes", None, 100),
        ("streams", 1, None),
        ("pixels", 96 * 128, 96 * 128 - 1),
        ("packets", 30, 29),
        ("frames", 30, 29),
        ("duration", 29 / 25 + 1e-6, 29 / 25 - 0.001),
    ],
)
def test_each_limit(clip, kind, enough, too_few):
    if enough is None:
        enough = clip.stat().st_size
    check_limits(clip, Limits(**{kind: enough}))
    if too_few is not None:
        with pytest.raises(LimitError, match=f"limits.{kind}=") as caught:
            check_limits(clip, Limits(**{kind: too_few}))
        assert caught.value.kind == kind


def test_too_many_streams(tmp_path, clip):
    import av

    path = tmp_path / "two.mkv"
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        outs = [target.add_stream_from_template(source.streams.video[0]) for _ in range(2)]
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = outs[0]
                target.mux(packet)
    check_limits(path, Limits(streams=2))
    with pytest.raises(LimitError, match=r"2 streams are more than limits\.streams=1"):
        check_limits(path, Limits(streams=1))


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ffconcat"])
@pytest.mark.parametrize("kind", ["hls", "concat"])
def test_files_that_name_other_files_are_refused(tmp_path, clip, name, kind):
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    text = {
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nclip.mp4\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{tmp_path}/clip.mp4'\n",
    }[kind]
    (tmp_path / name).write_text(text)
    with pytest.raises(LimitError, match="names other files") as caught:
        check_limits(tmp_path / name, Limits())
    assert caught.value.kind == "references"


def test_what_is_no_video_is_a_video_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(VideoError, match="not a video that can be opened"):
        check_limits(tmp_path / "a.mp4", Limits())


def test_limits_are_checked():
    with pytest.raises(OptionError, match=r"limits\.packets must be above 0"):
        Limits(packets=0)
    with pytest.raises(OptionError, match=r"limits\.bytes must be a whole number"):
        Limits(bytes=1.5)
