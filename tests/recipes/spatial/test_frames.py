"""Frames by number: the ones that FFmpeg's own filter picks, in any order, few of them held."""

import gc
import threading

import av
import numpy as np
import pytest
from PIL import Image

from ov2kit.errors import DataError
from ov2kit.recipes.spatial.frames import FolderFrames, VideoFrames
from tests.clips import encode
from tests.paths import SAMPLE


def filtered(path, fps):
    """Frames that FFmpeg's `fps` filter lets through, as numbers of the decoder's output."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream)
        nodes = [source, graph.add("fps", f"fps={fps}"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        pictures, shown = [], []
        for frame in container.decode(stream):
            pictures.append(frame.to_ndarray(format="rgb24"))
            graph.push(frame)
            shown += _pull(graph)
        graph.push(None)
        shown += _pull(graph)
    return [next(k for k, picture in enumerate(pictures) if (picture == one).all()) for one in shown]


def _pull(graph):
    found = []
    while True:
        try:
            found.append(graph.pull().to_ndarray(format="rgb24"))
        except (av.error.BlockingIOError, av.error.EOFError):
            return found


@pytest.mark.parametrize(("rate", "frames"), [(25, 33), (24, 24), (30, 41), (6, 9), (10, 7)])
def test_frames_at_a_rate_are_those_that_ffmpeg_lets_through(rate, frames, tmp_path):
    path = encode(
        tmp_path / "clip.mp4", frames=frames, fps=rate, times_ms=[round(1000 * k / rate) for k in range(frames)]
    )
    expected = filtered(path, 6)
    ours = list(VideoFrames(path).source_frames)
    assert ours[: len(expected)] == expected[: len(ours)]
    assert abs(len(ours) - len(expected)) <= 1  # the filter knows only where the last frame starts


def test_any_order_gives_the_pictures_of_one_pass():
    frames = VideoFrames(SAMPLE, fps=6, keep=4)
    once = [frames[k].copy() for k in range(len(frames))]
    for number in [5, 4, 3, 9, 0, len(frames) - 1, 2, 2, 8]:
        assert (frames[number] == once[number]).all(), number
    assert len(frames._held) <= 4
    assert frames.size == once[0].shape[:2]
    assert frames.seconds[3] == 0.5


def test_reading_in_order_decodes_once_and_backwards_a_stretch_at_a_time(monkeypatch):
    frames = VideoFrames(SAMPLE, fps=6, keep=8)
    passes = []
    read = frames._stream.frames
    monkeypatch.setattr(frames._stream, "frames", lambda wanted: passes.append(wanted[0]) or read(wanted))
    for number in range(len(frames)):
        assert frames[number].shape == (*frames.size, 3)
    assert len(passes) == 1
    for number in reversed(range(len(frames))):
        assert frames[number].shape == (*frames.size, 3)
    assert len(passes) <= 1 + -(-len(frames) // 8)


def test_what_is_left_half_way_ends_its_threads_at_once():
    before = set(threading.enumerate())
    gc.disable()
    try:
        frames = VideoFrames(SAMPLE)
        assert frames[2].shape == (*frames.size, 3)
        assert set(threading.enumerate()) - before
        del frames
        assert not set(threading.enumerate()) - before
    finally:
        gc.enable()


def test_a_folder_of_pictures(tmp_path):
    for k in range(3):
        Image.fromarray(np.full((6, 8, 3), 40 * k, dtype=np.uint8)).save(tmp_path / f"{k:05d}.png")
    frames = FolderFrames(sorted(tmp_path.glob("*.png")))
    assert (len(frames), frames.size, int(frames[2].max())) == (3, (6, 8), 80)
    (tmp_path / "00001.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"00001\.png: not a readable picture"):
        frames[1]
    with pytest.raises(DataError, match="2 of 3 are missing"):
        FolderFrames([tmp_path / "00000.png", tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(DataError, match="at least one picture"):
        FolderFrames([])


def test_a_number_outside_is_refused():
    frames = VideoFrames(SAMPLE)
    with pytest.raises(IndexError, match=f"frame {len(frames)} is outside"):
        frames[len(frames)]
    for fps in (0, 1e9, 1e-4, float("nan")):
        with pytest.raises(ValueError, match=r"fps must be (from 0\.01 to 1000|a finite number)"):
            VideoFrames(SAMPLE, fps=fps)
