"""VideoStream against independent decoding, on real clips and on every codec and container we can write."""

import io
import threading
import warnings

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from ov2kit.codec.stream import VideoStream
from ov2kit.codec.video.orientation import Orientation
from ov2kit.codec.video.vectors import MOTION_CODECS
from ov2kit.errors import DamagedVideoWarning, OptionError, VideoError
from tests.clips import decoded, encode, picture, shared_clip
from tests.paths import SAMPLE

av.logging.set_level(None)

ENCODINGS = {
    "h264-mp4": ("libx264", "mp4", {}),
    "h264-mkv": ("libx264", "mkv", {}),
    "h264-ts": ("libx264", "ts", {}),
    "h264-flv": ("libx264", "flv", {}),
    "h264-mov": ("libx264", "mov", {}),
    "h264-avi": ("libx264", "avi", {}),
    "h264-raw": ("libx264", "h264", {}),
    "h264-444-odd": ("libx264", "mp4", {"pix_fmt": "yuv444p", "size": (91, 67)}),
    "h264-odd-grid": ("libx264", "mp4", {"size": (90, 66)}),
    "h264-open-gop": ("libx264", "mp4", {"options": {"x264-params": "open-gop=1"}}),
    "h264-intra-refresh": ("libx264", "mp4", {"options": {"x264-params": "intra-refresh=1"}}),
    "h264-interlaced": ("libx264", "mp4", {"options": {"x264-params": "tff=1"}}),
    "h264-all-intra": ("libx264", "mp4", {"gop": 1, "bframes": 0}),
    "hevc-mp4": ("libx265", "mp4", {"options": {"x265-params": "log-level=none"}}),
    "hevc-raw": ("libx265", "hevc", {"options": {"x265-params": "log-level=none"}}),
    "hevc-10bit": ("libx265", "mp4", {"pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}}),
    "vp8-webm": ("libvpx", "webm", {}),
    "vp9-webm": ("libvpx-vp9", "webm", {"frames": 15}),
    "av1-mp4": ("libsvtav1", "mp4", {}),
    "mpeg4-mp4": ("mpeg4", "mp4", {}),
    "mpeg4-avi": ("mpeg4", "avi", {}),
    "mpeg2-ts": ("mpeg2video", "ts", {}),
    "mpeg2-mpg": ("mpeg2video", "mpg", {}),
    "mpeg1-mpg": ("mpeg1video", "mpg", {}),
    "mjpeg-avi": ("mjpeg", "avi", {"pix_fmt": "yuvj420p"}),
    "gif": ("gif", "gif", {"pix_fmt": "rgb8"}),
    "flv1-flv": ("flv", "flv", {}),
    "raw-avi": ("rawvideo", "avi", {}),
    "ffv1-mkv": ("ffv1", "mkv", {}),
}


@pytest.fixture(scope="module", params=ENCODINGS, ids=str)
def encoded(request, tmp_path_factory):
    codec, suffix, options = ENCODINGS[request.param]
    return encode(tmp_path_factory.mktemp("clips") / f"clip.{suffix}", codec=codec, **options)


def rgb_of(frame):
    return frame.rgb.permute(1, 2, 0).numpy()


def assert_frames_match(video, pictures, indices, **options):
    frames = list(video.frames(indices, **options))
    expected = sorted(set(indices)) if indices is not None else list(range(len(pictures)))
    assert [frame.index for frame in frames] == expected
    for frame in frames:
        assert np.array_equal(rgb_of(frame), pictures[frame.index]), f"frame {frame.index}"


class TestEveryCodec:
    def test_all_frames_equal_an_independent_decode(self, encoded):
        assert_frames_match(VideoStream(encoded, threads=2), decoded(encoded), None)

    def test_chosen_frames_equal_an_independent_decode(self, encoded):
        pictures = decoded(encoded)
        assert_frames_match(VideoStream(encoded, threads=2), pictures, [len(pictures) - 1, 3, 3, 7, 13])

    def test_frame_times_follow_the_frame_rate_that_was_written(self, encoded):
        seconds = VideoStream(encoded).packets.frame_seconds
        assert np.allclose(seconds, np.arange(len(seconds)) / 25, atol=2e-3)

    def test_motion_is_there_exactly_where_the_decoder_exports_it(self, encoded):
        video = VideoStream(encoded)
        frames = list(video.frames(rgb=False, motion=True))
        with av.open(str(encoded)) as container:
            name = container.streams.best("video").codec_context.name
        moving = [frame for frame in frames if frame.motion is not None]
        assert bool(moving) == (name in MOTION_CODECS and any(f.kind in "PB" for f in frames))
        assert video.info.exports_motion == (name in MOTION_CODECS)
        assert not any(frame.kind == "I" for frame in moving)


def test_vectors_do_not_depend_on_threads():
    def vectors(threads):
        return [f.motion for f in VideoStream(SAMPLE, threads=threads).frames(rgb=False, motion=True)]

    one, many = vectors(1), vectors(3)
    assert len(one) == len(many) == 132
    for a, b in zip(one, many, strict=True):
        assert (a is None) == (b is None)
        if a is not None:  # padding bytes of the structured array are garbage: compare field by field
            assert all(np.array_equal(a[name], b[name]) for name in a.dtype.names)


def test_skipping_unwanted_frames_changes_no_vector_and_no_pixel():
    everything = {f.index: f for f in VideoStream(SAMPLE).frames(motion=True, size=(56, 112))}
    for frame in VideoStream(SAMPLE).frames(range(5, 132, 11), motion=True, size=(56, 112)):
        full = everything[frame.index]
        assert torch.equal(frame.rgb, full.rgb)
        assert (frame.motion is None) == (full.motion is None)
        if frame.motion is not None:
            assert all(np.array_equal(frame.motion[n], full.motion[n]) for n in frame.motion.dtype.names)


def test_packet_table_says_what_the_demuxer_says():
    table = VideoStream(SAMPLE).packets
    with av.open(str(SAMPLE)) as container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.size]
        assert table.nbytes.tolist() == [p.size for p in packets]
        assert table.is_key.tolist() == [p.is_keyframe for p in packets]
        pts = [float(p.pts * stream.time_base) for p in packets]
    assert table.pts.tolist() == pts
    assert table.order.tolist() == np.argsort(pts).tolist()
    assert table.display("nbytes").sum() == table.nbytes.sum()
    assert (table.num_frames, table.exact, table.times_from) == (132, True, "pts")
    assert table.duration_seconds == pytest.approx(5.28)
    assert table.fps == pytest.approx(25)


def test_reference_is_the_last_i_or_p_frame_shown_before():
    video = VideoStream(SAMPLE)
    kinds = {f.index: f.kind for f in video.frames(rgb=False)}
    lumas = {f.index: f.luma for f in video.frames(rgb=False, luma_size=(36, 64))}
    entries = set(np.flatnonzero(video.packets.display("is_entry")).tolist())
    for frame in video.frames(rgb=False, luma_size=(36, 64), reference=True):
        if frame.index in entries:
            assert frame.reference is None
            continue
        expected = max(i for i in range(frame.index) if kinds[i] in "IP")
        assert frame.reference_index == expected
        assert torch.equal(frame.reference, lumas[expected])


class TestTimes:
    def test_variable_frame_rate_keeps_its_own_times(self, tmp_path):
        times = [0, 40, 45, 300, 310, 900, 1000, 1003, 2500, 2540, 4000, 9000]
        for suffix in ("mp4", "mkv"):
            path = encode(tmp_path / f"vfr.{suffix}", frames=len(times), times_ms=times)
            assert np.allclose(VideoStream(path).packets.frame_seconds, np.array(times) / 1000, atol=1e-3)

    def test_times_count_from_the_first_shown_frame(self, tmp_path):
        path = encode(tmp_path / "late.mkv", frames=10, times_ms=[10_000 + 40 * i for i in range(10)])
        video = VideoStream(path)
        assert video.info.start_seconds == pytest.approx(10, abs=0.1)
        assert np.allclose(video.packets.frame_seconds, np.arange(10) * 0.04, atol=1e-3)

    @pytest.mark.filterwarnings("ignore::ov2kit.errors.DamagedVideoWarning")  # the seam
    def test_transport_stream_that_jumps_back_goes_on(self, tmp_path):
        part = encode(tmp_path / "part.ts", frames=20).read_bytes()
        (tmp_path / "twice.ts").write_bytes(part + part)
        video = VideoStream(tmp_path / "twice.ts")
        seconds = video.packets.frame_seconds
        assert len(seconds) == 40
        assert np.allclose(seconds, np.arange(40) * 0.04, atol=2e-3)
        assert_frames_match(video, decoded(tmp_path / "twice.ts"), [0, 19, 20, 39])

    def test_decode_times_in_the_place_of_pts_do_not_shuffle_pictures(self, tmp_path):
        path = encode(tmp_path / "clip.avi", bframes=3)  # AVI has no pts: FFmpeg writes decode times
        video = VideoStream(path)
        assert video.packets.times_from == "sorted pts"
        assert np.allclose(video.packets.frame_seconds, np.arange(30) / 25)
        assert_frames_match(video, decoded(path), None)
        assert_frames_match(video, decoded(path), [3, 14, 29])


class TestOrientation:
    @pytest.mark.parametrize("degrees", [0, 90, 180, -90])
    def test_rotated_clip_is_shown_upright(self, tmp_path, degrees):
        plain = decoded(encode(tmp_path / "plain.mp4", frames=3))
        turned = tmp_path / "turned.mp4"
        with av.open(str(tmp_path / "plain.mp4")) as source, av.open(str(turned), "w") as target:
            stream = source.streams.video[0]
            copy = target.add_stream_from_template(stream)
            copy.set_display_rotation(degrees)
            remux(source, stream, target, copy)
        with av.open(str(turned)) as container:
            rotation = next(container.decode(video=0)).rotation
        video = VideoStream(turned)
        expected = np.rot90(plain[0], rotation // 90)  # PyAV's rotation counts counter-clockwise
        shown = rgb_of(next(video.frames([0])))
        assert video.info.display_size == expected.shape[:2]
        assert np.array_equal(shown, expected)

    def test_mirrored_matrix_is_a_mirror_and_not_a_half_turn(self):
        x = np.arange(12).reshape(3, 4)
        mirror = Orientation.from_matrix(np.array([-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30]))
        assert np.array_equal(mirror.picture(x), x[:, ::-1])
        assert Orientation.from_matrix(np.zeros(9, dtype=np.int32)).is_upright

    @pytest.mark.parametrize("flags", [(t, x, y) for t in (0, 1) for x in (0, 1) for y in (0, 1)])
    def test_vectors_turn_with_the_picture(self, flags):
        turn = Orientation(*map(bool, flags))
        field = torch.zeros(1, 4, 6, 2)
        field[0, 1, 2] = torch.tensor([1.0, 2.0])  # points from cell (1, 2) to cell (3, 3)
        marks = np.zeros((4, 6))
        marks[1, 2], marks[3, 3] = 1, 2
        shown = turn.picture(marks)
        (row, col), (to_row, to_col) = (np.argwhere(shown == v)[0] for v in (1, 2))
        assert turn.field(field)[0, row, col].tolist() == [to_col - col, to_row - row]
        assert turn.size(*turn.size(4, 6)) == (4, 6)

    def test_sample_aspect_ratio_gives_square_pixels(self):
        video = VideoStream(shared_clip("calibration/skv_carphone.mp4"))
        assert video.info.coded_size == (144, 176)
        assert video.info.display_size == (144, round(176 * 128 / 117))


class TestInputs:
    def test_path_bytes_and_file_object_give_the_same(self):
        data = SAMPLE.read_bytes()
        stacks = [
            torch.stack([f.rgb for f in VideoStream(source).frames([0, 60, 131], size=(28, 56))])
            for source in (SAMPLE, str(SAMPLE), data, io.BytesIO(data), _Pipe(data))
        ]
        assert all(torch.equal(stacks[0], other) for other in stacks[1:])

    def test_relative_name_with_a_colon_is_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "http:x.mp4").write_bytes(SAMPLE.read_bytes())
        assert VideoStream("http:x.mp4").num_frames == 132

    def test_best_stream_is_no_cover(self, tmp_path):
        assert VideoStream(shared_clip("nasa_streams.mp4")).info.coded_size == (270, 480)
        assert VideoStream(shared_clip("nasa_streams.mp4"), stream=0).info.coded_size == (180, 320)

    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    def test_cover_picture_is_passed_by(self, tmp_path, suffix):
        plain = encode(tmp_path / "plain.mp4")
        path = tmp_path / f"cover.{suffix}"
        with av.open(str(plain)) as source, av.open(str(path), "w") as out:
            cover = out.add_stream("mjpeg", rate=1)
            cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
            cover.disposition = Disposition.attached_pic
            stream = source.streams.video[0]
            copy = out.add_stream_from_template(stream)
            frame = av.VideoFrame.from_ndarray(picture(0, 64, 64), format="rgb24")
            frame.pts = 0
            out.mux(cover.encode(frame) + cover.encode(None))
            remux(source, stream, out, copy)
        assert VideoStream(path).info.codec == "h264"
        assert_frames_match(VideoStream(path), decoded(plain), None)

    def test_edit_list_hides_frames(self, tmp_path):
        plain = encode(tmp_path / "plain.mp4")
        path = tmp_path / "edited.mp4"
        options = {"avoid_negative_ts": "disabled"}
        with av.open(str(plain)) as source, av.open(str(path), "w", options=options) as out:
            stream = source.streams.video[0]
            remux(source, stream, out, out.add_stream_from_template(stream), shift=-7 * 512)
        table = VideoStream(path).packets
        assert (len(table), table.num_frames, int(table.is_discard.sum())) == (30, 23, 7)
        assert np.allclose(table.frame_seconds, np.arange(23) / 25)
        assert_frames_match(VideoStream(path), decoded(plain)[7:], None)

    def test_metadata_that_is_not_utf8_does_not_matter(self, tmp_path):
        path = encode(tmp_path / "plain.mp4", frames=5)
        titled = tmp_path / "titled.mp4"
        with av.open(str(path)) as source, av.open(str(titled), "w") as out:
            out.metadata["title"] = "QQQQQQ"
            stream = source.streams.video[0]
            remux(source, stream, out, out.add_stream_from_template(stream))
        data = titled.read_bytes()
        assert b"QQQQQQ" in data
        titled.write_bytes(data.replace(b"QQQQQQ", b"\xff\xfe\xfd\xfc\xfb\xfa"))
        with pytest.raises(UnicodeDecodeError):
            av.open(str(titled)).close()
        assert VideoStream(titled).num_frames == 5

    def test_size_change_inside_a_stream(self, tmp_path):
        parts = [
            encode(tmp_path / f"{i}.ts", frames=12, size=s).read_bytes() for i, s in enumerate(((96, 128), (64, 96)))
        ]
        (tmp_path / "both.ts").write_bytes(b"".join(parts))
        frames = list(VideoStream(tmp_path / "both.ts").frames(size=(28, 56), motion=True))
        assert [f.coded_size for f in frames] == [(96, 128)] * 12 + [(64, 96)] * 12
        assert all(f.rgb.shape == (3, 28, 56) for f in frames)


def remux(source, stream, out, copy, shift=0):
    """Copy packets into another container, moved by `shift` ticks."""
    for packet in source.demux(stream):
        if packet.dts is not None:
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = copy
            out.mux(packet)


class _Pipe(io.RawIOBase):
    """A file object that can only be read."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(buffer)


class TestBadInput:
    def test_each_bad_input_is_one_clear_error(self, tmp_path):
        files = {
            "empty.mp4": (b"", "empty"),
            "text.mp4": (b"this is no video, just text\n" * 50, "not a video"),
            "zeros.mp4": (bytes(10_000), "not a video"),
            "moov_lost.mp4": (SAMPLE.read_bytes()[:200], "video"),
        }
        for name, (data, message) in files.items():
            (tmp_path / name).write_bytes(data)
            with pytest.raises(VideoError, match=rf"{name}.*{message}"):
                VideoStream(tmp_path / name)
        with pytest.raises(VideoError, match="no such file"):
            VideoStream(tmp_path / "missing.mp4")
        with pytest.raises(VideoError, match="folder"):
            VideoStream(tmp_path)
        with pytest.raises(VideoError, match="path, bytes or a binary file"):
            VideoStream(12)

    def test_an_address_is_not_fetched_and_its_password_not_shown(self):
        with pytest.raises(
            VideoError, match=r"^https://example\.org/a\.mp4: expected the path .* download it"
        ) as caught:
            VideoStream("https://me:secret@example.org/a.mp4")
        assert "secret" not in str(caught.value)

    def test_audio_alone_is_refused(self, tmp_path):
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as out:
            stream = out.add_stream("aac", rate=44100)
            for start in range(0, 8192, 1024):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.pts, frame.sample_rate = start, 44100
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        with pytest.raises(VideoError, match="none of them video"):
            VideoStream(path)

    def test_index_outside_the_video(self):
        with pytest.raises(IndexError, match=r"frame 132 .*0\.\.131"):
            next(VideoStream(SAMPLE).frames([0, 132]))

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
    def test_cut_file_gives_what_is_there_and_counts_the_rest(self, tmp_path, share):
        data = SAMPLE.read_bytes()
        path = tmp_path / "cut.mp4"
        path.write_bytes(data[: int(len(data) * share)])
        pictures = decoded(path)
        video = VideoStream(path)
        with pytest.warns(DamagedVideoWarning, match=r"ends early|missing|not be decoded"):
            frames = list(video.frames())
        assert video.losses
        assert 0 < len(frames) <= len(pictures) + 1
        whole = list(zip(frames, pictures, strict=False))[:-3]
        assert len(whole) >= len(pictures) - 4 > 25  # most of them, as a plain decode counts
        for frame, expected in whole:
            assert np.array_equal(rgb_of(frame), expected)

    def test_damage_never_crashes_and_is_counted(self, tmp_path):
        data = bytearray(SAMPLE.read_bytes())
        rng = np.random.default_rng(0)
        for at in rng.integers(len(data) // 3, len(data) - 200, 40):
            data[at : at + 60] = rng.integers(0, 256, 60, dtype=np.uint8).tobytes()
        path = tmp_path / "damaged.mp4"
        path.write_bytes(bytes(data))
        video = VideoStream(path, threads=1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frames = list(video.frames(motion=True, size=(28, 56)))
        assert frames
        assert video.losses.corrupt_frames + video.losses.failed_packets + video.losses.missing_frames > 0
        assert any(issubclass(w.category, DamagedVideoWarning) for w in caught)

    @pytest.mark.parametrize("seed", range(8))
    def test_random_damage_anywhere_ends_in_frames_or_in_a_video_error(self, tmp_path, seed):
        rng = np.random.default_rng(seed)
        data = bytearray(encode(tmp_path / "clip.mkv", frames=12).read_bytes())
        for at in rng.integers(0, len(data), 30):
            data[at] = rng.integers(256)
        data = data[: rng.integers(len(data) // 2, len(data))]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert list(VideoStream(bytes(data)).frames(motion=True))
        except VideoError:
            pass


@pytest.fixture(scope="module")
def pictures():
    """The bundled clip, small."""
    return decoded(SAMPLE, (28, 56))


class TestFace:
    def test_length_is_what_a_plain_decode_gives(self, pictures):
        assert len(VideoStream(SAMPLE)) == VideoStream(SAMPLE).num_frames == len(pictures) == 132

    @pytest.mark.parametrize(
        ("seconds", "index"),
        [(0, 0), (0.02, 0), (0.04, 1), (0.0799, 1), (0.08, 2), (2.5, 62), (5.2399, 130), (5.24, 131), (5.279, 131)],
    )
    def test_frame_at_is_the_picture_on_screen(self, pictures, seconds, index):
        """25 frames a second: frame k is on screen from k / 25 to (k + 1) / 25."""
        frame = VideoStream(SAMPLE).frame_at(seconds, size=(28, 56))
        assert frame.index == index
        assert np.array_equal(rgb_of(frame), pictures[index])

    @pytest.mark.parametrize("seconds", [-0.001, 5.28, 100, float("nan")])
    def test_a_time_outside_the_video_is_refused(self, seconds):
        with pytest.raises(OptionError, match="seconds"):
            VideoStream(SAMPLE).frame_at(seconds)

    def test_frame_at_follows_the_time_stamps(self, tmp_path):
        path = encode(tmp_path / "vfr.mp4", frames=5, times_ms=[0, 40, 1000, 1010, 5000])
        video = VideoStream(path)
        assert [video.frame_at(s).index for s in (0.039, 0.999, 1.005, 1.02, 4.9, 5.0)] == [0, 1, 2, 3, 3, 4]

    def test_the_old_spelling_of_packets_works_with_a_warning(self):
        video = VideoStream(SAMPLE)
        with pytest.warns(DeprecationWarning, match=r"VideoStream\.packets\(\)") as caught:
            assert video.packets() is video.packets
        assert caught[0].filename == __file__

    def test_the_old_spelling_of_indices_works_with_a_warning(self):
        video = VideoStream(SAMPLE)
        with pytest.warns(DeprecationWarning, match="indices") as caught:
            old = list(video.bit_cost_maps(frames=[3, 7]))
        assert caught[0].filename == __file__
        new = list(video.bit_cost_maps(indices=[3, 7]))
        assert [index for index, _ in old] == [index for index, _ in new] == [3, 7]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(old, new, strict=True))
        with pytest.warns(DeprecationWarning, match="indices"), pytest.raises(OptionError, match="alone"):
            video.bit_cost_maps([1], frames=[2])

    def test_a_closed_video_keeps_its_facts_and_gives_no_frames(self):
        before = set(threading.enumerate())
        with VideoStream(SAMPLE, threads=2) as video:
            loop = video.frames(size=(560, 1008))  # more than may wait, so that the threads cannot have ended
            assert next(loop).index == 0
            assert set(threading.enumerate()) - before
        assert not set(threading.enumerate()) - before
        assert list(loop) == []
        assert len(video) == len(video.packets.frame_seconds) == 132
        with pytest.raises(VideoError, match="closed"):
            next(video.frames())

    def test_a_given_file_object_stays_open(self):
        with SAMPLE.open("rb") as file:
            with VideoStream(file) as video:
                next(video.frames(size=(28, 56)))
            assert not file.closed
            assert len(VideoStream(file)) == 132

    def test_losses_belong_to_their_loop(self, tmp_path):
        data = SAMPLE.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * 0.6)])
        video = VideoStream(tmp_path / "cut.mp4", threads=1)
        wanted = range(len(video) - 20, len(video))
        late, early = video.frames(wanted, size=(28, 56)), video.frames(range(10), size=(28, 56))
        assert late.losses is None
        with pytest.warns(DamagedVideoWarning):
            frames = list(late)
        with pytest.warns(DamagedVideoWarning):
            assert len(list(early)) == 10
        assert late.losses.missing_frames == len(wanted) - len(frames) > 0
        assert early.losses.missing_frames == early.losses.failed_packets == 0
        assert video.losses == early.losses  # of the last loop that ended


def test_leaving_a_loop_early_leaves_nothing_running():
    before = set(threading.enumerate())
    for _ in range(5):
        for frame in VideoStream(SAMPLE, threads=2).frames(size=(28, 56)):
            if frame.index == 3:
                break
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize("size", [(90, 66), (66, 90), (64, 96)])
@pytest.mark.parametrize("scale", [1, 2])
def test_rgb_is_the_picture_to_within_a_rounding(tmp_path, size, scale):
    """Against the color matrix worked out by hand, also at sizes where swscale's shortcuts fail."""
    path = encode(tmp_path / "clip.mp4", frames=3, size=size, pix_fmt="yuv444p", options={"crf": "10"})
    shown = (size[0] * scale, size[1] * scale)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).reformat(shown[1], shown[0], "yuv444p16le")
        y, u, v = frame.to_ndarray().transpose(2, 0, 1).astype(float) / 256
    by_hand = np.stack(
        [
            1.164383 * (y - 16) + 1.596027 * (v - 128),
            1.164383 * (y - 16) - 0.391762 * (u - 128) - 0.812968 * (v - 128),
            1.164383 * (y - 16) + 2.017232 * (u - 128),
        ]
    ).clip(0, 255)
    rgb = next(VideoStream(path).frames([0], size=shown)).rgb.numpy()
    assert np.abs(rgb - by_hand).max() < 2.5
