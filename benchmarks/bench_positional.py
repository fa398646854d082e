"""Angles and rotations beside the release's arithmetic, one image to 128 canvases.

    python -m pytest benchmarks/bench_positional.py --benchmark-only

Shapes: 256 patches per canvas, 16 heads of 64 (the released tower).
"""

import pytest
import torch

from benchmarks.measure import DEVICE, DTYPE, machine, peak_mib, plain_rope, synchronized
from ov2kit.positional import RoPE3D, apply_rope
from ov2kit.positional.rotation import rotate_

HEADS, HEAD_DIM, PATCHES = 16, 64, 256


def fused_in_place(q, k, cos, sin):
    """What the encoder does at inference: queries and keys side by side, turned where they are."""
    rotate_(q._base[:, : 2 * HEADS], cos, sin)
    return q, k


WAYS = {"apply_rope": apply_rope, "in_place": fused_in_place, "plain": plain_rope}


@pytest.mark.parametrize("canvases", [1, 8, 32, 128])
def bench_angles(benchmark, canvases):
    rope = RoPE3D(HEAD_DIM)
    positions = torch.randint(0, 100, (canvases * PATCHES, 3), device=DEVICE)
    cos, _ = benchmark(synchronized(lambda: rope(positions)))
    benchmark.extra_info.update(machine())
    assert cos.shape == (canvases * PATCHES, HEAD_DIM)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("canvases", [1, 8, 32, 128])
def bench_rotation(benchmark, canvases, direction, way):
    if (direction, way) == ("backward", "in_place"):
        pytest.skip("in place is for inference")
    n = canvases * PATCHES
    fused = torch.randn(n, 3 * HEADS, HEAD_DIM, dtype=DTYPE, device=DEVICE)
    q, k = fused[:, :HEADS], fused[:, HEADS : 2 * HEADS]
    if direction == "backward":
        q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
    cos, sin = RoPE3D(HEAD_DIM, pairing="release")(torch.randint(0, 100, (n, 3), device=DEVICE))

    def step():
        with torch.set_grad_enabled(direction == "backward"):
            q_out, k_out = WAYS[way](q, k, cos, sin)
        if direction == "backward":
            torch.autograd.backward((q_out, k_out), (q_out.detach(), k_out.detach()))
        return q_out

    if way == "apply_rope":
        torch.testing.assert_close(step(), plain_rope(q, k, cos, sin)[0], rtol=0, atol=1e-2)
    assert benchmark(synchronized(step)).shape == (n, HEADS, HEAD_DIM)
    benchmark.extra_info.update(machine(), peak_mib=peak_mib(step))
