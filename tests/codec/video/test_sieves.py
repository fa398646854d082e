"""What decoders are not given: by decoders' own account of what they skip, by plain decodes, and by hand."""

import io
import random
import warnings

import av
import numpy as np
import pytest

from ov2kit.codec import VideoStream
from ov2kit.codec.live.group_decode import LiveDecoder
from ov2kit.codec.live.window import HeldPacket
from ov2kit.codec.video import kept_packets, scan
from ov2kit.codec.video.av1_references import Av1References
from ov2kit.codec.video.decode_plan import plan_decode
from ov2kit.codec.video.frame_request import FrameRequest
from ov2kit.codec.video.hevc_references import HevcReferences
from ov2kit.codec.video.sieves import sieves_of
from tests.clips import decoded, encode, shared_clip

av.logging.set_level(None)

X265 = "log-level=none:pools=1:frame-threads=1:b-adapt=0:rc-lookahead=20"
AV1 = {  # options of libsvtav1, container, size, pixel format
    "pyramid": ("", "matroska", (144, 176), "yuv420p"),
    "low delay": ("pred-struct=1", "matroska", (144, 176), "yuv420p"),
    "screen": ("scm=1", "mp4", (144, 176), "yuv420p"),
    "grain": ("film-grain=20", "mp4", (144, 176), "yuv420p"),
    "odd size": ("hierarchical-levels=3", "ivf", (133, 171), "yuv420p"),
    "ten bits": ("", "obu", (144, 176), "yuv420p10le"),
    "overlays": ("enable-overlays=1", "matroska", (144, 176), "yuv420p"),
}


def av1(options="", container="matroska", size=(144, 176), pix_fmt="yuv420p", gop=40):
    file = io.BytesIO()
    more = {"svtav1-params": options} if options else {}
    encode(
        file, codec="libsvtav1", container=container, size=size, pix_fmt=pix_fmt, frames=90, gop=gop,
        options={"preset": "12", "crf": "40", **more},
    )  # fmt: skip
    return file.getvalue()


def hevc(container="mp4", more=""):
    file = io.BytesIO()
    options = {"preset": "ultrafast", "x265-params": X265 + more}
    encode(file, codec="libx265", container=container, size=(144, 176), frames=80, gop=40, bframes=7, options=options)
    return file.getvalue()


def layered():
    """HEVC in three temporal layers. No picture of the middle one refers to others of it, and they say so: `_N`."""
    file = io.BytesIO()
    with av.open(io.BytesIO(hevc("matroska", ":temporal-layers=3:b-pyramid=1"))) as source:
        stream = source.streams.video[0]
        with av.open(file, "w", format="matroska") as target:
            out, relabeled = target.add_stream_from_template(stream), 0
            for packet in source.demux(stream):
                data, at = bytearray(bytes(packet)), 0
                while at < len(data):
                    if data[at + 4] >> 1 & 63 == 3 and data[at + 5] & 7 == 2:  # TSA_R, layer 1: it switches up there
                        data[at + 4] = 2 << 1
                        relabeled += 1
                    at += 4 + int.from_bytes(data[at : at + 4], "big")
                if data:
                    copy = av.Packet(bytes(data))
                    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                    copy.is_keyframe, copy.stream = packet.is_keyframe, out
                    target.mux(copy)
    assert relabeled > 10
    return file.getvalue()


def packets_of(clip):
    with av.open(io.BytesIO(clip)) as source:
        stream = source.streams.video[0]
        extradata = stream.codec_context.extradata
        return extradata, [bytes(packet) for packet in source.demux(stream) if packet.size]


def skipped_by_decoder(clip):
    """Packets that give no picture where the decoder is to leave out all that is no reference."""
    with av.open(io.BytesIO(clip)) as source:
        stream = source.streams.video[0]
        decoder, shown, count = stream.codec_context, set(), 0
        decoder.thread_type, decoder.skip_frame = "NONE", "NONREF"
        for packet in source.demux(stream):
            if packet.size:
                packet.pts, count = count, count + 1
            shown |= {frame.pts for frame in decoder.decode(packet if packet.size else None)}
    return sorted(set(range(count)) - shown)


def seen(clip, wanted, threads=1):
    """Frames, what they are compared with, and losses."""
    with VideoStream(clip, threads=threads) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = stream.frames(wanted, luma_size=(36, 44), reference=True)
        frames = {
            f.index: (f.rgb.numpy(), f.kind, f.reference_index, None if f.reference is None else f.reference.tolist())
            for f in loop
        }
        return frames, loop.losses


@pytest.mark.parametrize("kind", AV1)
def test_av1_frames_that_go_are_those_that_libdav1d_skips(kind):
    clip = av1(*AV1[kind])
    extradata, packets = packets_of(clip)
    sieve = Av1References(extradata)
    gone = [at for at, data in enumerate(packets) if len(sieve(data, False)) < len(data)]
    assert len(gone) > 15
    assert gone == skipped_by_decoder(clip)
    again = Av1References(extradata)
    assert all(again(data, True) == data for data in packets)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "hevc"])
def test_hevc_packets_that_go_are_those_that_the_decoder_skips(container):
    clip = hevc(container)
    extradata, packets = packets_of(clip)
    sieve = HevcReferences(extradata)
    gone = [at for at, data in enumerate(packets) if not sieve(data, False)]
    assert len(gone) > 20
    assert gone == skipped_by_decoder(clip)
    again = HevcReferences(extradata)
    assert all(again(data, True) == data for data in packets)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("kind", ["pyramid", "low delay", "odd size"])
def test_av1_frames_are_those_of_a_plain_decode(kind, kept, monkeypatch):
    """Each is compared with the one shown just before it, wanted or not."""
    clip, drawn = av1(*AV1[kind]), random.Random(kind)
    if not kept:
        monkeypatch.setattr(kept_packets, "MOST_BYTES", 0)
    truth, (whole, _) = decoded(clip), seen(clip, None)
    assert len(truth) == 90
    for threads in (1, 2, 3):
        for wanted in (list(range(2, 90, 5)), [70], sorted(drawn.sample(range(90), 12))):
            frames, losses = seen(clip, wanted, threads)
            assert not losses
            assert list(frames) == wanted
            for index, (rgb, *rest) in frames.items():
                assert np.array_equal(np.moveaxis(rgb, 0, -1), truth[index])
                if index % 40:  # else the first of a job
                    assert rest[1] == index - 1
                    assert rest == list(whole[index][1:])


@pytest.mark.parametrize("kept", [True, False])
def test_pictures_that_a_higher_layer_needs_are_decoded(kept, monkeypatch):
    """FFmpeg itself would leave them out."""
    clip = layered()
    if not kept:
        monkeypatch.setattr(kept_packets, "MOST_BYTES", 0)
    truth = decoded(clip)
    extradata, packets = packets_of(clip)
    sieve = HevcReferences(extradata)
    assert 20 < sum(not sieve(data, False) for data in packets) < len(skipped_by_decoder(clip))
    for wanted in (list(range(0, 80, 3)), list(range(1, 80, 7))):
        frames, losses = seen(clip, wanted)
        assert not losses
        assert list(frames) == wanted
        assert all(np.array_equal(np.moveaxis(f[0], 0, -1), truth[index]) for index, f in frames.items())


def test_live_decoders_need_them_too():
    clip = layered()
    truth = {}
    for may_skip in (False, True):
        with av.open(io.BytesIO(clip)) as source:
            stream = source.streams.video[0]
            stream.codec_context.thread_type, stream.codec_context.copy_opaque = "NONE", True
            decoder = LiveDecoder(stream.codec_context)
            shown = [packet.pts for packet in source.demux(stream) if packet.size]
        with av.open(io.BytesIO(clip)) as source:
            wanted = set(sorted(shown)[1::7])
            packets = [packet for packet in source.demux(source.streams.video[0]) if packet.size]
            for number, packet in enumerate(packets):
                item = held(number, packet)
                decoder.feed(item, may_skip=may_skip and packet.pts not in wanted)
            decoder.drain()
        given = {number: frame.to_ndarray(format="gray") for number, frame in decoder.carried}
        assert decoder.lost.failed_packets == 0
        truth = truth or given
        assert len(given) == 80 if not may_skip else 11 <= len(given) < 70
        asked = [number for number, pts in enumerate(shown) if pts in wanted]
        assert all(np.array_equal(given[number], truth[number]) for number in asked)


def held(number, packet):
    """As an intake holds it."""
    return HeldPacket(
        number=number, packet=packet, seconds=0.0, dts=0.0, nbytes=packet.size, is_key=packet.is_keyframe,
        is_entry=False, begins=1, is_disposable=False, is_corrupt=False, arrived=0.0,
    )  # fmt: skip


def bits(*fields):
    """Bytes of (value, bits) pairs."""
    text = "".join(format(value, f"0{count}b") for value, count in fields if count)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def unit(kind, body, layer=None):
    head = bytes([kind << 3 | 2]) if layer is None else bytes([kind << 3 | 6, layer << 3])
    return head + bytes([len(body)]) + body


def sequence(numbers=0, order_bits=7, points=((0, 0),)):
    layers = [field for point, level in points for field in ((point, 12), (level, 5))]
    order = ((1, 1), (0, 2)) if order_bits else ((0, 1),)
    hint = ((order_bits - 1, 3),) if order_bits else ()
    return unit(1, bits(
        (0, 3), (0, 2), (0, 1), (0, 1), (len(points) - 1, 5), *layers, (7, 4), (7, 4), (175, 8), (143, 8), (numbers, 1),
        (0, 3), (0, 4), *order, (1, 1), (1, 1), *hint, (0, 8),
    ))  # fmt: skip


def frame(kind=1, shown=1, resilient=0, screen=0, refreshes=0, order_bits=7):
    """Bytes of a frame that begins with other probabilities where it may, and holds nothing."""
    may_be_later = () if shown else ((1, 1),)
    whose = () if kind == 2 or resilient else ((5, 3),)
    motion = ((0, 1),) if screen else ()
    start = ((0, 1), (kind, 2), (shown, 1), *may_be_later, (resilient, 1), (0, 1), (screen, 1), *motion, (0, 1))
    return unit(6, bits(*start, (3, order_bits), *whose, (refreshes, 8), (0, 16)))


AGAIN, DELIMITER, METADATA, PADDING = unit(3, b"\x88"), b"\x12\x00", unit(5, b"\x01\x00"), unit(15, b"\x80")


def test_av1_units_that_go_and_stay():
    def left(*units, headers=None):
        return Av1References(sequence() if headers is None else headers)(b"".join(units), False)

    for kind in (1, 2):
        for screen in (0, 1):
            assert left(frame(kind, screen=screen)) == b""
            assert left(DELIMITER, frame(kind, screen=screen), PADDING) == b""
            hidden = frame(kind, shown=0, screen=screen, refreshes=4)
            assert left(DELIMITER, hidden, frame(kind, screen=screen)) == DELIMITER + hidden
            for slots in (1, 128):
                assert left(frame(kind, screen=screen, refreshes=slots)) != b""
    header, tiles = b"\x1a" + frame()[1:], unit(4, b"\x00\x00")
    assert left(header, tiles, unit(7, frame()[2:]), tiles) == b""
    assert left(frame(order_bits=0, resilient=1), headers=sequence(order_bits=0)) == b""
    for units_ in (
        (frame(resilient=1),),  # may name what slots hold
        (frame(0, refreshes=0),),
        (frame(3),),
        (AGAIN,),
        (AGAIN, frame(refreshes=1)),
        (METADATA, frame()),
        (frame()[:-1],),
        (unit(6, frame()[2:], layer=1),),
        (unit(6, b""),),
        (frame(), bytes([0x36])),
    ):
        assert left(*units_) == b"".join(units_), units_
    for headers in (b"", sequence(numbers=1), sequence(points=((0x300, 0),)), sequence(points=((0, 0), (0x201, 0)))):
        assert left(frame(), headers=headers) == frame()
    late = Av1References(None)  # the headers come in a packet that is wanted
    assert late(frame(), False) == frame()
    assert late(DELIMITER + sequence() + frame(0), True) == DELIMITER + sequence() + frame(0)
    assert late(frame(), False) == b""
    assert Av1References(b"\x81\x00\x0c\x00" + sequence())(frame(), False) == b""


def test_hevc_units_that_go_and_stay():
    def nal(kind, temporal=0, layer=0, body=b"\x80"):
        return bytes([kind << 1 | layer >> 5, (layer & 31) << 3 | temporal + 1]) + body

    def sps(highest):
        return nal(33, body=bytes([highest << 1, 0]))

    def lengths(*nals):
        return b"".join(len(each).to_bytes(4, "big") + each for each in nals)

    def codes(*nals):
        return b"".join(b"\0\0\0\1" + each for each in nals)

    for join, box in ((codes, codes(sps(1))), (lengths, hvcc(sps(1)))):

        def left(*nals, join=join, box=box):
            return HevcReferences(box)(join(*nals), False)

        for kind in (0, 2, 4, 6, 8):
            assert left(nal(kind, 1)) == b""
            assert left(nal(35, 1), nal(kind, 1), nal(kind, 1), nal(38, 1)) == b""
            assert left(nal(kind, 0)) == join(nal(kind, 0))  # a lower layer
            assert left(nal(kind + 1, 1)) == join(nal(kind + 1, 1))
            rest = left(nal(39, 1), nal(kind, 1))
            assert nal(39, 1) in rest
            assert nal(kind, 1) not in rest
        for nals in ((nal(0, 1), nal(1, 1)), (nal(0, 1), nal(0, 1, layer=1)), (nal(16, 1),), (nal(19),), (nal(35, 1),)):
            assert left(*nals) == join(*nals), nals
        assert left(nal(0, 1), b"\x4a\x01") == join(nal(0, 1), b"\x4a\x01")  # the end of a bitstream
        sieve = HevcReferences(box)
        assert sieve(join(sps(2), nal(21)), True) == join(sps(2), nal(21))
        assert sieve(join(nal(0, 1)), False) == join(nal(0, 1))
        assert sieve(join(nal(0, 2)), False) == b""
    assert HevcReferences(None)(codes(nal(0)), False) == codes(nal(0))
    assert HevcReferences(hvcc(sps(0)))(lengths(nal(0))[:-1], False) == lengths(nal(0))[:-1]
    assert HevcReferences(codes(sps(0)))(b"\7" + codes(nal(0)), False) == b"\7" + codes(nal(0))


def hvcc(sps):
    head = bytearray(23)
    head[0], head[21], head[22] = 1, 3, 2
    arrays = ((32, b"\x40\x01\x0c"), (33, sps))
    return bytes(head) + b"".join(bytes([kind, 0, 1, 0, len(each)]) + each for kind, each in arrays)


@pytest.mark.parametrize("seed", range(8))
def test_what_was_left_out_changes_nothing_about_a_damaged_stream(seed, monkeypatch):
    """Frames that are given and what they are compared with, against a decoder that is given every packet."""
    clip = bytearray(av1(("", "pred-struct=1")[seed % 2], "mp4", gop=(40, 100)[seed // 4]))
    drawn = np.random.default_rng(seed)
    with av.open(io.BytesIO(bytes(clip))) as source:
        places = [(packet.pos, packet.size) for packet in source.demux(source.streams.video[0]) if packet.size]
    for at, size in (places[place] for place in drawn.choice(len(places), 4, replace=False)):
        spot = at + int(drawn.integers(0, size))
        clip[spot : spot + 4] = drawn.bytes(4)
    wanted = list(range(2, len(VideoStream(bytes(clip))), 5))
    sifted = [seen(bytes(clip), wanted, threads) for threads in (1, 2)]
    with monkeypatch.context() as patched:
        patched.setattr(scan, "sieves_of", lambda *given, **more: None)
        (expected, losses) = seen(bytes(clip), wanted)
    assert sifted[0][1] == sifted[1][1]
    for frames, lost in sifted:
        assert lost.missing_frames == losses.missing_frames
        assert lost.failed_packets <= losses.failed_packets
        assert list(frames) == list(expected)
        for index, (rgb, *rest) in frames.items():
            assert np.array_equal(rgb, expected[index][0])
            assert rest == list(expected[index][1:])


def test_h264_fields_and_other_codecs_are_left_to_decoders():
    assert sieves_of("h264", None) is None
    assert sieves_of("vp9", None) is None
    data = b"\0\0\1\1\x9a"
    assert sieves_of("h264", None, has_fields=False)()(data, False) == b""
    assert sieves_of("h264", None, has_fields=False)()(data, True) == data


def test_a_hidden_picture_before_a_keyframe_is_not_of_the_job_before():
    """VP8: its bytes count with the next shown frame, which another job gives."""
    path = shared_clip("odd/vp8_hidden.webm")
    with VideoStream(str(path)) as stream:
        rank = stream.packets.frame_of_packet
        request, wanted = FrameRequest(), np.ones(len(stream), dtype=bool)
        plan = plan_decode(stream.packets, stream.info, wanted, request, 2)
    given = [plan.frames_of(job) for job in plan.jobs]
    assert sorted(frame for job in given for frame in job) == list(range(150))
    job = plan.jobs[0]
    hidden = next(at for at in range(job.start, job.stop) if rank[at] == rank[at + 1])
    cut = type(job)(((job.start, hidden + 1),))
    assert int(rank[hidden]) not in plan.frames_of(cut)
    assert int(rank[hidden - 1]) in plan.frames_of(cut)
