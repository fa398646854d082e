"""The rotation as one kernel: on a GPU as it runs, elsewhere through Triton's interpreter."""

from importlib.util import find_spec

import pytest
import torch

from ov2kit.positional import RoPE3D, rotate, triton_rotation
from ov2kit.positional.pairing import PAIRINGS
from ov2kit.positional.rotation import rotate_
from tests.fresh import python
from tests.paths import ROOT
from tests.positional.test_positional import rotate_by_hand

INTERPRETED = """
import contextlib, sys, torch
from ov2kit.positional import RoPE3D
from ov2kit.positional.triton_rotation import rotate_in_one_kernel
from tests.positional.test_positional import rotate_by_hand

torch.cuda.device = lambda device: contextlib.nullcontext()
for pairing in ("release", "interleaved", "half"):
    for heads, channels in ((3, 66), (20, 24), (16, 96)):  # one program or two; a power of two or not
        rope = RoPE3D(channels, split=(1, 1, 1), pairing=pairing)
        positions = torch.randint(-1, 60, (7, 3), generator=torch.Generator().manual_seed(0))
        fused = torch.randn(7, 3, heads, channels, generator=torch.Generator().manual_seed(1))
        x, before = fused[:, 1], fused.clone()  # not contiguous, as a slice of a fused projection is
        want = rotate_by_hand(x, rope.angles(positions), pairing)
        cos, sin = (t.as_subclass(torch.Tensor) for t in rope(positions))
        out = rotate_in_one_kernel(x, cos, sin, pairing, torch.zeros(7, heads, channels))
        torch.testing.assert_close(out.double(), want, rtol=0, atol=1e-5)
        assert torch.equal(fused, before)
        assert rotate_in_one_kernel(x, cos, sin, pairing, x) is x
        assert torch.equal(fused[:, 1], out) and torch.equal(fused[:, ::2], before[:, ::2])
print("right")
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernel_is_the_definition_in_tritons_interpreter(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    done = python(INTERPRETED, ROOT)
    assert done.stdout == "right\n", done.stderr


def test_tensors_on_a_cpu_do_not_import_triton():
    code = "import sys, torch; from ov2kit.positional import RoPE3D, apply_rope; q = torch.randn(4, 2, 32);"
    code += "apply_rope(q, q, *RoPE3D(32)(torch.zeros(4, 3, dtype=torch.long))); print('triton' in sys.modules)"
    done = python(code)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_kernel_runs_on_a_gpu_forward_backward_and_in_place(pairing, dtype):
    rope = RoPE3D(64, pairing=pairing)
    positions = torch.randint(-1, 60, (300, 3), generator=torch.Generator().manual_seed(0))
    fused = torch.randn(300, 3, 16, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    want = rotate_by_hand(fused[:, 1], rope.angles(positions), pairing)
    tolerance = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    close = {"rtol": 0, "atol": tolerance}
    wide = fused.cuda()
    x = wide[:, 1].detach().requires_grad_()
    assert triton_rotation.takes(x, x)
    cos, sin = rope.cuda()(positions.cuda())
    got = rotate(x, cos, sin)
    torch.testing.assert_close(got.double().cpu(), want, **close)
    # a linear map: the gradient of <rotate(x), w> is its transpose applied to w, here by a plain Jacobian product
    weight = torch.randn(got.shape, generator=torch.Generator().manual_seed(2))
    (grad,) = torch.autograd.grad((got * weight.to(wide)).sum(), x)
    exact = fused[:, 1].double().requires_grad_()
    by_hand = rotate_by_hand(exact, rope.cpu().angles(positions), pairing)
    (expected,) = torch.autograd.grad((by_hand * weight.to(dtype).double()).sum(), exact)
    torch.testing.assert_close(grad.double().cpu(), expected, **close)
    assert rotate_(wide[:, 1], cos, sin).data_ptr() == wide[:, 1].data_ptr()
    torch.testing.assert_close(wide[:, 1], got.detach(), rtol=0, atol=0)
    assert torch.equal(wide[:, ::2].cpu(), fused[:, ::2])
