"""Every stage of ov2kit.codec on its own, and the whole beside bare decoding of the same clip.

    python -m pytest benchmarks/bench_codec.py --benchmark-only [-k "pipeline and bundled"]

Clips: the bundled one, and those of the folder that the tests use (OV2KIT_CLIPS). The rows of a group
"pipeline, CLIP" compare: bare PyAV decoding of all frames with right motion vectors, and tokenizers
at 32 canvases. Before each of their rounds bare decoding is timed once more, so that both meet the
same load; the ratio of the medians is printed at the end and kept in `extra_info`.
Made-up inputs have the size of one group of a 16:9 video: 32 frames, canvases of 280 x 504. Stages
run on one torch thread, as they do within the tokenizer beside its decoders.
"""

import math
import statistics
import time
from functools import partial

import av
import numpy as np
import pytest
import torch

from benchmarks._peers.looping import loop_clip
from benchmarks._peers.worker import BareDecode
from benchmarks.codec_inputs import (
    BUNDLED,
    CANVAS,
    CLIPS,
    FRAMES,
    GRID,
    HALF,
    LUMA,
    block_scores,
    clip_path,
    hour_of_packets,
    saliency_inputs,
    some_pictures,
    some_vectors,
)
from benchmarks.measure import synchronized
from benchmarks.run_info import run_info
from ov2kit.codec import (
    BitCostGrouping,
    ByteShareSaliency,
    CanvasPacker,
    CodecTokenizer,
    FrameTokenizer,
    MotionResidualSaliency,
    ReadinessGrouping,
    SaliencyBlockSelector,
    TopKBlockSelector,
    VideoStream,
    load_assets,
    save_assets,
)
from ov2kit.codec.report.page import write_report
from ov2kit.codec.signals.motion_grid import rasterize_motion
from ov2kit.codec.tokenizers.groups import packet_columns
from ov2kit.codec.tokenizers.presets import PRESETS
from ov2kit.codec.tokenizers.threads import one_torch_thread
from ov2kit.codec.video.pictures import PictureScaler

CANVASES = 32


@pytest.fixture(scope="module")
def hour(tmp_path_factory):
    """A file of one hour: its pictures are those of a short clip, again and again."""
    path = tmp_path_factory.mktemp("hour") / "hour.mp4"
    loop_clip(clip_path("nasa_streams.mp4"), path, 3600.0, 0)
    return str(path)


BARE = "bare decode"
WAYS = {
    BARE: None,
    "paper": lambda: CodecTokenizer(CANVASES),
    "release": lambda: CodecTokenizer(CANVASES, preset="release"),
    "frames": lambda: FrameTokenizer(CANVASES),
}
SALIENCY = {
    "paper": PRESETS["paper"]["saliency"],
    "paper, nearest": partial(PRESETS["paper"]["saliency"], sampling="nearest"),
    "paper, affine": partial(PRESETS["paper"]["saliency"], compensation="affine"),
    "paper, literal": partial(MotionResidualSaliency, weights=(1, 1), normalize="frame"),
    "release": PRESETS["release"]["saliency"],
}
SELECTORS = {"stratified": SaliencyBlockSelector, "topk": TopKBlockSelector}


@pytest.fixture(autouse=True)
def one_thread():
    with one_torch_thread():
        yield


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


@pytest.fixture(params=CLIPS)
def clip(request):
    return clip_path(request.param)


@pytest.fixture(scope="module")
def ratios(request):
    """Filled as {way: {clip: times bare decoding}}; printed when the module is done."""
    found = {}
    yield found
    plugins = request.config.pluginmanager
    reporter, capture = (plugins.get_plugin(name) for name in ("terminalreporter", "capturemanager"))
    if not found or reporter is None or capture is None:
        return
    with capture.global_and_fixture_disabled():
        reporter.section("times bare decoding", sep="-")
        for way, by_clip in found.items():
            each = ", ".join(f"{clip} {ratio:.2f}" for clip, ratio in by_clip.items())
            reporter.write_line(f"{way}: geometric mean {statistics.geometric_mean(by_clip.values()):.2f} ({each})")


# --- whole clips ----------------------------------------------------------------------------------


@pytest.mark.benchmark(group="packet table")
def bench_packet_table(benchmark, clip):
    """Opening, demuxing to the end, and one decoded picture: what `VideoStream(path)` does."""
    stream = benchmark.pedantic(VideoStream, args=(clip,), rounds=5, warmup_rounds=1)
    table = stream.packets
    benchmark.extra_info.update(run_info(), packets=len(table), seconds=table.duration_seconds)
    assert table.num_frames == BareDecode().run(str(clip), 0)["frames"]
    assert (np.diff(table.frame_seconds) >= 0).all()
    assert table.nbytes.min() > 0


@pytest.mark.benchmark(group="decode with vectors")
def bench_decode(benchmark, clip):
    """All frames as the tokenizer asks for them, but for RGB: luma, luma of the reference, vectors."""
    stream = VideoStream(clip)

    def step():
        seen = moving = 0
        for frame in stream.frames(rgb=False, luma_size=LUMA, reference=True, motion=True):
            seen += 1
            moving += frame.motion is not None
        return seen, moving, frame

    seen, moving, last = benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(run_info(), frames=seen, frames_with_vectors=moving, codec=stream.info.codec)
    assert seen == stream.num_frames
    assert last.luma.shape == LUMA
    assert (moving > 0) == stream.info.exports_motion


@pytest.mark.benchmark(group="rasterise vectors")
@pytest.mark.parametrize("cell", [8, 16])
def bench_rasterise(benchmark, clip, cell):
    vectors, owner, size = some_vectors(clip, FRAMES)
    frames = int(owner[-1]) + 1
    field = benchmark(rasterize_motion, vectors, owner, frames, size, cell)
    benchmark.extra_info.update(run_info(), frames=frames, vectors=len(vectors))
    assert field.shape == (frames, -(-size[0] // cell), -(-size[1] // cell), 2)
    longest = np.hypot(vectors["motion_x"].astype(float), vectors["motion_y"].astype(float)) / vectors["motion_scale"]
    assert float(field.nan_to_num().norm(dim=-1).max()) <= longest.max() + 1e-3
    assert field.isfinite().any()


@pytest.mark.parametrize("way", WAYS)
def bench_pipeline(benchmark, clip, way, ratios):
    bare, bare_seconds = BareDecode(), []

    def decode_bare():
        begin = time.perf_counter()
        facts = bare.run(str(clip), CANVASES)
        bare_seconds.append(time.perf_counter() - begin)
        return facts

    frames = decode_bare()["frames"]  # and the file is in the cache
    benchmark.group = f"pipeline, {clip.name}"
    if way == BARE:
        facts = benchmark.pedantic(bare.run, args=(str(clip), CANVASES), rounds=5)
        benchmark.extra_info.update(run_info(), **facts)
        assert facts["frames"] == frames == VideoStream(clip).num_frames
        return
    tokenizer = WAYS[way]()
    tokenizer(clip)
    bare_seconds.clear()
    canvases = benchmark.pedantic(tokenizer, args=(clip,), setup=lambda: decode_bare() and None, rounds=5)
    benchmark.extra_info.update(run_info(), signal=canvases.signal, stages=canvases.provenance["seconds"])
    if benchmark.stats is not None:  # None under --benchmark-disable
        ratio = benchmark.stats.stats.median / statistics.median(bare_seconds)
        benchmark.extra_info.update(bare_seconds=bare_seconds, times_bare_decode=ratio)
        ratios.setdefault(way, {})[clip.name] = ratio
    canvases.validate()
    assert 0.9 * min(CANVASES, frames) <= len(canvases) <= CANVASES
    assert canvases.provenance["preset"] == way


# --- stages on made-up inputs ---------------------------------------------------------------------


@pytest.mark.benchmark(group="grouping")
@pytest.mark.parametrize("what", ["demuxing", "all"])
def bench_hour_of_a_file(benchmark, what, hour):
    """One hour of H.264 in MP4, 90 000 packets: reading them by PyAV, and the first look with the groups found."""

    def demuxing():
        with av.open(hour) as container:
            return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))

    def grouped():
        with VideoStream(hour) as stream:
            groups = BitCostGrouping(32)(*packet_columns(stream.packets), max_groups=32)
            assert 29 <= len(groups) <= 32
            return len(stream.packets)

    packets = benchmark.pedantic(demuxing if what == "demuxing" else grouped, rounds=9, warmup_rounds=1)
    benchmark.extra_info.update(run_info(), packets=packets)
    assert packets >= 90_000


@pytest.mark.benchmark(group="grouping")
def bench_bitcost_hour(benchmark):
    """One hour, 90 000 packets, 32 groups at most: the whole search for quota and stretch."""
    seconds, nbytes, is_key = hour_of_packets()
    groups = benchmark(BitCostGrouping(32), seconds, nbytes, is_key, max_groups=32)
    benchmark.extra_info.update(run_info(), packets=len(seconds), groups=len(groups))
    assert 29 <= len(groups) <= 32
    assert torch.equal(groups[1:, 0], groups[:-1, 1])
    assert float(groups[0, 0]) == 0
    assert math.isclose(float(groups[-1, 1]), 3600)


@pytest.mark.benchmark(group="grouping")
@pytest.mark.parametrize("frames", [256, 1024])
def bench_readiness(benchmark, frames):
    """The frames of 32 and of 128 canvases."""
    scores = block_scores(frames)
    groups = benchmark(ReadinessGrouping().partition, scores, max_groups=frames // 32)
    benchmark.extra_info.update(run_info(), groups=len(groups))
    assert 1 <= len(groups) <= frames // 32
    assert torch.equal(groups[1:, 0], groups[:-1, 1])
    assert groups[[0, -1], [0, 1]].tolist() == [0, frames]


@pytest.mark.benchmark(group="saliency")
@pytest.mark.parametrize("size", [LUMA, HALF], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SALIENCY)
def bench_saliency(benchmark, name, size, device):
    inputs = saliency_inputs(size, device)
    saliency = SALIENCY[name]()
    if isinstance(saliency, ByteShareSaliency):
        del inputs["distance"]
    scores = benchmark(synchronized(lambda: saliency(grid=GRID, **inputs)))
    benchmark.extra_info.update(run_info(device), options=repr(saliency))
    assert scores.shape == (FRAMES, *GRID)
    assert scores.isfinite().all()
    assert not scores[0].any()  # no reference
    assert (scores[1:].flatten(1).sum(1) > 0).all()
    if isinstance(saliency, ByteShareSaliency):
        torch.testing.assert_close(scores[1:].flatten(1).sum(1), inputs["nbytes"][1:], rtol=1e-4, atol=0)
    else:
        most = size[0] * size[1] / (GRID[0] * GRID[1])  # pixels of a block, each at most 1
        nbytes = inputs["nbytes"] / inputs["nbytes"][1:].quantile(0.99)
        limits = most * (1 + saliency.bit_cost_weight * nbytes)[:, None, None]
        assert (scores <= 1.0001 * limits).all()


@pytest.mark.benchmark(group="select blocks")
@pytest.mark.parametrize("name", SELECTORS)
def bench_selector(benchmark, name, device):
    scores = block_scores(FRAMES, device)
    selector = SELECTORS[name](3)
    blocks = benchmark(synchronized(lambda: selector(scores, GRID[0] * GRID[1])))
    benchmark.extra_info.update(run_info(device))
    assert blocks.shape == (3 * GRID[0] * GRID[1], 3)
    assert len(blocks.unique(dim=0)) == len(blocks)
    assert int(blocks[:, 0].min()) > 0
    busy = torch.arange(1, FRAMES) % GRID[1]
    spots = {(t, GRID[0] // 2, int(c)) for t, c in zip(range(1, FRAMES), busy, strict=True)}
    assert spots <= {tuple(block) for block in blocks.tolist()}


@pytest.mark.benchmark(group="pack canvases")
@pytest.mark.parametrize("layout", ["planar", "interleaved"])
def bench_packer(benchmark, layout, device):
    frames = torch.randint(0, 256, (FRAMES, 3, *CANVAS), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if layout == "interleaved":
        frames = frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    frames = frames.to(device)
    indices = torch.arange(FRAMES, device=device)
    blocks = SaliencyBlockSelector(3)(block_scores(FRAMES, device))
    packer = CanvasPacker()
    images, positions, is_anchor = benchmark(synchronized(lambda: packer(frames, indices, 0, blocks)))
    benchmark.extra_info.update(run_info(device))
    assert images.shape == (4, 3, *CANVAS)
    assert torch.equal(images[0], frames[0])
    t, row, column = blocks[0].tolist()
    source = frames[t, :, 28 * row : 28 * row + 28, 28 * column : 28 * column + 28]
    assert torch.equal(images[1, :, :28, :28], source)
    assert positions[1, 0, 0].tolist() == [t, 2 * row, 2 * column]
    assert is_anchor.tolist() == [True, False, False, False]


@pytest.mark.benchmark(group="pictures, per 32")
@pytest.mark.parametrize("kind", ["rgb", "luma"])
def bench_pictures(benchmark, kind):
    """Decoded pictures to RGB at canvas size, and to luma at scoring size."""
    pictures, scaler, turn = some_pictures(clip_path(BUNDLED), FRAMES), PictureScaler(), _upright()
    size = CANVAS if kind == "rgb" else LUMA
    scale = getattr(scaler, kind)
    scaled = benchmark(lambda: [scale(picture, size, turn) for picture in pictures])
    benchmark.extra_info.update(run_info())
    assert len(scaled) == FRAMES
    assert scaled[0].shape == ((3, *size) if kind == "rgb" else size)
    middle = pictures[-1].to_ndarray(format="rgb24" if kind == "rgb" else "gray").mean()
    assert abs(float(scaled[-1].mean()) - middle) < 3


# --- results --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result():
    return CodecTokenizer(CANVASES)(clip_path(BUNDLED))


@pytest.mark.benchmark(group="assets, 32 canvases")
@pytest.mark.parametrize("kind", ["png", "npy", "jpg"])
@pytest.mark.parametrize("direction", ["save", "load"])
def bench_assets(benchmark, result, kind, direction, tmp_path):
    def save():
        return save_assets(result, tmp_path / "assets", kind, overwrite=True)

    folder = save()
    if direction == "save":
        assert benchmark.pedantic(save, rounds=5, warmup_rounds=1) == folder
        loaded = load_assets(folder)
    else:
        loaded = benchmark.pedantic(load_assets, args=(folder,), rounds=5, warmup_rounds=1)
    size = sum(file.stat().st_size for file in folder.iterdir())
    benchmark.extra_info.update(run_info(), bytes=size)
    assert torch.equal(loaded.positions, result.positions)
    assert torch.equal(loaded.images, result.images) == (kind != "jpg")


@pytest.mark.benchmark(group="report page")
def bench_report(benchmark, result, tmp_path):
    stream = VideoStream(clip_path(BUNDLED))
    target = tmp_path / "report.html"
    benchmark.pedantic(write_report, args=(target, stream, result), rounds=3, warmup_rounds=1)
    page = target.read_text(encoding="utf-8")
    benchmark.extra_info.update(run_info(), bytes=len(page))
    assert page.rstrip().endswith("</html>")
    assert page.count("<img") >= CANVASES


def _upright():
    return VideoStream(clip_path(BUNDLED)).info.orientation
