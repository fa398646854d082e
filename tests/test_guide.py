"""The guide builds without a warning, and its API reference names everything public."""

import importlib
import logging
import re

import pytest

from tests.paths import ROOT

mkdocs = pytest.importorskip("mkdocs", reason="needs mkdocs: pip install 'ov2kit[dev]'")
PACKAGES = ["", ".codec", ".positional", ".encoders", ".connectors", ".recipes", ".recipes.metrics"]


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    """The built pages, and the warnings that building them gave."""
    pytest.importorskip("torchmetrics", reason="needs torchmetrics: pip install 'ov2kit[recipes]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    site = tmp_path_factory.mktemp("guide")
    try:
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(site)))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    return site, warnings


def test_it_builds_without_a_warning(guide):
    assert guide[1] == []


@pytest.mark.parametrize("package", [f"ov2kit{part}" for part in PACKAGES])
def test_the_reference_has_a_section_for_every_public_name(guide, package):
    page = (guide[0] / "reference" / package / "index.html").read_text(encoding="utf-8")
    sections = re.findall(r'<h2[^>]*id="ov2kit\.(?:\w+\.)*(\w+)"', page)
    public = {name for name in importlib.import_module(package).__all__ if not name.startswith("__")}
    assert set(sections) == public
    assert len(sections) == len(public)


def test_pages_and_what_they_link_to_are_there(guide):
    site = guide[0]
    for page in [*(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        assert (site / page.stem.lower() / "index.html").is_file(), page.name
    text = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="saliency/"' in text  # README says docs/saliency.md
    assert (site / "images" / "canvases.jpg").is_file()
    assert (site / "project" / "ov2kit" / "recipes" / "model" / "model.py").is_file()
