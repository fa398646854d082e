"""Visual tokens counted from canvases, against counts by hand and the prompt's image pads."""

from dataclasses import replace

import pytest
import torch

from ov2kit import Canvases
from ov2kit.canvases import IMAGE_PAD
from ov2kit.codec import CodecTokenizer, FrameTokenizer
from ov2kit.recipes.metrics import TokenAccounting, count_tokens
from tests.paths import SAMPLE


def canvases(anchors, padding=0, seconds=None):
    """Canvases of 2 x 2 blocks of 2 x 2 patches; the last ends with `padding` empty blocks."""
    k = len(anchors)
    y, x = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    positions = torch.stack([torch.stack([torch.full_like(y, t), y, x], dim=-1) for t in range(k)]).int()
    if padding == 1:
        positions[-1, 2:, 2:] = -1
    return Canvases(
        images=torch.zeros(k, 3, 56, 56, dtype=torch.uint8),
        positions=positions,
        groups=torch.zeros(k, dtype=torch.int32),
        is_anchor=torch.tensor(anchors),
        frame_times={t: 0.5 * t for t in range(k)},
        fps=2.0,
        provenance={} if seconds is None else {"source": {"seconds": seconds}},
    )


def test_by_hand():
    clip = canvases([True, False, False], padding=1)
    count = count_tokens(clip)[0]
    assert (count.tokens, count.p_tokens, count.canvases) == (11, 7, 3)
    assert count.seconds == pytest.approx(1.5)  # frames at 0, 0.5 and 1 s, each half a second long
    metric = TokenAccounting()
    metric.update([clip, canvases([True, True], seconds=10.0)])
    made = {name: value.item() for name, value in metric.compute().items()}
    assert made == pytest.approx(
        {
            "videos": 2,
            "tokens": 19,
            "tokens_per_video": 9.5,
            "canvases_per_video": 2.5,
            "tokens_per_second": 19 / 11.5,
            "p_share": 7 / 19,
        }
    )


def test_clips_packed_together_count_as_they_do_alone():
    parts = [canvases([True, False]), canvases([True], seconds=3.0), canvases([True, False, True], padding=1)]
    assert count_tokens(Canvases.cat(parts)) == [count for part in parts for count in count_tokens(part)]
    together, apart, counted = TokenAccounting(), TokenAccounting(), TokenAccounting()
    together.update(Canvases.cat(parts))
    apart.update(parts)
    counted.update([count for part in parts for count in count_tokens(part)])
    assert together.compute() == apart.compute() == counted.compute()


def test_a_picture_has_no_seconds():
    picture = replace(canvases([True]), fps=0.0)
    assert count_tokens(picture)[0].seconds is None
    metric = TokenAccounting()
    metric.update(picture)
    assert metric.compute()["tokens_per_second"] == 0
    metric.update(canvases([True, False], seconds=4.0))
    assert metric.compute()["tokens_per_second"] == 8 / 4  # the picture's 4 tokens are not spread over the clip
    assert metric.compute()["tokens_per_video"] == 6


def test_a_real_clip():
    codec = CodecTokenizer(budget_canvases=8, max_pixels=20000)(SAMPLE)
    frames = FrameTokenizer(4, max_pixels=20000)(SAMPLE)
    metric = TokenAccounting()
    metric.update(codec)
    made = metric.compute()
    assert made["tokens"] == codec.num_tokens == codec.prompt().count(IMAGE_PAD)
    assert made["tokens_per_second"].item() == pytest.approx(codec.num_tokens / codec.provenance["source"]["seconds"])
    assert 5 < codec.provenance["source"]["seconds"] < 5.5
    assert 0.5 < made["p_share"] < 1
    assert count_tokens(frames)[0].p_tokens == 0
