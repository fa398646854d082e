"""Shown pictures and their times, against a plain one-thread decode and values worked out by hand."""

import random
import warnings

import av
import numpy as np
import pytest

from ov2kit.codec import FrameTokenizer, VideoStream
from ov2kit.codec.tokenizers.frames import select_frame_indices, select_frames_by_time
from ov2kit.codec.video import decode
from ov2kit.codec.video.jobs import plan_jobs
from tests import odd_streams
from tests.clips import decoded, encode, shared_clip

av.logging.set_level(None)

ODD = {  # frames, seconds of the last one
    "vp8_hidden.webm": (150, 5.96),
    "vp9_hidden.webm": (150, 5.96),
    "field_pictures.ts": (50, 1.96),
    "field_pictures_joined.ts": (50, 1.96),
    "headers_change.flv": (200, 7.96),
    "yuv444_old_x264.mp4": (100, 3.96),
    "xvid_packed.avi": (98, 3.88),
    "rate_changes.mp4": (320, 19.9667),
    "sound_longer.mkv": (150, 5.96),
    "picture_late.mkv": (150, 5.96),
}


def assert_like_a_plain_decode(path, threads, samples=3, more=()):
    """All frames, random subsets and those of `more`, for each number of threads; nothing lost."""
    pictures = decoded(path)
    rng = random.Random(len(pictures))
    subsets = [None, *more, *(sorted(rng.sample(range(len(pictures)), min(8, len(pictures)))) for _ in range(samples))]
    for count in threads:
        video = VideoStream(path, threads=count)
        assert video.num_frames == len(pictures)
        for subset in subsets:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                frames = list(video.frames(subset, size=None))
            assert [f.index for f in frames] == (list(range(len(pictures))) if subset is None else subset)
            for frame in frames:
                rgb, expected = frame.rgb.permute(1, 2, 0).numpy(), pictures[frame.index]
                if rgb.shape == expected.shape:  # else its size changed on the way
                    assert np.array_equal(rgb, expected), f"{count} thread(s), frame {frame.index} of {subset}"
            assert not video.losses
    return pictures


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_what_a_plain_decode_shows(name):
    path = shared_clip(f"odd/{name}")
    count, last = ODD[name]
    seconds = VideoStream(path).packets.frame_seconds
    assert len(seconds) == count
    assert seconds[-1] == pytest.approx(last, abs=2e-3)
    if name != "rate_changes.mp4":
        assert np.allclose(seconds, np.arange(count) / 25, atol=2e-3)
    assert_like_a_plain_decode(path, (1, 2, 4), samples=2)


def test_frames_of_other_headers_are_right_too():
    """Sizes change in headers_change.flv: frames behind the change, against the plain decode scaled to one size."""
    path = shared_clip("odd/headers_change.flv")
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_type = "NONE"
        grays = [f.to_ndarray(format="gray").astype(int) for f in container.decode(video=0)]
    for threads in (1, 2, 4):
        for frame in VideoStream(path, threads=threads).frames([10, 160, 190], size=(270, 480), luma_size=(270, 480)):
            assert frame.coded_size == grays[frame.index].shape
            if frame.index > 100:
                assert np.abs(frame.luma.numpy().astype(int) - grays[frame.index]).max() <= 20


def test_jobs_do_not_reach_across_headers(tmp_path):
    """Parameter sets change every 20 frames, keyframes come every 5: a job is decoded by the headers of its start."""
    path = odd_streams.headers_change(tmp_path / "change.nut", parts=6, frames=20, gop=5)
    video = VideoStream(path)
    table = video.packets
    assert table.headers.tolist() == [20, 40, 60, 80, 100]
    for wanted in (np.ones(120, bool), np.arange(120) % 5 == 0, np.arange(120) % 7 == 3):
        jobs = plan_jobs(table, wanted)
        assert {len({start // 20 for start, _ in job.ranges}) for job in jobs} == {1}
        covered = np.zeros(120, bool)
        for start, stop in (span for job in jobs for span in job.ranges):
            covered[start:stop] = True
        assert covered[wanted].all()
    assert_like_a_plain_decode(path, (1, 2, 4), more=[list(range(3, 120, 7))])


@pytest.mark.parametrize("mixed", [False, True])
def test_two_fields_are_one_frame(tmp_path, mixed):
    grays = odd_streams.field_pictures(tmp_path / "fields.ts", mixed=mixed)
    pictures = assert_like_a_plain_decode(tmp_path / "fields.ts", (1, 2))
    table = VideoStream(tmp_path / "fields.ts").packets
    assert len(table) == (34 if mixed else 40)
    assert np.allclose(table.frame_seconds, np.arange(20) / 25)
    assert table.display("nbytes").sum() == table.nbytes.sum()
    assert [int(p.mean()) for p in pictures] == pytest.approx([(g - 16) * 255 / 219 for g in grays], abs=2)
    canvases = FrameTokenizer(16)(tmp_path / "fields.ts")
    assert len(canvases) == 16


def test_hidden_packets_show_nothing(tmp_path):
    times = odd_streams.hidden(tmp_path / "hidden.webm")
    table = VideoStream(tmp_path / "hidden.webm").packets
    assert (len(table), table.num_frames) == (40, 32)
    assert np.allclose(table.frame_seconds, np.array(times) / 1000, atol=2e-3)
    assert table.display("nbytes")[4] == table.nbytes[4] + table.nbytes[5]  # with the hidden one before it
    assert_like_a_plain_decode(tmp_path / "hidden.webm", (1, 2, 4))


def test_a_picture_shown_again_is_a_picture_of_its_own(tmp_path):
    count = odd_streams.shown_again(tmp_path / "again.webm")
    assert count == 30
    table = VideoStream(tmp_path / "again.webm").packets
    assert np.allclose(table.frame_seconds, np.arange(30) / 25, atol=2e-3)
    assert_like_a_plain_decode(tmp_path / "again.webm", (1, 2, 4))


def test_packed_pictures_come_in_their_order(tmp_path):
    path = odd_streams.packed(tmp_path / "packed.avi")
    pictures = assert_like_a_plain_decode(path, (1, 2, 4))
    originals = decoded(tmp_path / "packed.mp4")
    assert len(pictures) == len(originals) == 31
    assert all(np.array_equal(a, b) for a, b in zip(pictures, originals, strict=True))
    with av.open(str(tmp_path / "packed.mp4")) as container:
        sizes = {p.pts: p.size for p in container.demux(video=0) if p.size}
    nbytes = VideoStream(path).packets.display("nbytes")  # of each picture, not of the packet it was packed into
    assert nbytes.tolist() == [sizes[pts] for pts in sorted(sizes)]


def test_an_interval_that_reports_damage_is_decoded_again_from_the_start(monkeypatch):
    """Without being given the first packet, decoders that start in the middle see damage that is none."""
    path = shared_clip("odd/yuv444_old_x264.mp4")
    monkeypatch.setattr(decode, "prime_decoder", lambda decoder, primers, known: known)
    assert_like_a_plain_decode(path, (1, 2, 4), samples=2)


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx265", "mp4", {"options": {"x265-params": "log-level=none:keyint=12"}}),
        ("libx264", "ts", {"gop": 10}),
        ("libx264", "mkv", {"gop": 10, "options": {"x264-params": "open-gop=1"}}),
        ("mpeg4", "avi", {"bframes": 2}),
        ("mpeg2video", "ts", {"interlaced": True}),
        ("libsvtav1", "mkv", {"gop": 16, "frames": 40}),
    ],
)
def test_results_do_not_depend_on_threads(tmp_path, codec, suffix, options):
    path = encode(tmp_path / f"clip.{suffix}", codec=codec, **{"frames": 60, **options})
    assert_like_a_plain_decode(path, (1, 2, 4))


def test_a_recording_that_begins_in_mid_stream_starts_with_its_first_picture(tmp_path):
    data = encode(tmp_path / "clip.ts", frames=60, gop=20).read_bytes()
    with av.open(str(tmp_path / "clip.ts")) as source, av.open(str(tmp_path / "late.ts"), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for place, packet in enumerate(p for p in source.demux(stream) if p.size):
            if place >= 10:
                packet.stream = copy
                out.mux(packet)
    assert data
    pictures = decoded(tmp_path / "late.ts")
    table = VideoStream(tmp_path / "late.ts").packets
    assert table.num_frames == len(pictures) < 50
    assert table.frame_seconds[0] == 0
    assert_like_a_plain_decode(tmp_path / "late.ts", (1, 2))


def test_sound_that_lasts_longer_cuts_nothing(tmp_path):
    path = odd_streams.with_sound(tmp_path / "long.mkv", frames=50, sound_seconds=9)
    assert_like_a_plain_decode(path, (1,))
    assert VideoStream(path).info.header_seconds == pytest.approx(2, abs=0.05)


def test_the_length_of_the_file_is_not_that_of_a_picture_with_sound(tmp_path):
    """FLV has one duration, of its longest stream: 9 s of sound say nothing of 2 s of pictures."""
    path = odd_streams.with_sound(tmp_path / "long.flv", frames=50, sound_seconds=9)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert container.duration / av.time_base == pytest.approx(9, abs=0.2)
        assert (video.duration, video.metadata.get("DURATION")) == (None, None)
    assert_like_a_plain_decode(path, (1,))  # any warning fails it
    assert VideoStream(path).info.header_seconds is None


def test_a_late_picture_says_by_how_much(tmp_path):
    path = odd_streams.with_sound(tmp_path / "late.mkv", frames=50, late_ms=3000, sound_seconds=5)
    video = VideoStream(path)
    assert video.info.delay_seconds == pytest.approx(3)
    assert video.packets.frame_seconds[-1] == pytest.approx(49 / 25)
    assert FrameTokenizer(4)(path).provenance["source"]["delay_seconds"] == pytest.approx(3)


class TestSamplingByTime:
    def test_frames_of_a_changing_rate_are_taken_by_the_clock(self, tmp_path):
        times = [500 * i for i in range(20)] + [10_000 + 33 * i for i in range(305)]
        path = encode(tmp_path / "rates.mp4", frames=325, size=(56, 56), times_ms=times)
        times = sorted(FrameTokenizer(64, target_fps=1)(path).frame_times.values())
        assert len(times) == 20
        assert sum(t < 10 for t in times) == 10
        assert max(np.diff(times)) <= 1.5

    def test_the_shared_file(self):
        times = sorted(FrameTokenizer(64, target_fps=1)(shared_clip("odd/rate_changes.mp4")).frame_times.values())
        assert len(times) == 20
        assert sum(t < 10 for t in times) == 10
        assert max(np.diff(times)) <= 1.5

    @pytest.mark.parametrize("count", [1, 7, 120, 333, 1001])
    @pytest.mark.parametrize("target", [1, 3, 8, 32, 100])
    @pytest.mark.parametrize("fps", [24, 25, 29.97, 60])
    def test_a_constant_rate_gives_the_frames_of_the_index(self, count, target, fps):
        seconds = np.round(np.arange(count) / fps, 3)  # milliseconds, as Matroska keeps them
        assert select_frames_by_time(seconds, target) == select_frame_indices(count, target)
