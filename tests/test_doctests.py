"""The `>>>` examples of docstrings do what they show, on the bundled clip."""

import doctest
import importlib
import shutil

import pytest
from PIL import Image

from tests.paths import ROOT, SAMPLE

WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "ov2kit").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples(module, tmp_path, monkeypatch):
    if module.startswith("ov2kit.recipes"):
        pytest.importorskip("transformers", reason="needs transformers: pip install 'ov2kit[recipes]'")
    shutil.copy(SAMPLE, tmp_path / "clip.mp4")
    Image.linear_gradient("L").resize((300, 200)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0
