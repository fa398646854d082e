"""MP4 files as streams: an index in front, in fragments, at the end, or not there yet."""

import io

import av
import numpy as np
import pytest

from ov2kit.codec import CodecTokenizer, LiveTokenizer
from ov2kit.codec.live.mp4_index import BoxWalk
from ov2kit.errors import VideoError
from tests.codec.live.senders import http_server, tcp_server
from tests.codec.live.streams import chunks, joined, packets_of, pushed
from tests.paths import SAMPLE

WHAT_TO_DO = r"an MP4 with its index \(moov\) after its pictures .* give the path of the finished file, or .*faststart"

AT_AN_ADDRESS = WHAT_TO_DO.replace("give the path of the finished file", "download it and give its path")


def live():
    return LiveTokenizer(CodecTokenizer(max_pixels=10_000), delay_seconds=0.5, tokens_per_second=60)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The sample's packets in each form of the container."""
    folder = tmp_path_factory.mktemp("mp4")
    for name, flags in (("last", ""), ("front", "faststart"), ("fragments", "frag_keyframe+empty_moov")):
        options = {"movflags": flags} if flags else {}
        with av.open(str(SAMPLE)) as source, av.open(str(folder / f"{name}.mp4"), "w", options=options) as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def shown(files):
    return joined(pushed(live(), packets_of(SAMPLE)), "images")


def test_an_index_at_the_end_is_named_with_what_to_do(files):
    data = files["last"].read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    for size in (50_001, len(data)):
        with pytest.raises(VideoError, match=f"pushed bytes>: {WHAT_TO_DO}"):
            pushed(live(), chunks(data, size))
    with pytest.raises(VideoError, match=f"BytesIO>: {WHAT_TO_DO}"), live().watch(io.BytesIO(data)) as groups:
        list(groups)


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_an_index_at_the_end_of_what_an_address_sends_is_named(kind, files):
    """Of a server that does not give parts of a file; it is not tried again."""
    data = files["last"].read_bytes()
    send = [lambda peer: peer.sendall(data)] * 2
    server = http_server(data, 0.0) if kind == "http" else tcp_server(*send)
    faults = []
    with server as address, pytest.raises(VideoError, match=f"{address}: {AT_AN_ADDRESS}"):
        list(live().watch(address, on_fault=faults.append))
    assert faults == []  # it is the error alone


def test_a_file_that_holds_no_pictures_says_so_wherever_its_index_is(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        for number in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"sound\.mp4: expected a video stream"):
        list(live().watch(tmp_path / "sound.mp4", give_up_seconds=0.1))


def test_other_data_of_an_address_are_not_taken_for_it(files):
    data = files["last"].read_bytes()
    with (
        http_server(data[: data.index(b"mdat") - 4] + bytes(100_000), 0.0) as address,
        pytest.raises(VideoError, match=address) as caught,
    ):
        list(live().watch(address, reconnect=False))
    assert "moov" not in str(caught.value)


def test_a_finished_file_is_read_wherever_its_index_is(files, shown):
    for path in files.values():
        with live().watch(path, give_up_seconds=0.1) as groups:
            assert (joined(list(groups), "images") == shown).all(), path.name


def test_a_file_whose_index_is_not_there_yet(files, tmp_path):
    data, path = files["last"].read_bytes(), tmp_path / "half.mp4"
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(VideoError, match=rf"half\.mp4: {WHAT_TO_DO}"), live().watch(path) as groups:
        list(groups)


def box(kind, size, *, long=False):
    """A box of so many bytes."""
    head = (1).to_bytes(4, "big") + kind + size.to_bytes(8, "big") if long else size.to_bytes(4, "big") + kind
    return head + bytes(size - len(head))


@pytest.mark.parametrize(
    ("boxes", "is_last"),
    [
        ([box(b"ftyp", 32), box(b"moov", 50), box(b"mdat", 90)], False),
        ([box(b"ftyp", 32), box(b"mdat", 90), box(b"moov", 50)], True),
        ([box(b"ftyp", 32), box(b"wide", 8), box(b"free", 9), box(b"skip", 300), box(b"mdat", 90, long=True)], True),
        ([box(b"free", 70, long=True), box(b"moov", 50), box(b"mdat", 90)], False),
        ([box(b"ftyp", 24), box(b"moof", 50), box(b"mdat", 90)], False),
        ([box(b"ftyp", 24), bytes(8) + b"mdat" + bytes(60)], False),  # a box without a size ends the walk
        ([b"G@\x11\x10mdat" + bytes(90)], True),  # whatever the size, the letters say it
        ([b"G@\x11\x10\x00B\xf0%" + bytes(180)], False),  # a transport stream
        ([b""], False),
    ],
)
def test_boxes_are_walked_however_they_are_cut(boxes, is_last):
    for size in (1, 5, 16, 17, 1000):
        walk = BoxWalk()
        for part in chunks(b"".join(boxes), size):
            walk.feed(part)
        assert walk.index_is_last is is_last, size
