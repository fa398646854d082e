"""The table on the connectors' page holds; test_docs.py runs the page's code."""

import re

import pytest
import torch

from ov2kit import connectors
from tests.paths import ROOT

PAGE = (ROOT / "docs" / "connectors.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", PAGE, flags=re.MULTILINE)


def test_every_connector_has_a_row():
    assert {name for name, *_ in ROWS} == set(connectors.__all__) - {"Connector"}


@pytest.mark.parametrize(("name", "tokens", "parameters"), ROWS)
def test_table(name, tokens, parameters):
    with torch.device("meta"):
        same_width = name in ("Identity", "TokenMerger", "EVSPruner", "UniquenessPruner")
        module = getattr(connectors, name)(1024, 1024 if same_width else 4096)
    count = sum(p.numel() for p in module.parameters())
    assert (f"{count / 1e6:.1f} M" if count else "0") == parameters.strip()
    for n in (16, 784):
        assert module.tokens_out(n) == eval(tokens, {"n": n, "min": min})
