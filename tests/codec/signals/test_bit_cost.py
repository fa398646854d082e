"""The estimated bit-cost map: sums, streaming, grids, agreement with stored truth, the file of coefficients.

golden/bit_cost_truth.npz holds bits per macroblock of the bundled clip's first 40 frames as codec-video-prep
0.2.5's patched decoder tells them, and the bits of their packets; benchmarks/_bitcost/export_blocks.py wrote it.
"""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from ov2kit.codec import BitCostMap, CodecTokenizer, ExternalMapScorer, VideoStream
from ov2kit.codec.signals.bit_cost import COEFFICIENTS, bits_on_grid, mean_on_grid
from ov2kit.codec.signals.macroblock_inputs import macroblock_luma_size, macroblock_signals
from ov2kit.codec.signals.macroblocks import NUM_FRAME_FEATURES, NUM_MACROBLOCK_FEATURES, macroblock_features
from tests.clips import encode, shared_clip
from tests.paths import SAMPLE, read_golden

TRUTH = "bit_cost_truth.npz"
FRAMES = 40


def decoded(clip, indices, **more):
    stream = VideoStream(clip)
    size = macroblock_luma_size(stream.info.coded_size)
    options = {"rgb": False, "luma_size": size, "reference": True, "motion": True, "quantizer": True, "as_coded": True}
    return stream, list(stream.frames(indices, **options | more))


@pytest.fixture(scope="module")
def sample():
    return decoded(SAMPLE, range(FRAMES))


@pytest.fixture(scope="module")
def maps():
    return dict(VideoStream(SAMPLE).bit_cost_maps(range(FRAMES)))


@pytest.fixture(scope="module")
def truth():
    data = read_golden(TRUTH)
    return data["bits"].astype(np.float32), data["packet_bits"], data["kinds"]


def log_correlation(a, b):
    return np.corrcoef(np.log1p(a).ravel(), np.log1p(b).ravel())[0, 1]


def best(bits, share=0.1):
    """Places of the best areas of 2 x 2 macroblocks, re-derived with numpy alone."""
    frames, rows, cols = bits.shape
    padded = np.zeros((frames, rows + rows % 2, cols + cols % 2))
    padded[:, :rows, :cols] = bits
    areas = padded.reshape(frames, padded.shape[1] // 2, 2, -1, 2).sum((2, 4)).ravel()
    return set(np.argsort(-areas, kind="stable")[: round(share * len(areas))].tolist())


def test_map_sums_to_packet_exactly(maps):
    nbytes = VideoStream(SAMPLE).packets.display("nbytes")
    for index, bits in maps.items():
        assert bits.dtype == torch.float32
        assert bits.shape == (23, 40)  # 360 x 640: the last row of macroblocks is half outside
        assert (bits >= 0).all()
        assert bits.double().sum().item() == 8 * int(nbytes[index])


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libvpx-vp9", "mjpeg"])
def test_every_codec_and_odd_size_sums_to_its_packets(tmp_path, codec):
    options = {"libx265": {"x265-params": "log-level=none"}}.get(codec, {})
    name = tmp_path / ("clip.webm" if "vp9" in codec else "clip.mkv")
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encode(name, codec=codec, frames=10, size=(70, 134), options=options, pix_fmt=pix_fmt)
    stream = VideoStream(name)
    nbytes = stream.packets.display("nbytes")
    found = dict(stream.bit_cost_maps())
    assert list(found) == list(range(10))
    for index, bits in found.items():
        assert bits.shape == (5, 9)
        assert bits.double().sum().item() == 8 * int(nbytes[index])


def test_maps_come_in_display_order_and_one_by_one():
    stream = VideoStream(SAMPLE)
    wanted = [50, 3, 17, 3]
    some = list(stream.bit_cost_maps(wanted))
    assert [index for index, _ in some] == [3, 17, 50]
    stream_all = stream.bit_cost_maps()
    first = [next(stream_all) for _ in range(4)]
    stream_all.close()
    assert [index for index, _ in first] == [0, 1, 2, 3]
    assert torch.equal(first[3][1], some[0][1])  # the same alone and among others


def test_holds_few_frames(monkeypatch):
    """The reader may not run ahead of what is asked for by more than one batch of frames."""
    given, real = [], VideoStream.frames

    def counted(self, *args, **options):
        for frame in real(self, *args, **options):
            given.append(frame.index)
            yield frame

    monkeypatch.setattr(VideoStream, "frames", counted)
    maps = VideoStream(SAMPLE).bit_cost_maps()
    next(maps)
    assert len(given) <= 20
    maps.close()


def test_agrees_with_the_bits_really_spent(maps, truth):
    bits, packet_bits, kinds = truth
    mine = torch.stack([maps[i] for i in range(FRAMES)]).numpy()
    assert bits.shape == mine.shape
    nbytes = VideoStream(SAMPLE).packets.display("nbytes")[:FRAMES]
    assert (8 * nbytes == packet_bits).all()
    assert "".join(kinds) == "".join(frame.kind for frame in decoded(SAMPLE, range(FRAMES))[1])
    moving = kinds != "I"
    even = np.broadcast_to(packet_bits[:, None, None] / (23 * 40), mine.shape)
    assert log_correlation(mine[moving], bits[moving]) > 0.8
    assert log_correlation(mine[moving], bits[moving]) > log_correlation(even[moving], bits[moving]) + 0.2
    for kind in "PB":
        own = kinds == kind
        assert log_correlation(mine[own], bits[own]) > 0.7, kind
    window = np.flatnonzero(moving)[:32]
    shared = len(best(mine[window]) & best(bits[window])) / len(best(bits[window]))
    assert shared > 0.6  # chance 0.1


def test_any_grid_keeps_every_bit(maps):
    bits = torch.stack([maps[i] for i in range(8)])
    totals = bits.double().sum((1, 2))
    for grid in ((10, 18), (23, 40), (1, 1), (7, 50), (45, 80)):
        dealt = bits_on_grid(bits, (360, 640), grid)
        assert dealt.shape == (8, *grid)
        torch.testing.assert_close(dealt.double().sum((1, 2)), totals, rtol=1e-5, atol=0)


@settings(max_examples=40)
@given(
    height=st.integers(1, 90), width=st.integers(1, 90), rows=st.integers(1, 9), cols=st.integers(1, 9),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_grid_matches_pixel_by_pixel(height, width, rows, cols, seed):
    """Against painting every macroblock on pixels, each pixel split into rows x cols pieces."""
    shape = (-(-height // 16), -(-width // 16))
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pixels = maps.repeat_interleave(16, 0).repeat_interleave(16, 1)[:height, :width]
    inside = torch.ones(height, width, dtype=torch.float64)
    area = torch.nn.functional.pad(inside, (0, shape[1] * 16 - width, 0, shape[0] * 16 - height))
    area = area.view(shape[0], 16, shape[1], 16).sum((1, 3)).repeat_interleave(16, 0).repeat_interleave(16, 1)
    density = pixels / area[:height, :width]

    def cut(picture):
        fine = picture.repeat_interleave(rows, 0).repeat_interleave(cols, 1) / (rows * cols)
        return fine.view(rows, height, cols, width).sum((1, 3))

    torch.testing.assert_close(bits_on_grid(maps, (height, width), (rows, cols)), cut(density))
    expected = cut(pixels) / (height * width / (rows * cols))
    torch.testing.assert_close(mean_on_grid(maps, (height, width), (rows, cols)), expected)


def test_batches_equal_single_frames(sample):
    stream, frames = sample
    model = BitCostMap()
    features, whole = macroblock_features(macroblock_signals(frames[:12]))
    assert features.shape == (12, NUM_MACROBLOCK_FEATURES, 23, 40)
    assert whole.shape == (12, NUM_FRAME_FEATURES)
    bits = torch.tensor([8 * f.nbytes for f in frames[:12]])
    together = model(features, whole, bits)
    folded = model(features.view(3, 4, *features.shape[1:]), whole.view(3, 4, -1), bits.view(3, 4))
    torch.testing.assert_close(folded.view_as(together), together, rtol=1e-4, atol=0.05)
    for t in (0, 5, 11):
        alone, common = macroblock_features(macroblock_signals(frames[t : t + 1]))
        torch.testing.assert_close(alone[0], features[t], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model(alone, common, bits[t : t + 1])[0], together[t], rtol=1e-4, atol=0.05)
    assert torch.equal(model.of_frames(frames[:12], stream.info.coded_size).sum((1, 2)).long(), bits)


def test_quantizer_is_read_as_the_decoder_has_it(sample):
    """x264 writes a fixed quantizer where that is asked for."""
    _, frames = sample
    assert all(f.quantizer is not None and f.quantizer.shape == (23, 40) for f in frames)
    assert len(np.unique(np.stack([f.quantizer for f in frames]))) > 5  # adaptive in this clip


@pytest.mark.parametrize("level", [18, 31])
def test_fixed_quantizer(tmp_path, level):
    options = {"qp": str(level), "aq-mode": "0", "x264-params": "ipratio=1:pbratio=1"}
    path = encode(tmp_path / "fixed.mp4", frames=8, options=options, bframes=0)
    for frame in decoded(path, range(8))[1]:
        assert (frame.quantizer == level).all()


def test_without_vectors_or_quantizer(tmp_path):
    path = encode(tmp_path / "hevc.mp4", codec="libx265", frames=8, options={"x265-params": "log-level=none"})
    stream, frames = decoded(path, range(8))
    assert stream.info.codec == "hevc"
    assert all(f.quantizer is None and f.motion is None for f in frames)
    searched, plain = (dict(stream.bit_cost_maps(estimate=how)) for how in (True, False))
    assert any(not torch.equal(searched[i], plain[i]) for i in searched)


def test_hevc_agrees_with_the_bits_really_spent():
    """Coding units of 64 pixels, in the frames that cost more than a few bytes a unit."""
    units = read_golden(TRUTH)["hevc_units"].astype(np.float32)  # (20, 3, 5)
    stream = VideoStream(shared_clip("nasa_hevc10.mp4"))
    mine = torch.stack([bits for _, bits in stream.bit_cost_maps(range(20))])
    assert mine.shape == (20, 12, 20)
    dealt = mine.view(20, 3, 4, 5, 4).sum((2, 4)).numpy()
    busy = [t for t in range(20) if units[t].sum() > 1000]
    assert len(busy) == 4
    for t in busy:
        assert log_correlation(dealt[t], units[t]) > 0.7


def test_vp8_clip():
    stream = VideoStream(shared_clip("bbb_vp8.webm"))
    nbytes = stream.packets.display("nbytes")
    for index, bits in stream.bit_cost_maps(range(0, 24, 6)):
        assert bits.shape == (45, 80)
        assert bits.double().sum().item() == 8 * int(nbytes[index])


def test_coefficients_say_how_they_were_made():
    assert COEFFICIENTS.stat().st_size <= 200_000
    with safe_open(str(COEFFICIENTS), "pt") as file:
        about = {key: json.loads(text) for key, text in file.metadata().items()}
    assert about["script"]["name"] == "benchmarks/calibrate_bitcost.py"
    assert about["script"]["version"] >= 1
    assert isinstance(about["seed"], int)
    assert len(about["clips"]["vectors"]) >= 50
    assert "skv_carphone.mp4" in about["clips"]["vectors"]
    assert BitCostMap().about == about


def test_coefficients_of_other_features_are_refused(tmp_path):
    with safe_open(str(COEFFICIENTS), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    tensors["vectors.local"] = tensors["vectors.local"][:, 1:].contiguous()
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=rf"fitted for {NUM_MACROBLOCK_FEATURES - 1} features.*calibrate_bitcost"):
        BitCostMap(path=tmp_path / "other.safetensors")
    del tensors["vectors.last"]
    save_file(tensors, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="has no last for signal 'vectors'"):
        BitCostMap(path=tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="unknown signal 'bits'"):
        BitCostMap("bits")


def test_release_preset_uses_it_and_a_true_map_wins(truth):
    release = CodecTokenizer(8, preset="release")
    made = release(SAMPLE)
    assert made.signal == "bit-cost, estimated"
    assert made.provenance["signal"]["used"] == "bit-cost, estimated"
    assert made.provenance["signal"]["bits_from"] == "vectors"
    assert made.provenance["options"]["scores"] == "bit-cost"
    told = release(SAMPLE, score_maps=dict(enumerate(truth[0])))
    assert told.signal == "external"
    shared = CodecTokenizer(8, preset="release", scores="saliency")(SAMPLE)
    assert shared.signal == "motion+residual"
    assert CodecTokenizer(8, preset="release", motion="none")(SAMPLE).provenance["signal"]["bits_from"] == "difference"


def test_release_preset_chooses_what_the_truth_would(truth):
    """Blocks by estimated bits against blocks by true bits, on the same groups."""
    bits = truth[0]
    frames = np.arange(4, FRAMES)
    stream, held = decoded(SAMPLE, frames)
    grid = (10, 18)
    scorers = (CodecTokenizer(preset="release").scorer, ExternalMapScorer(dict(enumerate(bits))))
    mine, theirs = (scorer.scores(held, stream.info, grid).values for scorer in scorers)
    count = round(0.1 * mine.numel())
    chosen = [set(x.flatten().argsort(descending=True, stable=True)[:count].tolist()) for x in (mine, theirs)]
    assert len(chosen[0] & chosen[1]) / count > 0.6


def test_turned_clip_is_scored_as_shown():
    """Scores of a clip that players turn equal those of its coded picture, turned."""
    stream, frames = decoded(shared_clip("calibration/mei_with-gps.mov"), range(1, 6))
    assert not stream.info.orientation.is_upright
    grid = (18, 10) if stream.info.orientation.transpose else (10, 18)
    scorer = CodecTokenizer(preset="release").scorer
    scores = scorer.scores(frames, stream.info, grid).values
    plain = mean_on_grid(BitCostMap().of_frames(frames, stream.info.coded_size), stream.info.coded_size, (10, 18))
    turned = stream.info.orientation.picture(plain.numpy())
    assert scores.shape == (5, *grid)
    for a, b in zip(scores, torch.from_numpy(turned), strict=True):
        assert torch.corrcoef(torch.stack([a.flatten(), b.log1p().flatten()]))[0, 1] > 0.8


def test_options_that_contradict_each_other():
    from ov2kit.codec import MotionResidualSaliency

    assert CodecTokenizer(preset="release", saliency=MotionResidualSaliency()).scores == "saliency"
    with pytest.raises(ValueError, match="scores='bit-cost' takes no saliency"):
        CodecTokenizer(scores="bit-cost", saliency=MotionResidualSaliency())
    with pytest.raises(ValueError, match="unknown scores 'bits'"):
        CodecTokenizer(scores="bits")
