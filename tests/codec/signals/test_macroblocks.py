"""Features of macroblocks against their definitions, one after another in float64, and the network likewise."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ov2kit.codec import BitCostMap
from ov2kit.codec.signals.compensate import residual_of
from ov2kit.codec.signals.macroblock_inputs import EDGE, MACROBLOCK, macroblock_signals
from ov2kit.codec.signals.macroblocks import (
    AROUND,
    FRAME_MEANS,
    MACROBLOCK_FEATURES,
    NUM_FRAME_FEATURES,
    NUM_MACROBLOCK_FEATURES,
    macroblock_features,
)
from ov2kit.codec.signals.motion_grid import rasterize_motion
from tests.codec.signals.test_motion_grid import vectors_of

ROWS, COLS = 3, 5
SIZE = (ROWS * MACROBLOCK, COLS * MACROBLOCK)


def made(rng, scale, kind="P"):
    """A frame of noise, with vectors of every shape and direction, some macroblocks without."""
    blocks = []
    for top in range(0, SIZE[0], 16):
        for left in range(0, SIZE[1], 16):
            w, h = [(16, 16), (16, 8), (8, 16), (8, 8)][rng.integers(4)]
            still = rng.random() < 0.4
            for y in range(top, top + 16, h):
                for x in range(left, left + 16, w):
                    for source in (-1, 1):
                        if rng.random() < 0.6:
                            moved = (0, 0) if still else rng.integers(-40, 40, 2)
                            blocks.append((source, w, h, x + w // 2, y + h // 2, *moved, scale))
    vectors = vectors_of(blocks)
    luma, reference = torch.from_numpy(rng.integers(0, 255, (2, ROWS * EDGE, COLS * EDGE), dtype=np.uint8))
    reference[:8, :12] = luma[:8, :12]
    return SimpleNamespace(
        luma=luma, reference=None if kind == "I" else reference, motion=vectors, coded_size=SIZE, kind=kind, index=9,
        reference_index=7, nbytes=int(rng.integers(100, 900)),
        quantizer=rng.choice([20, 20, 20, 23, 31], (ROWS, COLS)).astype(np.int8),
    )  # fmt: skip


def length(vector):
    return float(np.abs(vector).sum())


def features_of(frame):
    """(F, R, C) and (G,) float64 by the definitions."""
    compared = frame.kind != "I"
    empty = np.full((2 * ROWS, 2 * COLS, 2), np.nan)
    nobody = np.zeros(len(frame.motion), dtype=np.int64)
    field = rasterize_motion(frame.motion, nobody, 1, SIZE)[0].double().numpy() if compared else empty
    reference = frame.reference if compared else frame.luma
    moved = torch.from_numpy(field)[None].float() * (EDGE / MACROBLOCK)
    residual = residual_of(frame.luma[None], reference[None], moved)[0].double().numpy()
    luma, plain = frame.luma.double().numpy(), np.abs(frame.luma.double().numpy() - reference.double().numpy())
    vectors = np.nan_to_num(field)
    across, down = np.zeros(luma.shape), np.zeros(luma.shape)
    across[:, :-1], down[:-1] = np.abs(np.diff(luma, axis=1)), np.abs(np.diff(luma, axis=0))

    def cell(y, x):
        return vectors[y, x] if 0 <= y < 2 * ROWS and 0 <= x < 2 * COLS else np.zeros(2)

    found = np.zeros((NUM_MACROBLOCK_FEATURES, ROWS, COLS))
    level = frame.quantizer.astype(np.float64)
    change = np.diff(level.ravel(), prepend=level.ravel()[0])
    changed = np.concatenate([np.zeros(4), change != 0, np.zeros(5)])
    for r in range(ROWS):
        for c in range(COLS):
            place = np.s_[r * EDGE : (r + 1) * EDGE, c * EDGE : (c + 1) * EDGE]
            left_over, rms = residual[place], np.sqrt((residual[place] ** 2).mean())
            y, x, at = 2 * r, 2 * c, r * COLS + c
            own, left, above, right = cell(y, x), cell(y, x - 1), cell(y - 1, x), cell(y - 1, x + 2)
            off = length(own - np.median([left, above, right], axis=0))
            if not left.any() or not above.any():
                off = min(off, length(own))
            spread = max(length(own - cell(y + i, x + j)) for i, j in ((0, 1), (1, 0), (1, 1)))
            steps = []
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                here = cell(y + i, x + j)
                step = length(here - cell(y + i, x + j - 1)) if x + j else 0
                steps.append(step + (length(here - cell(y + i - 1, x + j)) if y + i else 0))
            holes = np.isnan(field[y : y + 2, x : x + 2, 0]).sum() / 4
            mine = (frame.motion["dst_y"] // 16 == r) & (frame.motion["dst_x"] // 16 == c) & compared
            count, future = mine.sum(), (mine & (frame.motion["source"] > 0)).sum()
            intra = holes * compared
            found[: len(MACROBLOCK_FEATURES), r, c] = (
                np.log1p(left_over.mean()), np.log1p(plain[place].mean()),
                np.log1p(min(left_over.mean(), plain[place].mean())), np.log1p(rms),
                (left_over == 0).mean() * compared, np.log1p(left_over.max()) / 2,
                np.log1p((across + down)[place].mean()), intra, np.log1p(length(own)), np.log1p(4 * off),
                off == spread == intra == 0 and count > 0, np.log1p(spread), min(count, 8) / 4,
                future / max(count, 1), np.log1p(4 * np.array(steps)).mean(), change[at] != 0,
                np.clip(change[at] / 8, -2, 2), min(abs(change[at]) / 8, 2),
                np.clip((level[r, c] - level.mean()) / 8, -3, 3), changed[at + 5], changed[at : at + 9].mean(),
                np.log1p(rms * 8 / (2 ** (level[r, c] / 6) / 4)) / 2,
            )  # fmt: skip
    for r in range(ROWS):
        for c in range(COLS):
            near = found[list(AROUND), max(0, r - 1) : r + 2, max(0, c - 1) : c + 2]
            found[len(MACROBLOCK_FEATURES) :, r, c] = near.mean((1, 2))
    whole = np.array(
        [np.log2(8 * frame.nbytes / (ROWS * COLS) + 1e-3) / 4, frame.kind == "I", frame.kind == "B", compared,
         True, level.mean() / 16, np.log2(2 if compared else 1) / 4, *found[list(FRAME_MEANS)].mean((1, 2))]
    )  # fmt: skip
    return found, whole


@pytest.mark.parametrize("scale", [4, 2, 1])
def test_features_follow_their_definitions(scale):
    """The largest difference is that of rounding to float32."""
    rng = np.random.default_rng(scale)
    frames = [made(rng, scale, kind) for kind in "PBIP"]
    features, whole = macroblock_features(macroblock_signals(frames))
    assert features.shape == (4, NUM_MACROBLOCK_FEATURES, ROWS, COLS)
    assert whole.shape == (4, NUM_FRAME_FEATURES)
    for frame, mine, common in zip(frames, features, whole, strict=True):
        expected, of_frame = features_of(frame)
        assert len(np.unique(expected[8])) > 3 or frame.kind == "I"
        np.testing.assert_allclose(mine.numpy(), expected, rtol=0, atol=2e-6)
        np.testing.assert_allclose(common.numpy(), of_frame, rtol=0, atol=2e-6)


def test_vectors_beyond_what_any_level_allows_are_cut():
    """Damaged streams have them: lengths must not run over."""
    rng = np.random.default_rng(0)
    frame = made(rng, 4)
    frame.motion["motion_x"] = rng.choice([-(2**30), 2**30], len(frame.motion))
    frame.motion["motion_y"] = rng.choice([-(2**30), 2**30], len(frame.motion))
    features, _ = macroblock_features(macroblock_signals([frame]))
    assert features.isfinite().all()
    longest = np.log1p(2 * 2 * 4 * 2047.75 * 2)  # of two steps, each of both axes, in quarters of a pixel
    assert 0 <= features[0, 7:15].min() <= features[0, 7:15].max() <= longest


@pytest.mark.parametrize("signal", ["vectors", "difference"])
def test_network_in_one_product_equals_its_layers(signal):
    """Weights of 3 frames, against two layers in float64, within float32's rounding of numbers up to some hundred."""
    model = BitCostMap(signal)
    features = torch.rand(3, NUM_MACROBLOCK_FEATURES, 4, 7, generator=torch.Generator().manual_seed(0)) * 3
    whole = torch.rand(3, NUM_FRAME_FEATURES, generator=torch.Generator().manual_seed(1))
    local, common, bias, second, second_bias, last = (
        x.detach().double() for x in (model.local, model.whole, model.bias, model.second, model.second_bias, model.last)
    )
    inputs = (
        torch.einsum("hf,tfrc->thrc", local, features.double()) + (whole.double() @ common.T + bias)[..., None, None]
    )
    hidden = torch.einsum("kh,thrc->tkrc", second, inputs.relu()) + second_bias[:, None, None]
    expected = torch.einsum("k,tkrc->trc", last, hidden.relu())
    in_one_piece = features.transpose(0, 1).contiguous().transpose(0, 1)
    for given in (features, in_one_piece):
        torch.testing.assert_close(model.weights(given, whole).double(), expected, rtol=1e-5, atol=1e-4)
