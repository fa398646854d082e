"""The arithmetic of the benchmarks beside other tools: what is reported must be what was measured."""

import math
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks._peers.agreement import cells, compare
from benchmarks._peers.environments import PeerUnavailableError, check_machine
from benchmarks._peers.looping import loop_clip
from benchmarks._peers.process import Worker, WorkerError
from benchmarks._peers.tables import geometric_mean, off_budget, speed_table, verdicts
from benchmarks._peers.truth import Truth, block_bits, overlap_of_best
from benchmarks._peers.worker import Floor
from ov2kit.codec import CodecTokenizer
from tests.paths import SAMPLE
from tests.patience import PATIENCE


def draw(rng: np.random.Generator, counts: np.ndarray, area: int) -> np.ndarray:
    """Within each bin, `counts` cells at random -> (bins, 1, area)."""
    rank = rng.random((len(counts), area)).argsort(1).argsort(1)
    return (rank < counts[:, None])[:, None, :]


def test_chance_is_what_random_blocks_reach():
    rng = np.random.default_rng(1)
    in_a, in_b = rng.integers(0, 40, 12), rng.integers(0, 40, 12)
    expected = compare(draw(rng, in_a, 60), draw(rng, in_b, 60))
    timed, free = [], []
    for _ in range(300):
        other = draw(rng, in_b, 60)
        timed.append(compare(draw(rng, in_a, 60), other).recall)
        anywhere = rng.permutation(np.arange(720) < in_a.sum()).reshape(12, 1, 60)
        free.append(compare(anywhere, other).recall)
    assert np.mean(timed) == pytest.approx(expected.recall_timed, abs=0.01)
    assert np.mean(free) == pytest.approx(expected.recall_random, abs=0.01)


def test_the_floor_decodes_every_frame_that_the_tokenizer_scores():
    groups = CodecTokenizer(budget_canvases=4, max_pixels=20_000)(SAMPLE).provenance["groups"]
    scored = sum(group["candidates"] for group in groups)
    assert scored == 32  # 8 to a canvas; none of this clip is lost
    assert Floor(1).run(str(SAMPLE), 4) == {"frames": scored}


def test_agreement_of_a_choice_with_itself_and_with_its_complement():
    rng = np.random.default_rng(2)
    a = rng.random((8, 5, 7)) < 0.3
    same = compare(a, a)
    assert same.jaccard == same.recall == same.time == same.space == 1.0
    assert compare(a, ~a).recall == 0.0


def test_agreement_tells_time_from_space():
    # the same counts in every bin, but other places: all agreement is in time
    a, b = np.zeros((4, 1, 10), dtype=bool), np.zeros((4, 1, 10), dtype=bool)
    for t, n in enumerate((1, 2, 3, 4)):
        a[t, 0, :n], b[t, 0, 5 : 5 + n] = True, True
    found = compare(a, b)
    assert (found.time, found.space, found.recall) == (1.0, 0.0, 0.0)
    assert found.space_random == pytest.approx((1 + 4 + 9 + 16) / 10 / 10)


def test_cells_follow_times_and_centers():
    times = np.array([0.0, 0.1, 0.2, 0.9, 1.0])  # uneven: index / fps would say otherwise
    blocks = np.array([[0, 0, 0], [2, 3, 5], [3, 1, 2], [4, 3, 0]])
    found = cells(blocks, np.array([4, 6]), times, (2, 3), 0.5)
    assert found.shape == (3, 2, 3)
    assert [tuple(int(i) for i in c) for c in np.argwhere(found)] == [(0, 0, 0), (0, 1, 2), (1, 0, 1), (2, 1, 0)]


def test_loop_is_one_long_video(tmp_path):
    out = tmp_path / "long.mp4"
    packets, seconds = loop_clip(SAMPLE, out, 20.0)
    with av.open(str(SAMPLE)) as container:
        once = [frame.time for frame in container.decode(video=0)]
    with av.open(str(out)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert len(times) == packets == 4 * len(once)
    assert seconds >= 20
    assert seconds == pytest.approx(times[-1] + 0.04, abs=1e-6)
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-4)


def test_worker_measures_and_reports_failure(tmp_path):
    worker = Worker("decode", Path(sys.executable), timeout_seconds=PATIENCE)
    try:
        reply = worker.ask(do="run", clip=str(SAMPLE), canvases=4)
        assert (reply["frames"], reply["codec"], reply["size"]) == (132, "h264", [640, 360])
        assert 0 < reply["seconds"] < 60
        worker.ask(do="choice", path=str(tmp_path / "times.npz"))
        times = np.load(tmp_path / "times.npz")["times"]
        assert len(times) == 132
        assert (np.diff(times) > 0).all()
        assert 10 < worker.ask(do="memory")["peak_mb"] < 2000
        with pytest.raises(WorkerError, match=r"missing\.mp4"):
            worker.ask(do="run", clip="/nowhere/missing.mp4", canvases=4)
        assert worker.ask(do="run", clip=str(SAMPLE), canvases=4)["frames"] == 132
    finally:
        worker.close()


def test_worker_that_cannot_start_says_why():
    with pytest.raises(WorkerError, match="no_such_method"):
        Worker("no_such_method", Path(sys.executable), timeout_seconds=PATIENCE)


def test_missing_program_is_named(monkeypatch):
    monkeypatch.setattr("benchmarks._peers.environments.sys.platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(PeerUnavailableError, match=r"ffmpeg and ffprobe.*apt-get install ffmpeg"):
        check_machine("codec-video-prep")


def test_ratios_means_and_losses():
    def clip(name: str, **seconds: float) -> dict[str, object]:
        methods = {m.replace("_", "-"): {"median_seconds": s, "peak_mb": 1.0} for m, s in seconds.items()}
        return {"name": name, "stream": "?", "methods": methods}

    clips = [
        clip("a", ours=1.0, decode=0.5, codec_video_prep=8.0),
        clip("b", ours=2.0, decode=2.0, codec_video_prep=1.0),
    ]
    assert geometric_mean([8.0, 0.5]) == pytest.approx(2.0)
    assert math.isnan(geometric_mean([]))
    text = verdicts(clips)
    for words in (
        "2.00 x the speed of codec-video-prep",
        "1 won, 1 lost",
        "not reached",
        "1.41 x the time of bare",
    ):
        assert words in text
    clips[0]["methods"]["ours"]["canvases"], clips[1]["methods"]["codec-video-prep"]["canvases"] = 32, 52
    assert off_budget(clips, 32) == "Canvases made, where not 32: codec-video-prep 52 on b."
    assert "| a | ? | 1.00 (1) | 0.50 (1) | 8.00 (1) | 8.00 | 2.00 |" in speed_table(
        clips, ["ours", "decode", "codec-video-prep"]
    )


def test_block_bits_keep_every_bit_and_its_place():
    rng = np.random.default_rng(3)
    truth = Truth(rng.integers(0, 500, (2, 23, 40)), np.array(["P", "P"]), (360, 640))
    spent = block_bits(truth, (280, 504), (10, 18))
    np.testing.assert_allclose(spent.sum((1, 2)), truth.bits.sum((1, 2)))
    single = np.zeros((1, 23, 40), dtype=np.int64)
    single[0, 22, 39] = 100  # the last row of macroblocks shows 8 of its 16 lines
    assert block_bits(Truth(single, np.array(["P"]), (360, 640)), (280, 504), (10, 18))[0, 9, 17] == pytest.approx(100)


def test_overlap_of_best_by_hand():
    truth = np.arange(40, dtype=float).reshape(4, 2, 5)
    counted = np.ones(4, dtype=bool)
    assert overlap_of_best(truth, truth, counted, window=4) == 1.0
    assert overlap_of_best(-truth, truth, counted, window=4) == 0.0
    half = truth.copy()
    half[3, 1, 1:3] = 1000  # 36 and 37 are true, two of the four chosen
    half[3, 1, 3:] = -1
    half[0, 0, :2] = 1000
    assert overlap_of_best(half, truth, counted, window=4) == 0.5
    counted[3] = False  # without the last frame the best are elsewhere
    assert overlap_of_best(truth, truth, counted, window=4) == 1.0
