"""Packages of attention kernels beside the torch they were built for, and beside others."""

import importlib
import json
import re
import sys
import tomllib
import types
from importlib import metadata

import pytest
import torch

from ov2kit import Segments, doctor
from ov2kit.encoders import attention_backends
from ov2kit.encoders.backends import varlen, xformers
from ov2kit.encoders.backends.pairs import misfit, misfits
from tests.paths import ROOT


@pytest.mark.parametrize(
    ("built", "here", "newer_torch", "want"),
    [
        # Seen by loading them (benchmarks/gpu_libraries.py): xformers beside torch 2.10, and both beside 2.15;
        # the other rows are what the packages say of themselves.
        (("2.10.0", "12.8"), ("2.10.0", "12.8"), False, None),
        (("2.10.0", "12.8"), ("2.15.0", "13.2"), True, r"torch 2\.15\.0 with CUDA 13\.2 is too new for xformers 1"),
        (("2.11", "13"), ("2.15.0", "13.2"), False, r"torch 2\.15\.0 with CUDA 13\.2 is too new for xformers 1"),
        (("2.10.0", "12.8"), ("2.9.1", "12.8"), True, r"xformers 1 is too new for torch 2\.9\.1 with CUDA 12\.8"),
        (("2.11", "13"), ("2.11.0", "12.8"), True, r"xformers 1 is too new for torch 2\.11\.0 with CUDA 12\.8"),
        (("2.9.1", "12.8"), ("2.10.0", "12.8"), False, r"torch 2\.10\.0 .*is too new for xformers 1"),
        (("2.10.0", "12.8"), ("2.12.0", "12.9"), True, None),  # its metadata takes newer torch
        (("2.10.0", "12.8"), ("2.13.0", None), True, r"torch 2\.13\.0 without CUDA cannot run kernels"),
    ],
)
def test_which_of_the_two_is_too_new(built, here, newer_torch, want):
    why = misfit("xformers", "1", built, here, newer_torch=newer_torch)
    assert (why is None) == (want is None)
    assert want is None or re.match(want, why)
    if want and here[1]:
        assert "constraints-gpu.txt" in why


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Put a distribution on the path with the files that the real one has."""

    def install(name, version, requires, files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))

    for module in [name for name in sys.modules if name.partition(".")[0] in ("xformers", "mslk")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "mslk", None)  # as if it was not installed, which a test may change
    monkeypatch.setattr(torch, "__version__", "2.15.0+cu132")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    xformers._kernels.cache_clear()
    yield install
    xformers._kernels.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("xformers", "mslk")]:
        del sys.modules[name]


XFORMERS_35 = {"version": {"cuda": 1208, "hip": None, "torch": "2.10.0+cu128", "python": "3.10.19"}}


def test_doctor_says_so_and_why_auto_passes_it_over(installed):
    installed(
        "xformers",
        "0.0.35",
        "torch>=2.10",
        {
            "xformers/__init__.py": "",
            "xformers/cpp_lib.json": json.dumps(XFORMERS_35),
            "xformers/_cpp_lib.py": "_cpp_library_load_exception = OSError('libcudart.so.12: cannot open')",
            "xformers/ops/__init__.py": "from xformers import _cpp_lib",
            "xformers/ops/fmha/__init__.py": "def memory_efficient_attention(q, k, v, attn_bias=None): return q",
            "xformers/ops/fmha/attn_bias.py": "class BlockDiagonalMask: pass",
        },
    )
    why = misfits()["xformers"]
    assert why.startswith("torch 2.15.0 with CUDA 13.2 is too new for xformers 0.0.35: ")
    assert "built for torch 2.10.0 with CUDA 12.8" in why
    assert why in doctor.render(doctor.examine())
    reasons = attention_backends(torch.empty(4, 2, 16))["xformers"]
    assert any("libcudart.so.12: cannot open" in r and why in r for r in reasons)


def test_mslk_is_known_by_its_version(installed):
    installed("mslk-cuda", "1.1.0", "numpy", {"mslk/__init__.py": ""})
    assert misfits()["mslk-cuda"].startswith("torch 2.15.0 with CUDA 13.2 is too new for mslk-cuda 1.1.0")


def test_auto_passes_over_an_xformers_that_cannot_load(installed, monkeypatch):
    choosing = importlib.import_module("ov2kit.encoders.backends.choose")  # the name is also its function's
    parts = {
        "xformers": types.ModuleType("xformers"),
        "xformers._cpp_lib": types.SimpleNamespace(_cpp_library_load_exception=OSError("libcudart.so.12")),
        "xformers.ops.fmha": types.SimpleNamespace(memory_efficient_attention=lambda q, k, v, attn_bias=None: q),
        "xformers.ops.fmha.attn_bias": types.SimpleNamespace(BlockDiagonalMask=lambda: None),
    }
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)
    for module in (xformers, varlen):  # as if on a GPU on which whatever is called runs
        monkeypatch.setattr(module, "kernel_reasons", lambda q, head_dim_limit: [])
        monkeypatch.setattr(module, "trial", lambda *_: None)
    monkeypatch.setattr(choosing, "_made", {})
    monkeypatch.setattr(varlen, "_kernel", lambda: ImportError("a torch without it"))
    q, mixed = torch.empty(4, 2, 16), Segments.from_lengths([1, 3])
    choice = choosing.choose(q, mixed)
    assert choice.name == "sdpa"
    assert "libcudart.so.12" in choice.passed_over["xformers"][0]
    parts["xformers._cpp_lib"]._cpp_library_load_exception = None
    xformers._kernels.cache_clear()
    choosing._made.clear()
    assert choosing.choose(q, mixed).name == "xformers"


def test_the_published_pair_and_the_extra_fit():
    lines = [line.partition("#")[0].strip() for line in (ROOT / "constraints-gpu.txt").read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    assert {"torch", "xformers"} <= set(pins)
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["gpu"]
    lowest, below = re.fullmatch(r"xformers>=([\d.]+),<([\d.]+)", extra[0]).groups()

    def numbers(version):
        return [int(part) for part in version.split(".")]

    assert numbers(lowest) <= numbers(pins["xformers"]) < numbers(below)
    try:
        here = metadata.version("xformers")
    except metadata.PackageNotFoundError:
        return
    if here == pins["xformers"]:
        assert misfits() == {}
