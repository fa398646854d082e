"""The encoder beside the release's arithmetic in plain torch at equal weights.

    python -m pytest benchmarks/bench_encoder.py --benchmark-only [-k mixed]

The plain way rotates in float32 and calls scaled_dot_product_attention once per segment, as the
public code does. Shapes: on a CPU 4 blocks of width 512 in float32, on a GPU the released size in
bfloat16. 256 patches per canvas, groups of 4 canvases, as in `mixed` beside images of other sizes.
"""

import pytest
import torch

from benchmarks.measure import CUDA, DEVICE, DTYPE, machine, peak_mib, plain_encoder, synchronized
from ov2kit import Segments
from ov2kit.encoders import OneVisionEncoder, PoolingHead

SIZE = {"width": 1024, "depth": 24, "heads": 16, "mlp_width": 4096} if CUDA else {
    "width": 512, "depth": 4, "heads": 8, "mlp_width": 2048,
}  # fmt: skip
LAYOUTS = {
    "image": [256],
    "groups2": [1024] * 2,
    "frames8": [256] * 8,
    "mixed": [1024, 256, 64, 576, 144, 256, 36, 400, 64, 100, 196, 36],
    "many_small": [16, 36, 64, 100] * 12,
    "canvases128": [1024] * 32,
}


@pytest.mark.parametrize("way", ["ov2kit", "plain"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("layout", LAYOUTS)
def bench_encoder(benchmark, layout, direction, way):
    if layout == "canvases128" and not CUDA and direction == "backward":
        pytest.skip("minutes and 20 GB on a CPU")
    torch.manual_seed(0)
    encoder = OneVisionEncoder(**SIZE, pairing="release").to(DEVICE, DTYPE).train(direction == "backward")
    segments = Segments.from_lengths(LAYOUTS[layout], DEVICE)
    n = segments.num_tokens
    pixels = torch.randn(n, 588, device=DEVICE)
    positions = torch.randint(0, 60, (n, 3), device=DEVICE)

    def step(way=way):
        with torch.set_grad_enabled(direction == "backward"):
            if way == "ov2kit":
                out = encoder(pixels, positions, segments)
            else:
                out = plain_encoder(encoder, pixels, positions, list(segments.lengths))
        if direction == "backward":
            out.backward(out.detach())
        return out

    if way == "ov2kit" and layout != "canvases128":
        atol = 1e-3 if torch.float32 == DTYPE else 0.2
        torch.testing.assert_close(step(), step("plain"), rtol=0, atol=atol)
    benchmark.pedantic(synchronized(step), rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(machine(), tokens=n, peak_mib=peak_mib(step))


@pytest.mark.parametrize("items", [1, 32, 128])
def bench_pooling_head(benchmark, items):
    head = PoolingHead(SIZE["width"], SIZE["heads"], SIZE["mlp_width"]).to(DEVICE, DTYPE).eval()
    segments = Segments.from_lengths([64] * items, DEVICE)
    x = torch.randn(segments.num_tokens, SIZE["width"], device=DEVICE, dtype=DTYPE)

    @torch.no_grad()
    def step():
        return head(x, segments)

    assert benchmark(synchronized(step)).shape == (items, SIZE["width"])
    benchmark.extra_info.update(machine(), peak_mib=peak_mib(step))
