"""Attention within groups beside a dense mask and one call per segment, one image to 128 canvases.

    python -m pytest benchmarks/bench_attention.py --benchmark-only [-k "groups16 and forward"]

Shapes: 4 canvases per group; on a CPU 64 patches per canvas and 4 heads of 64 in float32, on a
GPU 196 patches per canvas and 16 heads of 64 in bfloat16. `mixed` alternates four group sizes.
"""

import pytest
import torch

from benchmarks.measure import CUDA, DEVICE, DTYPE, call_per_segment, dense_mask_call, machine, peak_mib, synchronized
from ov2kit import Segments
from ov2kit.encoders import WindowedAttention, attend, attention_backends
from ov2kit.encoders.backends import TOLERANCE

HEADS, HEAD_DIM = (16, 64) if CUDA else (4, 64)
CANVAS = 196 if CUDA else 64
LAYOUTS = {
    "image": [CANVAS],
    "groups4": [4 * CANVAS] * 4,
    "groups16": [4 * CANVAS] * 16,
    "groups32": [4 * CANVAS] * 32,
    "mixed16": [4 * CANVAS, 3 * CANVAS, 2 * CANVAS, 4 * CANVAS + 36] * 4,
    "causal16": [4 * CANVAS] * 16,
}
#: lengths of small pictures that are never neighbors of their like
MIXED = (16, 36, 64, 100)
WAYS = [name for name, reasons in attention_backends().items() if not reasons and name not in ("eager", "flex")]


@pytest.mark.parametrize("way", [*WAYS, "dense_mask", "call_per_segment"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("layout", LAYOUTS)
def bench_attention(benchmark, layout, direction, way):
    segments = Segments.from_lengths(LAYOUTS[layout], DEVICE)
    segments = segments.causal() if layout.startswith("causal") else segments
    if layout.startswith("causal") and way == "call_per_segment":
        pytest.skip("has no causal form")
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(segments.num_tokens, 3, HEADS, HEAD_DIM, generator=generator).to(DEVICE, DTYPE)
    q, k, v = (x.detach().requires_grad_(direction == "backward") for x in qkv.unbind(1))
    if way in WAYS and (reasons := attention_backends(q, segments)[way]):
        pytest.skip("; ".join(reasons))
    mask = segments.dense()  # made outside the timed call: its cost would only help us

    def step():
        with torch.set_grad_enabled(direction == "backward"):
            if way == "dense_mask":
                out = dense_mask_call(q, k, v, mask)
            elif way == "call_per_segment":
                out = call_per_segment(q, k, v, list(segments.lengths))
            else:
                out = attend(q, k, v, segments, way)
        if direction == "backward":
            out.backward(out.detach())
        return out

    torch.testing.assert_close(step(), dense_mask_call(q, k, v, mask), rtol=0, atol=2 * TOLERANCE[DTYPE])
    benchmark(synchronized(step))
    benchmark.extra_info.update(machine(), tokens=segments.num_tokens, peak_mib=peak_mib(step))


@pytest.mark.parametrize("way", [*WAYS, "call_per_segment"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("count", [16, 64, 256, 1024], ids="segments{}".format)
def bench_mixed_segments(benchmark, count, direction, way):
    """Many short segments of mixed length beside a plain loop over `torch.split`: linear in their number."""
    segments = Segments.from_lengths([MIXED[i % len(MIXED)] for i in range(count)], DEVICE)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(segments.num_tokens, 3, HEADS, HEAD_DIM, generator=generator).to(DEVICE, DTYPE)
    q, k, v = (x.detach().requires_grad_(direction == "backward") for x in qkv.unbind(1))
    lengths = list(segments.lengths)

    def step(way=way):
        with torch.set_grad_enabled(direction == "backward"):
            out = call_per_segment(q, k, v, lengths) if way == "call_per_segment" else attend(q, k, v, segments, way)
        if direction == "backward":
            out.backward(out.detach())
        return out

    torch.testing.assert_close(step(), step("call_per_segment"), rtol=0, atol=2 * TOLERANCE[DTYPE])
    benchmark.pedantic(synchronized(step), rounds=7, warmup_rounds=1)
    benchmark.extra_info.update(machine(), tokens=segments.num_tokens)


@pytest.mark.parametrize("canvases", [16, 64])
def bench_windows_of_many_canvases(benchmark, canvases):
    """Windows with smaller ones at the borders, forward and backward: four times the canvases, four times the time."""
    grid = [(canvases, 18, 18)]
    module = WindowedAttention(HEADS * HEAD_DIM, HEADS, (8, 8)).to(DEVICE, DTYPE)
    windows = module.windows(Segments.from_grid(grid, window=1, device=DEVICE), grid)
    x = torch.randn(canvases * 18 * 18, HEADS * HEAD_DIM, device=DEVICE, dtype=DTYPE, requires_grad=True)

    def step():
        out = module(x, windows)
        out.backward(out.detach())
        return out

    benchmark.pedantic(synchronized(step), rounds=5, warmup_rounds=1)
    benchmark.extra_info.update(machine(), tokens=len(x))


@pytest.mark.parametrize("way", ["windows", "dense_mask"])
@pytest.mark.parametrize("side", [32, 64])
def bench_windows(benchmark, side, way):
    """Windows of 8 x 8 patches in one large picture, against the same visibility as a mask."""
    grid = [(1, side, side)]
    module = WindowedAttention(HEADS * HEAD_DIM, HEADS, (8, 8)).to(DEVICE, DTYPE).eval()
    windows = module.windows(Segments.from_grid(grid, device=DEVICE), grid)
    x = torch.randn(side * side, HEADS * HEAD_DIM, device=DEVICE, dtype=DTYPE)
    mask = windows.segments.dense()[windows.inverse][:, windows.inverse]

    @torch.no_grad()
    def step():
        if way == "windows":
            return module(x, windows)
        q, k, v = module.qkv(x).view(len(x), 3, HEADS, HEAD_DIM).unbind(1)
        return module.proj(dense_mask_call(q, k, v, mask).flatten(1))

    assert benchmark(synchronized(step)).shape == x.shape
    benchmark.extra_info.update(machine(), peak_mib=peak_mib(step))
