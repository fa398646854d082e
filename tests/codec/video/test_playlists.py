"""No video makes FFmpeg open another file, whatever way it is given."""

import pytest

from ov2kit.codec import CodecTokenizer, VideoStream
from ov2kit.codec.video.playlists import ReferencesError, self_contained_formats
from tests.clips import encode

SCRIPTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.2,\nclip.mp4\n#EXT-X-ENDLIST\n",
    "list.mp4": "ffconcat version 1.0\nfile clip.mp4\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_file_that_names_others_is_refused(name, tmp_path):
    encode(tmp_path / "clip.mp4", frames=8, gop=4)
    path = tmp_path / name
    path.write_text(SCRIPTS[name])
    with pytest.raises(ReferencesError, match=rf"{name}: names other files to open"):
        CodecTokenizer(2)(path)
    with pytest.raises(ReferencesError, match="names other files to open"):
        VideoStream(path.read_bytes())
    with open(path, "rb") as file, pytest.raises(ReferencesError, match="names other files to open"):
        VideoStream(file)


def test_every_other_format_is_allowed():
    allowed = set(self_contained_formats().split(","))
    assert {
        "mov",
        "mp4",
        "matroska",
        "webm",
        "avi",
        "mpegts",
        "flv",
        "ivf",
        "h264",
        "hevc",
        "asf",
        "gif",
        "image2",
    } <= allowed
    assert not {"concat", "hls", "dash", "rtsp", "sdp"} & allowed
