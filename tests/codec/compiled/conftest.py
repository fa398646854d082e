"""Results of both ways, to be compared."""

import pytest

from tests.kernels import WAYS, take_way


@pytest.fixture
def both(monkeypatch):
    """Calls a function in each way."""

    def call(function):
        results = []
        for way in WAYS:
            take_way(way, monkeypatch)
            results.append(function())
        return results

    return call
