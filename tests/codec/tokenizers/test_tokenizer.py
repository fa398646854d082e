"""CodecTokenizer on real clips: the right pixels, the right places, within the budget, every time."""

import io
import math
import warnings

import av
import numpy as np
import pytest
import torch

from ov2kit import Canvases
from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer, MotionResidualSaliency, VideoStream
from ov2kit.errors import BudgetError, OptionError, VideoError
from tests.clips import decoded, encode, shared_clip
from tests.paths import SAMPLE

av.logging.set_level(None)

REAL = [
    "bbb_360p.mp4", "bbb_720p.mp4", "bbb_bframes.mp4", "bbb_cut.mp4", "bbb_mpeg4.mp4", "bbb_vp9.webm", "bbb_vp8.webm",
    "bottles.mp4", "camera_mjpeg.avi", "nasa_hevc10.mp4", "nasa_streams.mp4", "pattern_av1.mkv",
]  # fmt: skip


def assert_every_block_is_its_source(canvases: Canvases, pictures: list[np.ndarray]) -> None:
    """Compare each patch with the same patch of an independently decoded frame."""
    canvases.validate()
    p = canvases.patch
    rows, columns = canvases.grid
    source = np.stack(pictures)
    patches = source.reshape(len(source), rows, p, columns, p, 3).swapaxes(2, 3)  # (T, rows, columns, p, p, 3)
    t, h, w = canvases.positions.numpy().reshape(-1, 3).T
    got = canvases.images.numpy().reshape(-1, 3, rows, p, columns, p).transpose(0, 2, 4, 3, 5, 1)
    assert np.array_equal(got.reshape(-1, p, p, 3), patches[t, h, w])


@pytest.mark.parametrize("preset", ["paper", "release", "event"])
@pytest.mark.parametrize("name", REAL)
def test_every_canvas_block_equals_its_source_frame(name, preset):
    path = SAMPLE if name == "bbb_360p.mp4" else shared_clip(name)
    canvases = CodecTokenizer(budget_canvases=8, preset=preset)(path)
    size = (int(canvases.images.shape[2]), int(canvases.images.shape[3]))
    pictures = decoded(path, size)
    assert_every_block_is_its_source(canvases, pictures)
    assert len(canvases) == 8
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_type = "NONE"
        times = [frame.time for frame in container.decode(stream)]
    for frame, seconds in canvases.frame_times.items():
        assert seconds == pytest.approx(times[frame] - times[0], abs=1e-6)


class TestBudget:
    @pytest.mark.parametrize("preset", ["paper", "release", "event"])
    @pytest.mark.parametrize("budget", [1, 2, 3, 4, 5, 7, 8, 13, 16, 32, 40])
    def test_canvases_are_never_more_and_at_least_nine_tenths(self, budget, preset):
        canvases = CodecTokenizer(budget_canvases=budget, preset=preset, max_pixels=20_000)(SAMPLE)
        assert 0.9 * budget <= len(canvases) <= budget
        assert (canvases.positions >= 0).all()

    @pytest.mark.parametrize("budget", [5, 50, 181, 300, 500, 1000, 3333])
    def test_tokens_are_never_more_and_at_least_nine_tenths(self, budget):
        for tokenizer in (CodecTokenizer(budget_tokens=budget), FrameTokenizer(budget_tokens=budget)):
            tokens = tokenizer(SAMPLE).num_tokens
            assert 0.9 * budget <= tokens <= budget

    @pytest.mark.parametrize("frames", [1, 2, 3, 4, 6, 9])
    def test_a_video_of_few_frames_gives_each_of_them_once(self, tmp_path, frames):
        path = encode(tmp_path / "short.mp4", frames=frames)
        canvases = CodecTokenizer(budget_canvases=32)(path)
        assert len(canvases) == frames
        places = canvases.flat_positions()
        assert len(torch.unique(places, dim=0)) == len(places) == frames * canvases.grid[0] * canvases.grid[1]

    def test_an_hour_keeps_the_budget_and_looks_at_few_frames(self, tmp_path):
        path = tmp_path / "hour.mkv"
        loop_by_stream_copy(SAMPLE, path, seconds=3600)
        stream = VideoStream(path)
        assert stream.duration_seconds > 3600
        canvases = CodecTokenizer(budget_canvases=24, max_pixels=20_000)(stream).validate()
        assert len(canvases) == 24
        times = [canvases.frame_times[t] for t in canvases.positions[:, 0, 0, 0].tolist()]
        assert times[0] == 0
        assert max(times) > 3000

    def test_impossible_budgets_are_refused(self):
        with pytest.raises(BudgetError, match=r"at least 1, got 0"):
            CodecTokenizer(budget_canvases=0)(SAMPLE)
        with pytest.raises(BudgetError, match=r"280 x 504 pixels is 180 tokens, more than budget_tokens=100"):
            CodecTokenizer(budget_tokens=100, canvas_size=(280, 504))(SAMPLE)
        with pytest.raises(BudgetError, match=r"multiples of patch \* merge = 28"):
            CodecTokenizer(canvas_size=(281, 504))(SAMPLE)
        with pytest.raises(BudgetError, match="one of budget_canvases and budget_tokens"):
            CodecTokenizer(budget_canvases=4, budget_tokens=100)(SAMPLE)


def loop_by_stream_copy(source, target, seconds):
    """Repeat a clip without encoding it again."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in container.demux(stream) if p.size]
        step = 132 * 512
        with av.open(str(target), "w") as out:
            copy = out.add_stream_from_template(stream)
            for turn in range(int(seconds / 5.28) + 1):
                for data, pts, dts, key in packets:
                    packet = av.Packet(data)
                    packet.pts, packet.dts, packet.time_base = pts + turn * step, dts + turn * step, stream.time_base
                    packet.is_keyframe = key
                    packet.stream = copy
                    out.mux(packet)


def same(a: Canvases, b: Canvases) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("images", "positions", "groups", "is_anchor"))


@pytest.mark.parametrize("preset", ["paper", "release", "event"])
def test_same_input_same_bits_whatever_the_threads(preset):
    results = [CodecTokenizer(16, preset=preset, threads=n)(SAMPLE) for n in (1, 2, 3, 2)]
    results.append(CodecTokenizer(16, preset=preset)(SAMPLE.read_bytes()))
    results.append(CodecTokenizer(16, preset=preset)(io.BytesIO(SAMPLE.read_bytes())))
    assert all(same(results[0], other) and other.frame_times == results[0].frame_times for other in results[1:])


@pytest.mark.parametrize("preset", ["paper", "release"])
def test_large_pictures_are_scaled_at_once_and_give_the_same_canvases(preset, monkeypatch):
    asked = []

    class Seen(VideoStream):
        def requested(self, indices, request):
            asked.append((request.picture, request.rgb))
            return super().requested(indices, request)

    tokenizer = CodecTokenizer(budget_canvases=8, preset=preset, max_pixels=30_000)
    small = tokenizer(Seen(SAMPLE))
    for limit in ("_MOST_BYTES_OF_PICTURE", "_MOST_BYTES_COMPILED"):
        monkeypatch.setattr(f"ov2kit.codec.tokenizers.scored.{limit}", 360 * 640)
    large = tokenizer(Seen(SAMPLE))
    assert asked == [(True, False), (False, True)]
    assert torch.equal(small.images, large.images)
    assert torch.equal(small.positions, large.positions)


def test_selection_prefers_what_moves(tmp_path):
    """A square that moves before a still background: most chosen blocks touch the square."""
    path = tmp_path / "square.mp4"
    rng = np.random.default_rng(0)
    background = rng.integers(60, 190, (224, 224, 1), dtype=np.uint8).repeat(3, 2)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.height = stream.width = 224
        stream.pix_fmt = "yuv420p"
        for t in range(50):
            picture = background.copy()
            picture[84:126, 3 * t : 3 * t + 42] = rng.integers(0, 255, (42, 42, 1), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = t
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    canvases = CodecTokenizer(budget_canvases=4, canvas_size=(224, 224))(path)
    chosen = canvases.flat_positions()[::4][~canvases.is_anchor.repeat_interleave(64)]
    pixels = chosen[:, 1:] * 14
    touches = (pixels[:, 0] > 84 - 28) & (pixels[:, 0] < 126) & (pixels[:, 1] > 3 * chosen[:, 0] - 34)
    touches &= pixels[:, 1] < 3 * chosen[:, 0] + 48
    rows_of_square = touches.float().mean()
    assert rows_of_square > 0.45  # by chance it would be under 0.15


class TestOptions:
    @pytest.mark.parametrize("grouping", ["bitcost", "readiness", "fixed", "container"])
    @pytest.mark.parametrize("selection", ["stratified", "topk"])
    def test_every_grouping_with_every_selection(self, grouping, selection):
        canvases = CodecTokenizer(16, grouping=grouping, selection=selection, max_pixels=20_000)(SAMPLE).validate()
        assert 0.9 * 16 <= len(canvases) <= 16

    @pytest.mark.parametrize("candidates", ["bitcost", "uniform", "all"])
    @pytest.mark.parametrize("anchor", ["first", "mid", "keyframe", "sharpest"])
    def test_candidates_and_anchors(self, candidates, anchor):
        canvases = CodecTokenizer(8, candidates=candidates, anchor=anchor, max_pixels=20_000)(SAMPLE).validate()
        groups = canvases.provenance["groups"]
        anchors = canvases.positions[canvases.is_anchor][:, 0, 0, 0].tolist()
        assert anchors == [group["anchor"] for group in groups]
        starts = [group["frames"][0] for group in groups]
        if anchor == "first":
            assert anchors == starts
        if anchor == "mid":
            assert anchors == [sum(group["frames"]) // 2 for group in groups]

    @pytest.mark.parametrize("motion", ["auto", "stream", "estimate", "none"])
    def test_signal_is_told(self, motion):
        canvases = CodecTokenizer(4, motion=motion)(SAMPLE)
        expected = "luma" if motion == "none" else "motion+residual"
        assert canvases.signal == canvases.provenance["signal"]["used"] == expected

    @pytest.mark.parametrize(("motion", "signal"), [("auto", "luma"), ("estimate", "estimated motion+residual")])
    def test_codecs_without_vectors_are_a_normal_state(self, tmp_path, motion, signal):
        path = encode(tmp_path / "clip.webm", codec="libvpx", frames=20)
        canvases = CodecTokenizer(4, motion=motion)(path).validate()
        assert canvases.signal == signal
        assert canvases.provenance["signal"]["decoder_exports_motion"] is False

    @pytest.mark.parametrize("normalize", ["frame", "group", "clip"])
    @pytest.mark.parametrize("compensation", ["none", "mean", "median", "affine"])
    def test_saliency_options_reach_the_blocks(self, normalize, compensation):
        saliency = MotionResidualSaliency(compensation, normalize=normalize, bit_cost_weight=1.0)
        assert len(CodecTokenizer(8, saliency=saliency, max_pixels=20_000)(SAMPLE).validate()) == 8

    @pytest.mark.parametrize(("patch", "merge", "block"), [(14, 2, 2), (14, 1, 1), (16, 2, 1), (7, 3, 2), (8, 4, 1)])
    def test_patch_merge_and_block_size(self, patch, merge, block):
        canvases = CodecTokenizer(8, patch=patch, merge=merge, block=block)(SAMPLE).validate()
        size = (int(canvases.images.shape[2]), int(canvases.images.shape[3]))
        assert_every_block_is_its_source(canvases, decoded(SAMPLE, size))
        assert canvases.pixel_values().shape[1] == 3 * patch * patch
        if block > 1:  # chosen blocks come whole: all their tokens are of one frame
            side = merge * block
            corners = canvases.positions[:, ::side, ::side, 0]
            counts = torch.stack(
                [(canvases.positions[~canvases.is_anchor][..., 0] == t).sum() for t in corners.unique()]
            )
            assert (counts % (side * side) == 0).all()

    def test_external_maps_win_and_choose_where_they_say(self):
        maps = {}
        for t in range(132):
            maps[t] = np.zeros((23, 40), dtype=np.float32)
            maps[t][2:10, 26:40] = 1000  # macroblocks of the upper right
        canvases = CodecTokenizer(4, preset="release")(SAMPLE, score_maps=maps)
        assert canvases.signal == "external"
        rows, columns = canvases.grid
        chosen = canvases.flat_positions()[canvases.is_anchor.logical_not().repeat_interleave(rows * columns)]
        upper_right = (chosen[:, 1] < rows * 0.5) & (chosen[:, 2] >= columns * 0.6)
        assert upper_right.all()

    def test_maps_of_some_frames_make_only_those_candidates(self):
        maps = {t: np.random.default_rng(t).random((12, 20)) for t in range(3, 132, 7)}
        canvases = CodecTokenizer(8, map_kind="scores")(SAMPLE, score_maps=maps)
        chosen = set(canvases.positions[~canvases.is_anchor][..., 0].unique().tolist())
        assert chosen <= set(maps)

    @pytest.mark.parametrize(
        ("preset", "message"),
        [
            ("paper", "score_maps cover 5 of 132 frames, which fills [2-7] of 8 canvases"),
            ("release", "score_maps cover [1-5] of 64 frames, which fills [1-5] of 8 canvases"),
        ],
    )
    def test_maps_of_too_few_frames_are_counted(self, preset, message):
        maps = {t: np.ones((23, 40)) for t in (2, 33, 64, 96, 131)}
        with pytest.raises(OptionError, match=message):
            CodecTokenizer(8, preset=preset)(SAMPLE, score_maps=maps)

    def test_readiness_without_a_map_of_its_frames_says_so(self):
        with pytest.raises(ValueError, match=r"none of them has one.*grouping='bitcost'"):
            CodecTokenizer(8, preset="release")(SAMPLE, score_maps={5: np.ones((23, 40))})
        with pytest.raises(ValueError, match="frame 0 holds NaN"):
            CodecTokenizer(8)(SAMPLE, score_maps=np.full((132, 23, 40), np.nan))

    def test_readiness_honours_the_anchor_and_tells_its_candidates(self):
        canvases = CodecTokenizer(8, preset="release", anchor="mid")(SAMPLE).validate()
        for group in canvases.provenance["groups"]:
            assert group["frames"][0] < group["anchor"] < group["frames"][1] - 1
        told = CodecTokenizer(8, grouping="readiness")(SAMPLE).provenance["options"]
        assert (told["candidates"], told["map_kind"], told["resize_rule"]) == ("uniform", "bits", "image")

    def test_unknown_options_are_named(self):
        with pytest.raises(ValueError, match=r"unknown preset 'papers'; known: paper, release"):
            CodecTokenizer(preset="papers")
        with pytest.raises(ValueError, match=r"unknown grouping 'gop'"):
            CodecTokenizer(grouping="gop")
        with pytest.raises(ValueError, match=r"unknown motion 'fast'"):
            CodecTokenizer(motion="fast")
        with pytest.raises(ValueError, match=r"canvases_per_group must be at least 2, got 1"):
            CodecTokenizer(canvases_per_group=1)
        for options, message in (
            ({"selection": "startified"}, "unknown selection 'startified'; .*; did you mean 'stratified'"),
            ({"candidates": "bitcots"}, "unknown candidates 'bitcots'; .*; did you mean 'bitcost'"),
            ({"anchor": "midle"}, "unknown anchor 'midle'; .*; did you mean 'mid'"),
            ({"rank_damping": math.nan}, "rank_damping must be a finite number, got nan"),
            ({"canvases_per_group": math.nan}, "canvases_per_group must be a whole number, at least 2, got nan"),
            ({"min_seconds": 7.0}, "min_seconds must not be greater than max_seconds, got .*7.0.*6.0"),
            ({"max_pixels": 0}, "max_pixels must be at least 1, got 0"),
            ({"canvas_size": 224}, "canvas_size must be a sequence of 2 numbers, got 224"),
        ):
            with pytest.raises(OptionError if "canvas_size" not in options else BudgetError, match=message):
                CodecTokenizer(**options)


class TestProvenance:
    def test_tells_what_ran(self):
        canvases = CodecTokenizer(8)(SAMPLE)
        made = canvases.provenance
        assert (made["preset"], made["codec"], made["signal"]["used"]) == ("paper", "h264", "motion+residual")
        assert set(made["seconds"]) == {"packets", "group", "decode", "score", "select", "pack"}
        assert made["versions"]["av"] == av.__version__
        assert made["source"]["frames"] == 132
        assert made["lost"]["missing_frames"] == 0
        assert made["options"]["rank_damping"] == 0.35
        assert sum(group["canvases"] for group in made["groups"]) == 8

    def test_survives_a_round_trip(self, tmp_path):
        canvases = CodecTokenizer(4)(SAMPLE)
        canvases.save(tmp_path)
        loaded = Canvases.load(tmp_path)
        assert same(canvases, loaded)
        assert loaded.provenance == canvases.provenance
        assert loaded.frame_times == canvases.frame_times

    def test_losses_of_a_cut_file_are_kept(self, tmp_path):
        data = SAMPLE.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            canvases = CodecTokenizer(16)(tmp_path / "cut.mp4").validate()
        assert canvases.provenance["lost"]["cut"]
        assert any("cut.mp4" in str(w.message) for w in caught)


class TestFramesAndImages:
    def test_frames_and_canvases_share_one_form(self):
        frames = FrameTokenizer(12)(SAMPLE).validate()
        assert len(frames) == 12
        assert frames.is_anchor.all()
        assert frames.segments().lengths == (2880, 2880, 2880)
        assert FrameTokenizer(12, group=1)(SAMPLE).segments().lengths == (720,) * 12
        pictures = decoded(SAMPLE, (280, 504))
        assert_every_block_is_its_source(frames, pictures)

    def test_frame_count_follows_the_release_without_a_budget(self):
        assert len(FrameTokenizer()(SAMPLE)) == 8  # under 10 s
        assert len(FrameTokenizer(100, target_fps=2)(SAMPLE)) == 10

    def test_images_from_every_kind_of_input(self, tmp_path):
        from PIL import Image

        pixels = decoded(SAMPLE)[0]
        picture = Image.fromarray(pixels)
        picture.save(tmp_path / "photo.png")
        inputs = [
            tmp_path / "photo.png", str(tmp_path / "photo.png"), (tmp_path / "photo.png").read_bytes(), picture, pixels,
            torch.from_numpy(pixels).permute(2, 0, 1),
        ]  # fmt: skip
        results = [ImageTokenizer()(each).validate() for each in inputs]
        assert all(same(results[0], other) for other in results[1:])
        assert results[0].images.shape == (1, 3, 280, 504)
        assert ImageTokenizer(budget_tokens=40)(picture).num_tokens in range(36, 41)
        with pytest.raises(VideoError, match="not a picture"):
            ImageTokenizer()(SAMPLE)
        with pytest.raises(VideoError, match="no such file"):
            ImageTokenizer()(tmp_path / "none.png")
