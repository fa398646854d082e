"""The connectors' page says what is true: its code runs, its shapes and its table hold."""

import re
from pathlib import Path

import pytest
import torch

from ov2kit import connectors

PAGE = (Path(__file__).parents[1] / "docs" / "connectors.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
ROWS = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", PAGE, flags=re.MULTILINE)
SHAPED = re.compile(r"^(tokens|merged|sizes)(, counts)? = .*# (?:.* -> )?(\([\d, ]+\))(?:, (\([\d, ]+\)))?")


def test_every_connector_has_a_row():
    assert {name for name, *_ in ROWS} == set(connectors.__all__) - {"Connector"}


@pytest.mark.parametrize(("name", "tokens", "parameters"), ROWS)
def test_table(name, tokens, parameters):
    with torch.device("meta"):
        same_width = name in ("Identity", "TokenMerger")
        module = getattr(connectors, name)(1024, 1024 if same_width else 4096)
    count = sum(p.numel() for p in module.parameters())
    assert (f"{count / 1e6:.1f} M" if count else "0") == parameters.strip()
    for n in (16, 784):
        assert module.tokens_out(n) == eval(tokens, {"n": n, "min": min})


def test_code_runs_and_gives_the_shapes_in_its_comments():
    names = {}
    checked = 0
    for block in BLOCKS:
        for line in block.splitlines():
            exec(line, names)  # every line of the page is a statement
            if (found := SHAPED.match(line)) is None:
                continue
            name, has_counts, shape, counts = found.groups()
            assert tuple(names[name].shape) == eval(shape), line
            if has_counts:
                assert names["counts"] == eval(counts), line
            checked += 1
    assert len(BLOCKS) == 8
    assert checked == 11
