"""Kernels are used where numba is there and fits, and compiled once for all processes."""

import sys
import types

import numpy as np
import pytest

from ov2kit.codec.compiled import jit
from tests.fresh import python


@pytest.fixture(autouse=True)
def unknown(monkeypatch):
    """Whether numba is there has not been asked yet."""
    monkeypatch.delenv("OV2KIT_COMPILED", raising=False)
    jit._has_numba.cache_clear()
    yield
    jit._has_numba.cache_clear()


def numba(version):
    module = types.ModuleType("numba")
    module.__version__ = version
    return module


@pytest.mark.parametrize(
    ("version", "is_used"),
    [
        ("0.64.1", False),
        ("0.65.0", True),
        ("0.65.0rc1", True),
        ("1.0rc1", True),
        ("0.100.0dev0+7.gab", True),
        ("0+unknown", False),
    ],
)
def test_versions(monkeypatch, version, is_used):
    monkeypatch.setitem(sys.modules, "numba", numba(version))
    assert jit.uses_kernels() == is_used


def test_they_can_be_switched_off(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", numba("0.65.0"))
    monkeypatch.setenv("OV2KIT_COMPILED", "0")
    assert not jit.uses_kernels()
    monkeypatch.setenv("OV2KIT_COMPILED", "1")
    assert jit.uses_kernels()


def test_without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not jit.uses_kernels()


@pytest.mark.parametrize("kind", ["ImportError", "OSError"])
def test_a_numba_that_cannot_be_loaded_is_said(monkeypatch, tmp_path, kind):
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    (tmp_path / "numba.py").write_text(f"raise {kind}('Numba needs NumPy 2.2 or less. Got NumPy 2.4.')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match=r"Numba needs NumPy 2\.2 or less.*OV2KIT_COMPILED=0"):
        assert not jit.uses_kernels()
    assert not jit.uses_kernels()  # and said once


def test_a_kernel_that_cannot_be_kept_on_disk_is_compiled():
    numba = pytest.importorskip("numba", reason="needs numba: pip install 'ov2kit[fast]'")
    names = {}
    exec("def add(a, b):\n    return a + b", names)  # of no file
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(names["add"])
    assert jit.kernel(names["add"])(np.int32(2), np.int32(3)) == 5


def test_numba_is_not_loaded_before_a_kernel_is_used():
    pytest.importorskip("numba", reason="needs numba: pip install 'ov2kit[fast]'")
    code = "import sys, ov2kit.codec; ov2kit.codec.CodecTokenizer(); print('numba' in sys.modules)"
    assert python(code).stdout.strip() == "False"
