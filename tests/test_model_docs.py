"""The pages on positions and on the encoder do what they say."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["positional.md", "encoders.md"])
def test_code_runs_and_shapes_are_as_written(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    assert len(blocks) >= 2
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
        for line in map(str.strip, block.splitlines()):  # `name = ...  # (2, 3)` and `# each (2, 3)`
            if found := re.match(r"([\w, ]+?) = .*# (?:each )?(\([\d, ]+\))(?!:)", line):
                for name in found[1].split(", "):
                    assert str(tuple(names[name].shape)) == found[2], line
