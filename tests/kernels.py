"""Tests that run twice: by torch and numpy, and by the kernels that numba compiles."""

import pytest

WAYS = ["plain", "compiled"]


def take_way(way, monkeypatch):
    """Go on with kernels or without them."""
    if way == "compiled":
        pytest.importorskip("numba", reason="needs numba: pip install 'ov2kit[fast]'")
    monkeypatch.setenv("OV2KIT_COMPILED", str(int(way == "compiled")))


@pytest.fixture(autouse=True, params=WAYS)
def way(request, monkeypatch):
    """In the room or the module that imports it, each test runs both ways."""
    take_way(request.param, monkeypatch)
    return request.param
